"""Entries of a stream, and the tasks that they are."""

from __future__ import annotations

import json

import pytest

from engine.doors.redis.entries import Form
from engine.intake.task_body import ID, decode

FORM = Form("redis://h\0purges\0purgeline\0cms", "task", 1024)
GOOD = b'{"targets": ["http://a/"], "soft": true}'
LONGEST = "18446744073709551615-18446744073709551615"


def body(value: bytes, entry_id: str = "1700000000000-0", form: Form = FORM) -> bytes:
    return form.entry(entry_id, [b"task", value]).body


def test_the_id_of_a_task_is_made_of_where_its_entry_stands_and_of_what_is_in_it() -> None:
    asked = decode(body(GOOD))
    assert asked.id == decode(body(GOOD)).id
    assert (asked.targets, asked.soft) == (["http://a/"], True)
    others = {
        decode(body(GOOD, "1700000000000-1")).id,
        decode(body(GOOD.replace(b"a/", b"b/"))).id,
        decode(body(GOOD, form=Form("redis://h\0other\0purgeline\0cms", "task", 1024))).id,
    }
    assert asked.id not in others
    assert len(others) == 3


def test_the_longest_id_is_one_that_a_task_may_have() -> None:
    made = decode(body(GOOD, LONGEST)).id
    assert made is not None
    assert ID.fullmatch(made)


@pytest.mark.parametrize("given", ["null", '"release-7"'])
def test_an_id_of_the_publisher_is_left_to_it_and_none_is_made_one(given: str) -> None:
    """Without an id the same entry would be two tasks when it is delivered again."""
    made = decode(body(b'{"targets": ["http://a/"], "id": %s}' % given.encode())).id
    assert made == "release-7" if given != "null" else made is not None


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"1", b'{"targets": [}', b"\xff", b'{"a": 1} x'])
def test_what_is_no_object_goes_to_the_intake_as_it_is(value: bytes) -> None:
    """That refuses it, and says why."""
    assert body(value) == value


def test_an_entry_without_the_field_is_at_fault_and_shown() -> None:
    entry = FORM.entry("1-0", [b"body", GOOD, b"\xff", b"\xfe"])
    assert entry.fault == "field 'task' is missing; the entry has: body, \\xff"
    assert json.loads(entry.text) == {"body": GOOD.decode(), "\\xff": "\\xfe"}


def test_other_fields_are_not_looked_at() -> None:
    assert FORM.entry("1-0", [b"traceparent", b"00", b"task", GOOD]).body == body(GOOD, "1-0")


def test_entries_that_have_been_deleted_and_answers_without_any() -> None:
    assert FORM.entries(None) == []
    [deleted, kept] = FORM.entries([[b"5-1", None], None, [b"6-0", [b"task", GOOD]]])
    assert (deleted.is_deleted, deleted.at_ms, kept.is_deleted, kept.at_ms) == (True, 5, False, 6)


def test_a_body_that_is_too_long_is_not_read() -> None:
    """The stream says why it is refused; to read it would hold everything up."""
    value = b'{"targets": ["http://a/%b"]}' % (b"x" * 1024)
    assert body(value) == value


def test_little_is_shown_of_an_entry_without_the_field() -> None:
    entry = FORM.entry("1-0", [b"body", b"\xff" * 1_000_000, b"more", b"x" * 1000])
    assert len(entry.text) < 200_000
    assert list(json.loads(entry.text)) == ["body"]

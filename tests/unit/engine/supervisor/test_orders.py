"""The lines between supervisor and worker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.supervisor.orders import READ_BYTES, counts, events, order, texts


def test_an_order_is_one_json_line() -> None:
    line = order("drain", limit_s=5.0)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"cmd": "drain", "limit_s": 5.0}


def test_events_come_whole_however_they_are_cut() -> None:
    stream = b'{"event": "accepting"}\n{"event": "health", "requests": 1}\n'
    told, unread = [], b""
    for at in range(len(stream)):
        some, unread = events(unread, stream[at : at + 1])
        told += some
    assert told == [{"event": "accepting"}, {"event": "health", "requests": 1}]
    assert unread == b""


def test_what_is_no_object_is_passed_over() -> None:
    told, unread = events(b"", b'nonsense\n7\n[]\n\xff\n\n{"event": "health"}\n{"ev')
    assert told == [{"event": "health"}]
    assert unread == b'{"ev'


def test_a_line_without_an_end_does_not_grow_for_ever() -> None:
    unread = b""
    for _ in range(3):
        _, unread = events(unread, b"x" * READ_BYTES)
    assert len(unread) == READ_BYTES


def test_a_line_that_is_nested_without_end_is_passed_over() -> None:
    assert events(b"", b"[" * 100_000 + b'\n{"event": "health"}\n') == ([{"event": "health"}], b"")


def test_a_field_of_sentences_is_empty_where_it_is_none() -> None:
    assert texts({"stale": {"e1": "kept"}}, "stale") == {"e1": "kept"}
    assert texts({}, "stale") == texts({"stale": ["e1"]}, "stale") == {}


@pytest.mark.parametrize("requests", [None, "5", 5.0, -1, True, float("inf"), float("nan"), [5], {}])
def test_a_number_of_another_version_is_none(requests: Any) -> None:
    assert counts({"requests": requests, "errors_5xx": 1}, "requests", "errors_5xx") is None
    assert counts({"requests": 5, "errors_5xx": 1, "more": requests}, "requests", "errors_5xx") == [5, 1]
    assert counts({"requests": 5}, "requests", "errors_5xx") is None

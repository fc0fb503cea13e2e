"""Media types and conditions of the CDNI door."""

from __future__ import annotations

import pytest

from engine.doors.cdni.media import COLLECTION, STATUS, check_accept, check_content_type, is_named, tag_of
from engine.errors import RequestError


@pytest.mark.parametrize(
    ("accept", "is_taken"),
    [
        (None, True),
        ("", True),
        ("*/*", True),
        ("application/*;q=0.1", True),
        ("text/html, application/cdni", True),
        ("application/cdni; ptype=ci-trigger-status", True),
        ('APPLICATION/CDNI;PTYPE="ci-trigger-status";q=0.5', True),
        ("application/cdni; ptype=ci-trigger-collection", False),
        ("application/cdni;q=0, */*", False),
        ("*/*;q=0", False),
        ("application/json", False),
        ("application/cdni;q=x", False),
        (",,,", False),
    ],
)
def test_what_a_client_takes(accept: str | None, is_taken: bool) -> None:
    if is_taken:
        check_accept(accept, STATUS)
        return
    with pytest.raises(RequestError) as caught:
        check_accept(accept, STATUS)
    assert caught.value.status == 406


def test_a_collection_is_no_status() -> None:
    check_accept("application/cdni; ptype=ci-trigger-collection", COLLECTION)


@pytest.mark.parametrize(
    "value",
    [None, "", "application/cdni", "application/json", "application/cdni; ptype=ci-trigger-status", ";"],
)
def test_only_commands_are_taken(value: str | None) -> None:
    with pytest.raises(RequestError, match="ci-trigger-command") as caught:
        check_content_type(value)
    assert caught.value.status == 415


def test_tags_are_of_the_body() -> None:
    tag = tag_of(b"a")
    assert tag == tag_of(b"a") != tag_of(b"b")
    for field, is_ours in ((tag, True), (f'"x", W/{tag}', True), ("*", True), ('"x"', False), ("", False)):
        assert is_named(field, tag) is is_ours

"""Cursors of a listing: what a page gives is what the next one takes, and nothing else is."""

from __future__ import annotations

import math

import pytest

from engine.api import cursors
from engine.errors import RequestError


def test_the_first_page_begins_with_the_newest_of_the_first() -> None:
    assert cursors.parse_in_memory("") == (math.inf, "")
    assert cursors.parse_stored("") == (0, cursors.NO_ROW)
    assert cursors.parse_of_worker("") == (0, "")


def test_what_a_page_gives_the_next_one_takes() -> None:
    assert cursors.parse_in_memory(cursors.in_memory(1.25, "a~b")) == (1.25, "a~b")
    assert cursors.parse_stored(cursors.stored(3, 17).removeprefix(cursors.STORED)) == (3, 17)
    assert cursors.parse_of_worker(cursors.of_worker(2, "s0.5")) == (2, "s0.5")
    assert cursors.parse_of_worker(cursors.of_worker(2, cursors.in_memory(1.5, "t:1"))) == (2, "1.5~t:1")


@pytest.mark.parametrize("cursor", ["nan~a", "inf~a", "soon", "~", "1.0.0~a"])
def test_no_time_is_refused(cursor: str) -> None:
    with pytest.raises(RequestError, match="takes the cursor of the page before") as caught:
        cursors.parse_in_memory(cursor)
    assert (caught.value.status, caught.value.field) == (422, "cursor")


@pytest.mark.parametrize("cursor", ["1", "a.1", "1.a", "-1.1", "1.-1", f"0.{2**62 + 1}", "1." + "1" * 80])
def test_no_place_in_a_store_is_refused(cursor: str) -> None:
    with pytest.raises(RequestError):
        cursors.parse_stored(cursor)


@pytest.mark.parametrize("cursor", ["x1:", "w:", "wa:", "s0.1", "w0:" + "1" * 200])
def test_no_worker_is_refused(cursor: str) -> None:
    with pytest.raises(RequestError):
        cursors.parse_of_worker(cursor)

"""Cursors of a listing: what a page gives is what the next one takes, and nothing else is."""

from __future__ import annotations

import math

import pytest

from engine.api import cursors
from engine.errors import RequestError
from engine.history.question import read_cursor, write_cursor
from engine.tasks.records import FIRST_PAGE, PageStart


def test_the_first_page_begins_with_the_newest_of_the_first() -> None:
    assert read_cursor("") == (math.inf, "")
    assert cursors.parse_stored("") == (0, FIRST_PAGE)
    assert cursors.parse_of_worker("") == (0, "")


def test_what_a_page_gives_the_next_one_takes() -> None:
    assert read_cursor(write_cursor(1.25, "a~b")) == (1.25, "a~b")
    for start in (PageStart(17), PageStart(17, "a.b-C_" + "9" * 58), PageStart(2**62, "t")):
        assert cursors.parse_stored(cursors.stored(3, start).removeprefix(cursors.STORED)) == (3, start)
    assert cursors.parse_of_worker(cursors.of_worker(2, "s0.5")) == (2, "s0.5")
    assert cursors.parse_of_worker(cursors.of_worker(2, write_cursor(1.5, "t:1"))) == (2, "1.5~t:1")


@pytest.mark.parametrize("cursor", ["nan~a", "inf~a", "soon", "~", "1.0.0~a"])
def test_no_time_is_refused(cursor: str) -> None:
    with pytest.raises(RequestError, match="takes the cursor of the page before") as caught:
        read_cursor(cursor)
    assert (caught.value.status, caught.value.field) == (422, "cursor")


@pytest.mark.parametrize("cursor", ["1", "a.1", "1.a", "-1.1", "1.-1", f"0.{2**62 + 1}", "1." + "1" * 95])
def test_no_row_of_a_store_is_refused(cursor: str) -> None:
    with pytest.raises(RequestError):
        cursors.parse_stored(cursor)


@pytest.mark.parametrize("cursor", ["1.5~", "1.5~a b", "1.5~~b", "1.~a", "1.5~" + "a" * 65])
def test_no_task_of_a_row_is_refused(cursor: str) -> None:
    with pytest.raises(RequestError):
        cursors.parse_stored(cursor)


def test_a_cursor_of_the_version_before_is_taken() -> None:
    assert cursors.parse_stored("0.1764454000123456007") == (0, PageStart(1764454000123456007))


@pytest.mark.parametrize("cursor", ["x1:", "w:", "wa:", "s0.1", "w0:" + "1" * 200])
def test_no_worker_is_refused(cursor: str) -> None:
    with pytest.raises(RequestError):
        cursors.parse_of_worker(cursor)

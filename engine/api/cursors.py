"""Cursors of a listing: where the next page begins. Pure.

=====================  ==========================================================================
``CREATED~ID``         in memory, after the task of that id, which was created then, as in the history
``sNUMBER.BEFORE``     in the store of a saver, before that row; ``s`` alone is the first store
``sNUMBER.ROW~ID``     the same, among the tasks of that row behind the task of that id
``wPLACE:CURSOR``      of several workers the one at that place, with its own cursor
=====================  ==========================================================================
"""

from __future__ import annotations

from typing import Final

from engine.errors import RequestError
from engine.intake.task_body import ID
from engine.tasks.records import FIRST_PAGE, PageStart

STORED: Final = "s"  #: begins the cursor of a page that begins in a store
_WORKER: Final = "w"
_CURSOR_MAX: Final = 96


def bad_cursor() -> RequestError:
    """Return the 422 for a cursor that no page has given."""
    return RequestError(422, "cursor: takes the cursor of the page before", field="cursor")


def parse_stored(cursor: str) -> tuple[int, PageStart]:
    """Return the saver's number, and where in its store the page begins.

    Args:
        cursor: without its ``s``.

    Raises:
        RequestError: 422.
    """
    if not cursor:
        return 0, FIRST_PAGE
    number, _, place = cursor.partition(".")
    row, tie, task_id = place.partition("~")
    if not (
        len(cursor) <= _CURSOR_MAX
        and number.isdecimal()
        and row.isdecimal()
        and int(row) <= FIRST_PAGE.row
        and (ID.fullmatch(task_id) if tie else True)
    ):
        raise bad_cursor()
    return int(number), PageStart(int(row), task_id)


def stored(number: int, place: PageStart) -> str:
    """Return the cursor of a page that begins in the store of saver *number*, at *place*."""
    tie = f"~{place.task_id}" if place.task_id else ""
    return f"{STORED}{number}.{place.row}{tie}"


def parse_of_worker(cursor: str) -> tuple[int, str]:
    """Return the place of a worker among all, and the cursor that is its own.

    Raises:
        RequestError: 422.
    """
    if not cursor:
        return 0, ""
    place, _, own = cursor[1:].partition(":")
    if cursor[0] != _WORKER or not place.isdecimal() or len(cursor) > 2 * _CURSOR_MAX:
        raise bad_cursor()
    return int(place), own


def of_worker(place: int, own: str) -> str:
    """Return the cursor of a page of the worker at *place*."""
    return f"{_WORKER}{place}:{own}"

"""Pages of several workers, put together."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.api.history import _merged, why_incomplete
from engine.api.history_page import HistoryPage
from engine.history.entries import HistoryTask
from engine.history.question import write_cursor
from engine.tasks.records import By


def task(name: str, at: float, state: str = "done", updated_at: float = 10.0) -> HistoryTask:
    return HistoryTask(
        *(name, "purge", "url", False, False, state, By(), 1, ["http://a/"], None, None, True),
        *(at, updated_at, 1, 1, 0, 0, 0, 0, [], []),
    )


def page(*tasks: tuple[Any, ...], cursor: str | None = None, **more: Any) -> bytes:
    return msgspec.json.encode(HistoryPage([task(*one) for one in tasks], cursor, **more))


def merged(*pages: bytes, limit: int = 3) -> tuple[list[str], str | None]:
    found = msgspec.json.decode(_merged(pages, limit), type=HistoryPage)
    return [one.task_id for one in found.tasks], found.cursor


def test_the_newest_of_all_come_first_and_the_cursor_goes_on_behind_the_last() -> None:
    first, second = page(("a", 9.0), ("b", 5.0)), page(("c", 7.0), ("d", 3.0))
    assert merged(first, second) == (["a", "c", "b"], write_cursor(5.0, "b"))
    assert merged(first, second, limit=4) == (["a", "c", "b", "d"], None)


def test_what_one_has_not_looked_at_is_not_passed_over() -> None:
    """A worker whose page is full, or that took long, has more that is newer than what another shows."""
    full = page(("a", 9.0), ("b", 8.0), cursor=write_cursor(8.0, "b"))
    assert merged(full, page(("c", 8.5), ("d", 2.0)), limit=9) == (["a", "c", "b"], write_cursor(8.0, "b"))
    slow = page(cursor=write_cursor(6.0, "~"))
    assert merged(slow, page(("c", 8.5), ("d", 2.0)), limit=9) == (["c"], write_cursor(6.0, "~"))


def test_two_workers_of_one_slot_show_a_task_once() -> None:
    assert merged(page(("a", 9.0)), page(("a", 9.0)))[0] == ["a"]


def test_a_task_that_settled_meanwhile_is_shown_as_it_is_now() -> None:
    running, done = page(("a", 9.0, "running", 9.0)), page(("a", 9.0, "done", 9.5))
    for pages in ([running, done], [done, running]):
        assert msgspec.json.decode(_merged(pages, 3))["tasks"][0]["state"] == "done"


def test_what_is_missing_at_one_is_said() -> None:
    text = _merged([page(("a", 9.0)), page(incomplete="a worker of this engine does not answer")], 3)
    assert msgspec.json.decode(text)["incomplete"] == "a worker of this engine does not answer"


def test_of_pages_that_follow_each_other_any_may_say_that_something_is_missing() -> None:
    whole, more = HistoryPage([], None), HistoryPage([], write_cursor(5.0, "b"))
    damaged = HistoryPage([], None, "history-0.db was damaged")
    assert why_incomplete([whole]) == ""
    assert why_incomplete([more, whole]) == ""
    assert why_incomplete([whole, more]) == "older ones were not looked for"
    assert why_incomplete([damaged, whole]) == why_incomplete([damaged, more]) == "history-0.db was damaged"

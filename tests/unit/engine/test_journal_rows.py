"""Journal rows go with their last task."""

from __future__ import annotations

from engine.delivery.journal_rows import JournalRows
from engine.tasks.task import Task


def task(name: str) -> Task:
    return Task.internal([], owner=None, task_id=name)


def test_the_last_task_of_a_row_takes_it_along() -> None:
    rows = JournalRows(lambda task_id: "saver")
    first, second = task("a"), task("b")
    rows.enter(first, 7)
    rows.enter(second, 7)
    assert rows.leave(first) is None
    assert rows.has(7)
    assert rows.leave(second) == 7
    assert not rows.has(7)
    assert rows.at_work() == []


def test_a_task_leaves_once() -> None:
    rows = JournalRows(lambda task_id: "saver")
    only = task("a")
    rows.enter(only, 7)
    assert rows.leave(only) == 7
    assert rows.leave(only) is None


def test_a_task_that_is_in_no_row_leaves_none() -> None:
    assert JournalRows(lambda task_id: "saver").leave(task("a")) is None


def test_savers_number_their_rows_on_their_own() -> None:
    rows = JournalRows(lambda task_id: task_id[0])
    first, second = task("a1"), task("b1")
    rows.enter(first, 7)
    rows.enter(second, 7)
    assert rows.at_work() == [7, 7]
    assert rows.leave(first) == 7
    assert rows.has(7)

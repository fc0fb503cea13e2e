"""Subtasks that become rows of delay queues, and purges that go out early all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.delivery.kept_rows import KeptRows
from engine.delivery.parking import Parking, behind_parents, token_of
from engine.observe.counters import Stats
from engine.tasks.task import Share, Task
from engine.tasks.words import ACKED, BLOCKED, DELAYED, Operation
from tests.fakes.shares import NotingNode

if TYPE_CHECKING:
    from engine.tasks.records import Parked

TARGETS = ["http://a.com/0", "http://a.com/1", "http://a.com/2"]


class Rows:
    """Notes what is done to the delay queues."""

    def __init__(self) -> None:
        self.parked: list[tuple[str, list[Parked]]] = []
        self.unparked: list[tuple[str, dict[str, int]]] = []
        self.counted: list[Parked] = []

    def park(self, node: str, task_id: str, rows: list[Parked]) -> None:
        self.parked.append((node, rows))

    def unpark(self, task_id: str, counts: dict[str, int]) -> None:
        self.unparked.append((task_id, counts))

    def written(self, rows: list[Parked]) -> None:
        self.counted += rows


def share(name: str = "edge-1", operation: Operation = Operation.PURGE_URL) -> Share:
    task = Task.internal(TARGETS, owner=None, task_id="t")
    return Share(task, NotingNode(name), operation, len(TARGETS))


def make(*, is_shared: bool = False) -> tuple[Parking, Rows, Stats]:
    rows, stats = Rows(), Stats()
    return Parking(rows, stats, KeptRows(), now=lambda: 0.0, is_shared=is_shared), rows, stats


def test_parked_subtasks_are_rows_at_once_and_the_task_says_why() -> None:
    parking, rows, stats = make()
    parked = share()
    parking.park(parked, [0, 2], "unreachable")
    [(node, written)] = rows.parked
    assert node == "edge-1"
    assert [row.target for row in written] == [TARGETS[0], TARGETS[2]]
    assert list(parked.states) == [DELAYED, BLOCKED, DELAYED]
    assert (parked.delayed_count, stats.subtasks_delayed) == (2, 2)
    parking.park(parked, [1], "unreachable")
    assert [(error["target"], error["reason"]) for error in parked.task.errors] == [
        (TARGETS[0], "unreachable")
    ]


def test_what_goes_wrong_by_itself_is_told_of_each_target() -> None:
    parking, _, _ = make()
    parked = share()
    for index, reason in enumerate(("answered 500", "answered 503")):
        parking.park(parked, [index], reason, tells_each=True)
    assert [(error["target"], error["reason"]) for error in parked.task.errors] == [
        (TARGETS[0], "answered 500"),
        (TARGETS[1], "answered 503"),
    ]


def test_rows_of_a_shared_store_wait_for_their_tasks_document() -> None:
    parking, rows, _ = make(is_shared=True)
    parked = share()
    parking.park(parked, [0], "no answer")
    parking.park(parked, [1], "no answer")
    assert rows.parked == []
    assert [row.target for row in parked.task.parked or ()] == TARGETS[:2]
    parking.written(parked.task)
    assert rows.counted == parked.task.parked


@pytest.mark.parametrize("is_shared", [False, True])
def test_rows_of_a_cancelled_task_are_taken_back(*, is_shared: bool) -> None:
    parking, rows, _ = make(is_shared=is_shared)
    parked = share()
    parking.park(parked, [0], "no answer")
    parking.take_back(parked.task, {"edge-1": 1})
    assert parked.task.parked is None
    assert rows.unparked == ([] if is_shared else [("t", {"edge-1": 1})])


def test_targets_wait_for_exactly_the_parents_that_are_delayed_for_them() -> None:
    parent, other = share("parent-1"), share("parent-2", Operation.PREFETCH)
    parent.states[:] = bytes([DELAYED, DELAYED, ACKED])
    other.states[:] = bytes([DELAYED, ACKED, ACKED])
    assert behind_parents([0, 1, 2], [parent, other]) == (
        [2],
        {"parent-1,parent-2:f": [0], "parent-1": [1]},
    )
    assert (token_of(parent), token_of(other)) == ("parent-1", "parent-2:f")

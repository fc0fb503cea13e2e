"""Which rows that tasks at work keep hold a node back from being ready."""

from __future__ import annotations

from typing import Any

import pytest

from engine.delivery.kept_rows import KeptRows
from engine.nodes.health import NodeState
from engine.tasks.records import Parked
from engine.tasks.task import Task
from engine.tasks.words import Operation

PURGE, PREFETCH = int(Operation.PURGE_URL), int(Operation.PREFETCH)


class Node:
    """A node that waits with, or holds, one URL each."""

    name = "edge-1"
    state = NodeState.RETURNING

    def __init__(self) -> None:
        self.postponed = self.holds = self

    def is_waiting(self, operation: int, target: str) -> bool:
        return target == "http://waiting/"

    def is_held(self, operation: int, target: str) -> bool:
        return target == "http://held/"


def kept(*rows: Parked) -> tuple[KeptRows, Any, Any]:
    task = Task.internal([], owner=None, task_id="t")
    task.parked = list(rows)
    keeper: Any = KeptRows()
    for row in rows:
        keeper.keep(row.node, task, [row])
    return keeper, task, Node()


def row(target: str = "http://a/", operation: int = PURGE, after: str = "", node: str = "edge-1") -> Parked:
    return Parked(node, operation, target, "t", after, 0.0)


async def test_a_purge_that_could_be_sent_holds_it_back_until_its_task_lets_go() -> None:
    keeper, task, node = kept(row("http://held/"), row(node="edge-2"), row())
    assert await keeper.has_for(node)
    keeper.let_go(task)
    assert not await keeper.has_for(node)


async def test_what_other_engines_keep_holds_it_back() -> None:
    keeper, _, node = kept()

    async def elsewhere(asked: Any) -> bool:
        return asked is node

    keeper.elsewhere = elsewhere
    assert await keeper.has_for(node)


def test_others_are_told_of_the_oldest_task_that_keeps_rows_of_a_node_that_is_not_ready() -> None:
    news: list[str] = []
    keeper = KeptRows()
    keeper.on_first = lambda: news.append("first")
    for rows in ([row("http://held/")], [row(), row(node="gone")], [row()]):
        task = Task.internal([], owner=None, task_id="t")
        task.parked = rows
        for one in rows:
            keeper.keep(one.node, task, [one])
    node: Any = Node()
    assert news == ["first", "first"]
    assert (keeper.count, keeper.told({"edge-1": node})) == (4, {"edge-1": 2, "gone": 3})
    node.state = NodeState.READY
    assert keeper.told({"edge-1": node}) == {"gone": 3}


@pytest.mark.parametrize(
    "other",
    [
        row("http://waiting/"),
        row("http://held/"),
        row(operation=PREFETCH),
        row(after="p"),
        row(node="edge-2"),
    ],
)
async def test_what_would_not_be_sent_does_not(other: Parked) -> None:
    keeper, _, node = kept(other)
    assert not await keeper.has_for(node)


def test_rows_that_wait_for_more_than_their_node_are_not_looked_through_with_each_beat() -> None:
    keeper, task, _ = kept(row(after="p"), row(operation=PREFETCH))
    assert (keeper.count, keeper.told({})) == (0, {})
    keeper.keep("edge-1", task, [row("http://b/")])
    assert (keeper.count, keeper.told({})) == (1, {"edge-1": 1})

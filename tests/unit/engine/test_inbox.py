"""Tasks are expanded in their order, some in each turn of the loop."""

from __future__ import annotations

import asyncio

from engine.delivery.inbox import Inbox
from engine.tasks.task import Task


class Bench:
    """An inbox, and what was expanded in which turn."""

    def __init__(self) -> None:
        self.expanded: list[str] = []
        self.before: set[str] = set()  #: expanded by somebody else
        self.inbox = Inbox(asyncio.get_running_loop(), self._expand)

    def _expand(self, task: Task) -> bool:
        if task.id in self.before:
            return False
        self.expanded.append(task.id)
        return True

    def put(self, name: str, total: int = 1) -> None:
        task = Task.internal([], owner=None, task_id=name)
        task.total = total
        self.inbox.put(task)


async def test_a_task_is_expanded_in_the_next_turn() -> None:
    bench = Bench()
    bench.put("a")
    bench.put("b")
    assert len(bench.inbox) == 2
    await asyncio.sleep(0)
    assert bench.expanded == ["a", "b"]
    assert not len(bench.inbox)


async def test_a_large_batch_takes_several_turns() -> None:
    bench = Bench()
    for name in ("a", "b", "c"):
        bench.put(name, 15_000)
    await asyncio.sleep(0)
    assert bench.expanded == ["a", "b"]
    await asyncio.sleep(0)
    assert bench.expanded == ["a", "b", "c"]


async def test_what_was_expanded_before_costs_nothing() -> None:
    bench = Bench()
    bench.before = {"a", "b"}
    for name in ("a", "b", "c"):
        bench.put(name, 20_000)
    await asyncio.sleep(0)
    assert bench.expanded == ["c"]


async def test_a_stopped_inbox_ends_with_the_turn_under_way() -> None:
    bench = Bench()
    bench.put("a", 30_000)
    bench.put("b")
    bench.inbox.stop()
    for _ in range(3):
        await asyncio.sleep(0)
    assert bench.expanded == ["a"]
    assert len(bench.inbox) == 1

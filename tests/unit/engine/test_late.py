"""Results of late delivery: told to tasks in memory, written for those in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.delivery.late import LateResults
from engine.observe.counters import Stats
from engine.tasks.records import ParkedRow, packed
from engine.tasks.region import RegionMap
from engine.tasks.task import Share, Task
from engine.tasks.words import Operation
from tests.fakes.shares import NotingNode

if TYPE_CHECKING:
    from engine.tasks.records import Delivered

TARGET = "http://a.com/"


def row(task_id: str, key: int = 1) -> ParkedRow:
    return ParkedRow(key, key, "edge-1", int(Operation.PURGE_URL), TARGET, task_id, "", 0.0)


class World:
    """One node, a task in memory with a share on it, and what is told and written."""

    def __init__(self, *, is_shared: bool = False) -> None:
        self.regions = RegionMap(4)
        self.stats = Stats()
        self.node: Any = NotingNode()
        self.told: list[tuple[str, str]] = []
        self.written: list[Delivered] = []
        self.unfolded: list[int] = []
        self.task = Task.internal([TARGET], owner=None, task_id="here")
        self.task.shares = [Share(self.task, self.node, Operation.PURGE_URL, 1)]
        self.regions.add(self.task)
        world: Any = self
        self.late = LateResults(self.regions, world, world, self.stats, reader=world, is_shared=is_shared)
        self.behind: list[ParkedRow] = []
        self.store = world

    def settle_late(self, share: Share, index: int, reason: str, *, is_absent: bool = False) -> None:
        self.told.append((share.task.id, "absent" if is_absent else reason))

    async def read(self, function: Any, *args: object) -> Any:
        return function(*args)

    def prefetches_behind(self, node: str, purges: list[tuple[str, str]]) -> list[ParkedRow]:
        return [row for row in self.behind if (row.task_id, row.target) in purges]

    async def drop(self, saver: object, name: str, delivered: list[Delivered]) -> None:
        self.unfolded.append(self.late.unfolded)
        self.written += delivered


async def test_a_task_in_memory_is_told_and_its_document_left_alone() -> None:
    world = World()
    saver: Any = world
    failed = [(row("stored", 2), "answered 400")]
    assert await world.late.fold(world.node, saver, [row("here")], failed)
    assert world.told == [("here", "")]
    assert [(one.row.task_id, one.reason, one.is_told) for one in world.written] == [
        ("here", "", True),
        ("stored", "answered 400", False),
    ]
    assert (world.unfolded, world.late.unfolded, world.stats.subtasks_redelivered) == ([2], 0, 2)


async def test_a_row_that_two_requests_settled_is_written_once() -> None:
    world = World()
    saver: Any = world
    await world.late.fold(world.node, saver, [row("here"), row("here")], [(row("here"), "answered 400")])
    assert (len(world.written), world.told) == (1, [("here", "")])


@pytest.mark.parametrize("case", ["shared store", "not committed"])
async def test_a_task_that_does_not_own_its_rows_is_not_told(case: str) -> None:
    world = World(is_shared=case == "shared store")
    if case == "not committed":
        world.task.waiters = []
    saver: Any = None
    await world.late.fold(world.node, saver, [row("here")], [])
    assert (world.told, [one.is_told for one in world.written]) == ([], [False])


async def test_nothing_is_written_of_nothing() -> None:
    world = World()
    saver: Any = None
    assert not await world.late.fold(world.node, saver, [], [])
    assert world.unfolded == []


async def test_a_prefetch_behind_a_failed_purge_fails_with_it_and_one_behind_an_acked_one_does_not() -> None:
    world = World()
    fetch = ParkedRow(9, 9, "edge-1", int(Operation.PREFETCH), TARGET, "failed", "edge-1", 0.0)
    other = ParkedRow(8, 8, "edge-1", int(Operation.PREFETCH), TARGET, "acked", "edge-1", 0.0)
    world.behind = [fetch, other]
    saver: Any = world
    await world.late.fold(world.node, saver, [row("acked", 2)], [(row("failed", 3), "answered 400")])
    assert [(one.row.key, one.reason) for one in world.written] == [
        (2, ""),
        (3, "answered 400"),
        (9, "not prefetched, because its purge failed"),
    ]


async def test_what_the_cache_had_nothing_of_is_told_so() -> None:
    world = World()
    saver: Any = world
    rows = [row("here"), row("stored", 2), row("other", 3)]
    await world.late.fold(world.node, saver, rows, [(row("failed", 4), "answered 400")], absent={1, 2, 4})
    assert world.told == [("here", "absent")]
    assert [(one.row.task_id, one.is_absent) for one in world.written] == [
        ("here", True),
        ("stored", True),
        ("other", False),
        ("failed", False),
    ]


async def test_a_host_wide_row_settles_all_that_it_stands_for() -> None:
    world = World()
    pairs = [(int(Operation.PURGE_URL), TARGET), (int(Operation.PURGE_URL), "http://a.com/2")]
    host = ParkedRow("h1", 1, "edge-1", int(Operation.PURGE_HOST), "a.com", "gone", "", 0.0, packed(pairs))
    saver: Any = world
    await world.late.fold(world.node, saver, [host], [])
    assert [(one.row.key, one.row.target) for one in world.written] == [
        ("h1", pairs[0][1]),
        ("h1", pairs[1][1]),
    ]
    await world.late.fail("edge-1", saver, [host], "gone", layer="edge")
    assert [one.reason for one in world.written[2:]] == ["gone", "gone"]

"""Rows of nodes that are not configured any more: they wait, are told, and fail in the end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from engine.delivery.gone import GoneNodes
from engine.tasks.records import LastSeen, ParkedRow, Sighting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class World:
    """A store, its saver, the delay queues, and who is told."""

    error = None

    def __init__(self, *, gone_after_s: float = 3600, is_shared: bool = False) -> None:
        world: Any = self
        self.rows = {"e1": 1, "old": 3}
        self.seen: dict[str, LastSeen] = {}
        self.sightings: list[Sighting] = []
        self.failed: list[tuple[str, int, str, str]] = []
        self.alerts: list[tuple[str, str]] = []
        self.reasons: list[tuple[int, str]] = []
        self.released = 0
        self.is_held = False
        self.store = self
        self.gone = GoneNodes(
            {"e1": SimpleNamespace(name="e1", layer="edge")},
            world,
            world,
            SimpleNamespace(savers=[self]),  # type: ignore[arg-type]
            world,
            in_between=self.in_between,
            on_released=self.release,
            reasons=world,
            on_alert=lambda key, level, text: self.alerts.append((f"{level} {key}", text)),
            gone_after_s=gone_after_s,
            is_shared=is_shared,
        )

    async def in_between(self, name: str, work: Callable[[], Awaitable[None]]) -> bool:
        if not self.is_held:
            await work()
        return not self.is_held

    async def read(self, function: Any, *args: Any) -> Any:
        return function(*args)

    def last_seen(self) -> dict[str, LastSeen]:
        return self.seen

    def parked_of(self, node: str, limit: int) -> list[ParkedRow]:
        return [ParkedRow(n, n, node, 1, "http://a/", "t", "", 1.0) for n in range(self.rows.get(node, 0))]

    def see(self, sightings: list[Sighting]) -> None:
        self.sightings += sightings
        for one in sightings:
            if one.is_forgotten:
                self.seen[one.node] = LastSeen(1e10, "edge", is_gone=True)
            elif one.is_gone:
                self.seen[one.node] = LastSeen(0.0, "", is_gone=True)

    async def flushed(self, limit_s: float) -> None:
        """Written at once."""

    def names(self) -> list[str]:
        return [name for name, count in self.rows.items() if count]

    def depth(self, name: str) -> int:
        return self.rows.get(name, 0)

    async def fail(self, name: str, saver: Any, rows: list[ParkedRow], reason: str, *, layer: str) -> None:
        self.failed.append((name, len(rows), reason, layer))
        self.rows[name] = 0

    def tell(self, rows: list[ParkedRow], reason: str) -> None:
        self.reasons.append((len(rows), reason))

    def release(self) -> None:
        self.released += 1


async def test_what_waits_for_a_node_that_has_just_gone_is_told_once_and_stays() -> None:
    world = World()
    world.seen["old"] = LastSeen(100.0, "edge", is_gone=True)
    await world.gone.look()
    await world.gone.look()
    [(key, text)] = world.alerts
    assert key == "warning gone:old"
    assert "its 3 delayed subtasks wait, and fail in 3500 s" in text
    assert "`purgeline forget old`" in text
    [(count, reason)] = world.reasons
    assert count == 3
    assert reason.startswith("gone: not configured since 20")
    assert reason.endswith("and fails after gone_after_s (3600 s)")
    assert world.failed == []
    world.rows["old"] = 0
    await world.gone.look()
    assert world.alerts[1][0] == "resolved gone:old"


@pytest.mark.parametrize("before", [{}, {"old": LastSeen(1e5, "edge")}])
async def test_a_node_counts_as_gone_from_when_that_is_found(before: dict[str, LastSeen]) -> None:
    """The time in which no engine ran does not count."""
    world = World()
    world.seen.update(before)
    await world.gone.look()
    assert world.sightings == [Sighting("old", "", is_gone=True)]
    assert world.failed == []


async def test_what_waited_longer_than_that_fails_with_the_layer_that_the_node_was_in() -> None:
    world = World(gone_after_s=60)
    world.seen["old"] = LastSeen(61.0, "parent", is_gone=True)
    await world.gone.look()
    [(name, count, reason, layer)] = world.failed
    assert (name, count, layer) == ("old", 3, "parent")
    assert reason.endswith(", longer than gone_after_s (60 s)")
    assert world.released == 1, "what waits behind them may go"


async def test_a_node_that_another_engine_configures_is_not_gone() -> None:
    world = World(is_shared=True)
    world.seen["old"] = LastSeen(1e6, "edge", is_gone=True)
    await world.gone.look({"old"})
    assert not world.failed
    assert not world.alerts
    assert not world.gone.is_gone("e1")
    assert world.gone.is_gone("old")
    assert world.gone.is_configured("e1")


async def test_rows_that_another_engine_or_worker_has_at_work_fail_later() -> None:
    world = World(is_shared=True)
    world.seen["old"] = LastSeen(1e6, "edge", is_gone=True)
    world.is_held = True
    await world.gone.look()
    assert world.failed == []
    world.is_held = False
    await world.gone.look()
    assert len(world.failed) == 1
    assert world.released == 1


async def test_a_node_that_is_forgotten_fails_now_and_what_still_comes_too() -> None:
    world = World()
    assert await world.gone.forget("old") == 3
    assert world.failed == [("old", 3, "gone: not configured, and forgotten by an operator", "edge")]
    world.rows["old"] = 2
    await world.gone.look()
    assert world.failed[1][:2] == ("old", 2)


async def test_a_node_is_known_by_its_rows_or_because_it_was_seen() -> None:
    world = World()
    assert await world.gone.is_known("old")
    assert not await world.gone.is_known("nobody")
    world.seen["nobody"] = LastSeen(5.0, "edge")
    assert await world.gone.is_known("nobody")


async def test_it_notes_again_and_again_which_nodes_are_configured() -> None:
    world = World()
    world.rows = {}
    world.gone.start()
    await _turns()
    assert world.sightings == [Sighting("e1", "edge")]
    world.gone.look_soon()
    await _turns()
    assert len(world.sightings) == 2
    await world.gone.stop()


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)

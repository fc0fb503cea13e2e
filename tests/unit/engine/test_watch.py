"""Which of what a gone engine left is this engine's to take over."""

from __future__ import annotations

from typing import Any

import pytest

from engine.cluster.watch import Watch
from engine.store.redis.members import About, Member, View


class World:
    """Membership, the store's side, threads and takeover: what the watch works with."""

    def __init__(self, *gone: str, pending: dict[str, dict[int, int]], workers: list[str]) -> None:
        self.consumer = "me"
        self.view = View(
            "", 0, [Member(name, About(), lives=False, has_left=False) for name in (*gone, "me")]
        )
        self.is_draining = False
        self.is_steady = True
        self._gone = gone
        self._pending = pending
        self._workers = workers
        self.taken: list[tuple[str, int]] = []
        self.buried: list[str] = []
        self.deposed: list[str] = []
        world: Any = self
        self.watch = Watch(world, world, world, world)

    async def call(self, function: Any, *args: object) -> Any:
        return function(*args)

    async def beat(self) -> None:
        """See `Membership.beat`."""

    def pending(self) -> dict[str, dict[int, int]]:
        return self._pending

    def workers(self) -> list[str]:
        return self._workers

    def is_gone(self, member: Member) -> bool:
        return member.consumer in self._gone

    def is_nobody(self, consumer: str) -> bool:
        known = {member.consumer for member in self.view.members}
        return consumer in self._gone or (consumer not in known and self.is_steady)

    async def take_from(self, consumer: str, region: int) -> None:
        self.taken.append((consumer, region))

    def bury(self, consumer: str) -> None:
        self.buried.append(consumer)

    def depose(self, consumer: str) -> None:
        self.deposed.append(consumer)


async def test_those_that_live_share_the_regions_of_a_dead_one() -> None:
    world = World("dead", pending={"dead": {3: 1, 0: 1, 1: 1, 2: 1}}, workers=["a", "me"])
    await world.watch.look()
    assert world.taken == [("dead", 1), ("dead", 3)]


async def test_what_this_engine_and_living_ones_have_is_left_alone() -> None:
    world = World(pending={"me": {0: 1}}, workers=["me"])
    await world.watch.look()
    assert world.taken == []


async def test_a_consumer_that_no_engine_speaks_of_is_taken_from_only_when_that_is_sure() -> None:
    world = World(pending={"nobody": {0: 1}}, workers=["me"])
    world.is_steady = False
    await world.watch.look()
    assert world.taken == []
    world.is_steady = True
    await world.watch.look()
    assert world.taken == [("nobody", 0)]


async def test_a_dead_engine_that_has_nothing_left_is_forgotten() -> None:
    world = World("dead", "full", pending={"full": {0: 1}}, workers=["me"])
    await world.watch.look()
    assert world.buried == ["dead"]


async def test_an_engine_that_drains_takes_nothing_over() -> None:
    world = World("dead", pending={"dead": {0: 1}}, workers=["me"])
    world.is_draining = True
    await world.watch.look()
    assert (world.taken, world.buried) == ([], [])


@pytest.mark.parametrize(
    ("leader", "deposed"), [("dead", ["dead"]), ("unknown", ["unknown"]), ("me", []), ("", [])]
)
async def test_a_leader_that_has_gone_leads_no_more_whatever_it_left(leader: str, deposed: list[str]) -> None:
    """Its lock lasts for as long as the clock of Redis was set back by."""
    world = World("dead", pending={"dead": {0: 1}}, workers=["me"])
    world.view.leader = leader
    await world.watch.look()
    assert world.deposed == deposed

"""This engine's regular part in the cluster: beats, looks, messages of others."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from engine.cluster.cluster import Cluster
from engine.cluster.inbox import Inbox
from engine.cluster.rounds import Duties, Rounds
from engine.errors import StoreError
from engine.store.redis.members import About
from engine.tasks.region import RegionMap
from engine.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class World:
    """Everything that the cluster works with; what it did is in `log`, and *heard* tells of each line."""

    def __init__(self) -> None:
        world: Any = self
        self.log: list[str] = []
        self.heard = asyncio.Event()
        self.inbox: asyncio.Queue[str] = asyncio.Queue()
        self.view = SimpleNamespace(members=[])
        self.error: StoreError | None = None
        self.is_leader = False
        self.failed_at = -1e9
        self.clock_ahead_s = 0.0
        self.is_news = asyncio.Event()
        self.times_emptied = self.times_set_back = 0
        self.regions = RegionMap(4)
        self.store = self
        self.saved: list[dict[str, bytes]] = []
        redelivery: Any = SimpleNamespace(refresh=lambda depths: self.note("refresh"))
        pauses: Any = SimpleNamespace(refresh=self.look_at_pauses)
        silences: Any = SimpleNamespace(refresh=self.look_at_silences)
        queues: Any = SimpleNamespace(cancelled=lambda task_id: self.note(f"no rows of {task_id}"))
        dispatch: Any = SimpleNamespace(cancel=lambda task: self.note(f"cancel {task.id}"))
        fetches: Any = SimpleNamespace(open=lambda: self.note("see fetches"), close=self.close_fetches)
        replication: Any = SimpleNamespace(run=self.see_no_replicas)
        eviction: Any = SimpleNamespace(run=self.see_no_replicas, warnings=["Redis may evict"])
        self.cluster = Cluster(
            world,
            world,
            world,
            claims=world,
            rounds=Rounds(
                world,
                world,
                world,
                Duties(world, world, world),
                redelivery=redelivery,
                pauses=pauses,
                silences=silences,
                touched=None,
                saver=world,
            ),
            fetches=fetches,
            replication=replication,
            eviction=eviction,
            rows=eviction,
            inbox=Inbox(
                world, world, world, dispatch=dispatch, regions=self.regions, queues=queues, timeout_s=1
            ),
            on_alert=lambda key, level, text: self.note(f"{level}: {text}"),
            ttl_s=0.004,  # four ticks
        )

    async def look_at_pauses(self) -> None:
        self.note("look at pauses")

    async def look_at_silences(self) -> None:
        self.note("look at silences")

    def note(self, line: str) -> None:
        self.log.append(line)
        self.heard.set()

    async def until(self, line: str, times: int = 1) -> None:
        while self.log.count(line) < times:
            self.heard.clear()
            await self.heard.wait()

    async def call(self, function: Any, *args: object) -> Any:
        if function == self.receive:
            return await self.inbox.get()
        return function(*args)

    # The store's side

    def depths(self) -> dict[str, Any]:
        return {
            "e1": SimpleNamespace(ready=1),
            "e2": SimpleNamespace(ready=0),
            "unknown": SimpleNamespace(ready=1),
        }

    def receive(self, wait_s: float) -> str:
        raise AssertionError("see `call`")

    def send(self, consumer: str, message: str) -> None:
        self.note(f"to {consumer}: {message}")

    # Membership, claims, watch, takeover, leader

    async def join(self) -> None:
        self.note("join")

    async def beat(self) -> None:
        if self.error is not None:
            raise self.error

    def said(self) -> dict[str, About]:
        return {"other": About(keeps={"e3": 1, "unknown": 1})}

    def leads(self) -> bool:
        return self.is_leader

    def is_gone(self, member: object) -> bool:
        return False

    async def leave(self) -> None:
        self.note("leave")

    async def keep_all(self) -> None:
        """Nothing is claimed."""

    async def give_back_all(self) -> None:
        self.note("give back all")

    async def look(self) -> None:
        self.note("look")

    async def find_lost(self) -> None:
        self.note("find lost")

    async def lead(self) -> None:
        self.note("lead")

    async def see_no_replicas(self) -> None:
        pass

    async def close_fetches(self) -> None:
        self.note("close fetches")

    # A node, and the threads

    def start_probe(self) -> None:
        self.note("probe")

    def close(self) -> None:
        self.note("close the threads")

    def put(self, name: str) -> Task:
        task = Task.internal([], owner=None, task_id=name)
        self.regions.add(task)
        return task


@contextlib.asynccontextmanager
async def joined() -> AsyncIterator[World]:
    world = World()
    nodes: Any = {"e1": world, "e2": world, "e3": world}
    await world.cluster.join(nodes)
    try:
        async with asyncio.timeout(20):
            yield world
    finally:
        await world.cluster.leave()


async def test_it_joins_before_it_takes_over_and_waits_for_nodes_that_have_rows() -> None:
    """In the store, or kept by another engine's tasks."""
    async with joined() as world:
        assert world.log == ["join", "see fetches", "probe", "probe", "refresh", "look"]


async def test_it_says_goodbye_when_nothing_is_claimed_any_more() -> None:
    async with joined() as world:
        world.log.clear()
    assert world.log == ["close fetches", "give back all", "leave", "close the threads"]


async def test_a_cluster_that_cannot_be_seen_is_an_alert_until_it_can() -> None:
    async with joined() as world:
        world.error = StoreError("Redis is away")
        await world.until("error: the cluster cannot be seen: Redis is away")
        world.error = None
        await world.until("resolved: the cluster can be seen again")


async def test_a_clock_that_is_off_is_an_alert_until_it_is_not() -> None:
    async with joined() as world:
        world.clock_ahead_s = -45.0
        await world.until(
            "warning: the clock of this host is 45.0 s behind the one of Redis: times in tasks, logs and "
            "callbacks are wrong by that; set the wrong one"
        )
        world.clock_ahead_s = 0.1
        await world.until("resolved: the clock of this host agrees with that of Redis again")
        assert sum("the clock" in line for line in world.log) == 2


async def test_the_leader_leads_at_each_tick_and_the_others_do_not() -> None:
    async with joined() as world:
        world.log.clear()
        await world.until("refresh")
        assert "lead" not in world.log
        world.is_leader = True
        await world.until("lead")


async def test_entries_of_its_own_are_looked_for_now_and_then_and_at_once_after_a_failed_commit() -> None:
    async with joined() as world:
        await world.until("find lost")
    async with joined() as world:
        world.failed_at = asyncio.get_running_loop().time()
        world.log.clear()
        await world.until("refresh", times=2)  # at the end of the tick under way, and of a whole one
        assert "find lost" in world.log


async def test_another_engine_has_a_task_cancelled_that_is_at_work_here() -> None:
    async with joined() as world:
        world.put("t")
        world.put("saving").waiters = []
        world.put("handed").is_handed = True
        for name in ("saving", "handed", "nowhere", "t"):
            world.inbox.put_nowait(f"cancel {name}")
        await world.until("cancel t")
        assert [line for line in world.log if line.startswith("cancel")] == ["cancel t"]


async def test_an_engine_that_leaves_has_the_others_look_at_once() -> None:
    async with joined() as world:
        world.log.clear()
        world.inbox.put_nowait("sing")
        world.inbox.put_nowait("look")
        await world.until("look")


async def test_the_engine_that_works_on_a_task_is_told_to_cancel_it() -> None:
    world = World()
    await world.cluster.inbox.ask_to_cancel("b/0.1", "t")
    assert world.log == ["to b/0.1: cancel t"]


async def test_a_redis_that_was_emptied_is_an_alert() -> None:
    async with joined() as world:
        world.times_emptied = 1
        await world.until(
            "error: Redis was emptied, or has come back without its data: settled tasks, and purges that "
            "waited in it, are gone; tasks that engines had at work go on"
        )
        world.log.clear()
        await world.until("refresh", times=3)
        assert not any("emptied" in line for line in world.log)

"""A round: clients at work while everything that can fail fails; then all is mended, and judged."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from tests.model import plans
from tests.model.cache_wire import CacheDoor
from tests.model.caches import Cache, Origin
from tests.model.fleet.clients import FleetClients
from tests.model.fleet.engines import TAKEOVER_S, FleetEngine
from tests.model.fleet.judge import judge
from tests.model.fleet.reasons import DRIVER_CHANGED, REDIS, RESTARTED, Window
from tests.model.rules import Rules
from tests.rigs.engine_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.model.figures import Figures
    from tests.model.fleet.network import Network
    from tests.model.fleet.servers import Servers
    from tests.model.fleet.timetable import Event, Timetable
    from tests.model.rules import Record

ENGINES: Final = 3
_CLIENTS: Final = 12
_PORT: Final = 8080
_SETTLE_LIMIT_S: Final = 180.0
_BROKEN_LIMIT_S: Final = 40.0  #: the same of engines that break a rule
_STALL_S: Final = 0.3  #: a loop that does not turn for so long answers late


class FleetRules(Rules):
    """Writes down what is broken, and goes on: several things may be, for one reason."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.found: list[str] = []

    def fail(self, what: str) -> None:
        """Write down what was broken."""
        self.found.append(what)


class Storm:
    """One round.

    Args:
        table: what happens.
        network: where.
        servers: the Redis.
        folder: of the engines.
        figures: counts.
        seconds: how long faults go on.
        old: a checkout of another version; None: all engines are of this one.
        broken: the rule that the engines break; empty: none.
    """

    def __init__(
        self,
        table: Timetable,
        network: Network,
        servers: Servers,
        folder: Path,
        figures: Figures,
        *,
        seconds: float,
        old: Path | None,
        broken: str,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.table = table
        self.figures = figures
        self.trace: list[str] = []
        self.is_over = False  #: no new task
        self.has_ended = False  #: nobody tries again
        self.longest_gap_s = 0.0  #: without a task that was accepted
        self.windows: list[Window] = []
        self._began_at = loop.time()
        self._rng = random.Random(table.seed)
        self._network = network
        self._servers = servers
        self._seconds = seconds
        self.old = old
        self._broken = broken
        self.origin = Origin(time.time() - loop.time())
        self.caches: dict[str, Cache] = {}
        for name, driver in zip(plans.NODES, table.drivers, strict=True):
            parents = [] if name == "parent-1" else [self.caches["parent-1"]]
            self.caches[name] = Cache(name, driver, self.origin, parents, rng=self._rng)
        self.rules = FleetRules(self.caches, self.trace)
        self._doors = {name: CacheDoor(cache) for name, cache in self.caches.items()}
        self._listening: dict[str, asyncio.Server] = {}
        store = {"url": servers.url, "timeout_s": 2, "takeover_s": TAKEOVER_S}
        if servers.topology != "single":
            store["wait_replicas"] = "all"
        self.engines = [
            FleetEngine(
                folder / name, network.place(name), name, store, is_apart=table.is_apart, broken=broken
            )
            for name in (f"engine-{number}" for number in range(ENGINES))
        ]
        self._locks = [asyncio.Lock() for _ in self.engines]
        self._rolls = asyncio.Lock()
        self._checkouts: dict[FleetEngine, Path] = dict.fromkeys(self.engines, ROOT)
        self._variant = ""
        self.clients = FleetClients(self, self._rng)

    def now(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def at(self, when: float) -> float:
        """Return a time of the loop as one of the round."""
        return when - self._began_at

    def note(self, what: object) -> None:
        """Add to the trace."""
        self.trace.append(f"{self.at(self.now()):8.3f}  {what}")

    def name_of(self, address: str) -> str:
        """Return whose address that is."""
        return self._network.name_of(address)

    def records(self) -> list[Record]:
        """Return the tasks that were accepted and are not over."""
        return [record for record in self.rules.records.values() if not record.is_over]

    # The round

    async def run(self) -> None:
        """Carry it out, mend everything, wait until all is quiet, and judge."""
        for cache in self.caches.values():
            cache.on_serve = self.rules.check_object
            await self._open(cache)
        if self.old is not None:
            self._checkouts[self.engines[-1]] = self.old
        for engine in self.engines:
            self._prepare(engine, self._nodes(""))
        await asyncio.gather(*(asyncio.to_thread(engine.begin) for engine in self.engines))
        self._began_at = self.now()
        at_work = [self.clients.hand_in() for _ in range(_CLIENTS)] + [self.clients.visit() for _ in range(2)]
        beside = [asyncio.create_task(work) for work in (self._watch_the_loop(), self.clients.look())]
        async with asyncio.TaskGroup() as group:
            for work in at_work:
                group.create_task(work)
            await self._all_faults()
            await self._mend()
            self.is_over = True
        self.note("everything is mended")
        if not (self._broken and self.rules.found):
            limit_s = _BROKEN_LIMIT_S if self._broken else _SETTLE_LIMIT_S
            await self._until(lambda: not self.records(), limit_s)
        self.has_ended = True
        for task in beside:
            task.cancel()
        for ended in await asyncio.gather(*beside, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        await judge(self)

    async def _all_faults(self) -> None:
        table = self.table
        tracks = [self._track(events, self._engine_fault) for events in table.engine_tracks]
        tracks += [self._track(table.redis_track, self._redis_fault)]
        tracks += [self._track(table.cache_track, self._cache_fault)]
        await asyncio.gather(*tracks, asyncio.sleep(self._seconds))

    async def _track(self, events: Iterable[Event], act: Callable[[Event], Any]) -> None:
        for event in events:
            if self.now() - self._began_at > self._seconds:
                return
            await asyncio.sleep(max(0.0, self._began_at + event.at_s - self.now()))
            await act(event)

    async def _watch_the_loop(self) -> None:
        while True:
            before = self.now()
            await asyncio.sleep(0.1)
            if self.now() - before > _STALL_S:
                self.figures.faults["the model itself was slow"] += 1
                self.windows.append(Window("slow", frozenset(self.caches), before, self.now()))

    async def _mend(self) -> None:
        """Mend everything, and have every engine be as in the beginning."""
        self.note("mending")
        await asyncio.to_thread(self._network.mend_all)
        for cache in self.caches.values():
            await self._heal(cache)
        await asyncio.to_thread(self._servers.wait_until_whole)
        self.caches["edge-1"].driver = self.table.drivers[1]
        apart = Window(DRIVER_CHANGED, frozenset(), self.now())
        if self._variant == DRIVER_CHANGED:
            apart.who = frozenset({"edge-1"})
        self.windows.append(apart)
        for engine in self.engines:
            await self._restart(engine, self._nodes(""), checkout=ROOT)
        apart.ended_at = self.now()

    async def _until(self, is_so: Callable[[], bool], limit_s: float) -> None:
        for _ in range(int(limit_s * 10)):
            if is_so() or not all(engine.is_up for engine in self.engines):
                return
            await asyncio.sleep(0.1)

    # Faults

    def _begin(self, kind: str, *who: str) -> Window:
        window = Window(kind, frozenset(who), self.now())
        self.windows.append(window)
        self.figures.faults[kind] += 1
        self.note(f"{kind}: {', '.join(who)}")
        return window

    def _end(self, window: Window) -> None:
        window.ended_at = self.now()
        self.note(f"{window.kind} is over: {', '.join(sorted(window.who))}")

    async def _redis_fault(self, event: Event) -> None:
        await asyncio.to_thread(self._servers.wait_until_whole)
        engine = self.engines[event.who // 3 % ENGINES].name
        window = self._begin(event.kind, REDIS)
        try:
            await asyncio.to_thread(self._servers.happen, event, engine)
            await asyncio.to_thread(self._servers.wait_until_whole)
        finally:
            self._end(window)

    async def _cache_fault(self, event: Event) -> None:
        cache = self.caches[plans.NODES[event.who % len(plans.NODES)]]
        window = self._begin(event.kind, cache.name)
        if event.kind == "wiped":
            cache.wipe()
        else:
            cache.fall_ill(event.kind, (*plans.HOSTS, "u.example"))
            if cache.faults.door != "open":
                self._doors[cache.name].reset()
                self._listening.pop(cache.name).close()
            await asyncio.sleep(event.lasts_s)
            await self._heal(cache)
        self._end(window)

    async def _open(self, cache: Cache) -> None:
        if cache.name not in self._listening:
            address, door = self._network.address(cache.name), self._doors[cache.name]
            server = await asyncio.get_running_loop().create_server(door.make_protocol, address, _PORT)
            self._listening[cache.name] = server

    async def _heal(self, cache: Cache) -> None:
        was_stuck = cache.faults.hangs
        cache.heal()
        if was_stuck:
            self._doors[cache.name].reset()
        await self._open(cache)

    async def _engine_fault(self, event: Event) -> None:
        number = event.who % ENGINES
        engine = self.engines[number]
        match event.kind:
            case "node removed" | "driver changed":
                await self._roll(event)
            case "all killed":
                for lock in self._locks:
                    await lock.acquire()
                try:
                    window = self._begin(event.kind, *(each.name for each in self.engines))
                    for each in self.engines:
                        each.kill()
                    window.is_gone_at = self.now()
                    await asyncio.sleep(event.lasts_s)
                    await asyncio.gather(*(asyncio.to_thread(each.begin) for each in self.engines))
                    self._end(window)
                finally:
                    for lock in self._locks:
                        lock.release()
            case _:
                async with self._locks[number]:
                    window = self._begin(event.kind, engine.name)
                    await self._one_engine(event, engine, window)
                    self._end(window)

    async def _one_engine(self, event: Event, engine: FleetEngine, window: Window) -> None:
        match event.kind:
            case "killed":
                await asyncio.to_thread(engine.kill)
                window.is_gone_at = self.now()
                await asyncio.sleep(event.lasts_s)
                await asyncio.to_thread(engine.begin)
            case "paused" | "paused shortly":
                engine.send(signal.SIGSTOP)
                try:
                    await asyncio.sleep(event.lasts_s)
                finally:
                    engine.send(signal.SIGCONT)
            case "clock":
                engine.set_clock(event.clock_s)
                if event.who // 3 % 3:
                    await self._restart(engine, engine.nodes)
            case "drained":
                await self._restart(engine, engine.nodes)
            case "other version":
                now = self._checkouts[engine]
                await self._restart(
                    engine, engine.nodes, checkout=(self.old or ROOT) if now == ROOT else ROOT
                )
            case _:
                names = {
                    "cut from redis": self._servers.names,
                    "cut from a server": [self._servers.names[event.who // 3 % len(self._servers.names)]],
                    "cut from a cache": [plans.NODES[event.who // 3 % len(plans.NODES)]],
                }[event.kind]
                await asyncio.to_thread(self._network.cut, [engine.name], names)
                await asyncio.sleep(event.lasts_s)
                await asyncio.to_thread(self._network.mend, [engine.name], names)

    async def _roll(self, event: Event) -> None:
        """Give every engine another configuration, one after the other; the second time the first one."""
        async with self._rolls:
            self._variant = "" if self._variant else event.kind
            window = self._begin(event.kind)
            apart = Window(DRIVER_CHANGED, frozenset(), self.now())
            self.windows.append(apart)
            if event.kind == DRIVER_CHANGED or not self._variant:
                apart.who = frozenset({"edge-1"})
                is_changed = self._variant == DRIVER_CHANGED
                self.caches["edge-1"].driver = (
                    self.table.other_driver if is_changed else self.table.drivers[1]
                )
            nodes = self._nodes(self._variant)
            for place in range(ENGINES):
                number = (event.who + place) % ENGINES
                async with self._locks[number]:
                    await self._restart(self.engines[number], nodes)
                await asyncio.sleep(event.lasts_s / ENGINES)
            apart.ended_at = self.now()
            self._end(window)

    def _nodes(self, variant: str) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "layer": name.partition("-")[0],
                "driver": cache.driver,
                "url": f"http://{self._network.address(name)}:{_PORT}",
                **({"wildcard": True} if cache.driver == "nginx" else {}),
            }
            for name, cache in self.caches.items()
            if not (variant == "node removed" and name == "edge-2")
        ]

    def _prepare(self, engine: FleetEngine, nodes: Any, checkout: Path | None = None) -> None:
        self._checkouts[engine] = checkout or self._checkouts[engine]
        drain_s = self._rng.choice((0.3, 1.0, 3.0))
        engine.prepare(nodes, drain_s=drain_s, checkout=self._checkouts[engine])

    async def _restart(self, engine: FleetEngine, nodes: Any, checkout: Path | None = None) -> None:
        window = self._begin(RESTARTED, engine.name)
        await asyncio.to_thread(engine.end)
        window.is_gone_at = self.now()
        self._prepare(engine, nodes, checkout)
        await asyncio.to_thread(engine.begin)
        self._end(window)

    async def close(self) -> None:
        """End everything."""
        for engine in self.engines:
            engine.send(signal.SIGCONT)
            if engine.is_up:
                engine.kill()
        for server in self._listening.values():
            server.close()
        for door in self._doors.values():
            door.reset()

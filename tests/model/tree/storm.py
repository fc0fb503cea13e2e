"""A round: clients at work while everything that can fail fails; then all is mended, and judged."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, cast

from release.lab.caches import start_cache
from release.lab.origin import Origin
from tests.model.fleet.engines import TOKEN, FleetEngine
from tests.model.fleet.reasons import RESTARTED, Window
from tests.model.tree.broken import BROKEN
from tests.model.tree.caches import RealCache
from tests.model.tree.clients import HOST, TreeClients, path_of
from tests.model.tree.judge import judge
from tests.model.tree.places import ENGINES, LEAVES, REDIS, REDIS_REGION, REGIONS, ROOT, region_of
from tests.model.tree.rules import TreeRules
from tests.rigs.redis_servers import RedisServer
from tests.rigs.tree import keys_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.model.figures import Figures
    from tests.model.fleet.network import Network
    from tests.model.tree.rules import TreeRecord
    from tests.model.tree.timetable import Event, Track

_CLIENTS: Final = 4
_LOOKERS: Final = 4
_PORT: Final = 8080
_RATE: Final = "64kbit"
_SETTLE_LIMIT_S: Final = 240.0
_BROKEN_LIMIT_S: Final = 20.0  #: a rule is broken, and what is lost never comes
_STALL_S: Final = 0.3
_DRAIN_S: Final = 1.0


class TreeStorm:
    """One round.

    Args:
        tracks: what happens.
        seed: of what clients do.
        network: where.
        folder: of engines and caches.
        figures: counts.
        seconds: how long faults go on.
        broken: the rule that one of the engines breaks; empty: none.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        seed: int,
        network: Network,
        folder: Path,
        figures: Figures,
        *,
        seconds: float,
        broken: str = "",
    ) -> None:
        self.figures = figures
        self.trace: list[str] = []
        self.is_over = self.has_ended = False
        self.windows: list[Window] = []
        self.done_after_s: list[float] = []
        self.settled_after_s = 0.0  #: everything was well for so long until every task was over
        self.caches: dict[str, RealCache] = {}
        self.rules = TreeRules(self.caches, self.trace, self._was_there)
        self._tracks = tracks
        self._network = network
        self._folder = folder
        self._seconds = seconds
        self._settle_limit_s = _BROKEN_LIMIT_S if broken else _SETTLE_LIMIT_S
        self._stack = ExitStack()
        self._origin = Origin()
        self._redis = RedisServer(folder, place=network.place(REDIS))
        self.engines = {
            name: FleetEngine(
                folder / name,
                network.place(name),
                name,
                {"url": self._redis.url, "timeout_s": 2} if name == REDIS_REGION else {},
                is_apart=False,
                broken=broken if broken and BROKEN[broken].topology == name else "",
                request_timeout_s=3,
            )
            for name in ENGINES
        }
        self._locks = {name: asyncio.Lock() for name in ENGINES}
        self._left_out: set[str] = set()  # leaves that their region does not know now
        self._keys: dict[str, list[str]] = {}
        self._began_at = 0.0
        self._wall_s = time.time() - asyncio.get_running_loop().time()
        self.clients = TreeClients(self, random.Random(seed))

    @property
    def root(self) -> FleetEngine:
        return self.engines[ROOT]

    def now(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def at(self, when: float) -> float:
        """Return a time of the loop as one of the round."""
        return when - self._began_at

    def wall_of(self, when: float) -> float:
        """Return a time of the loop as UNIX time."""
        return when + self._wall_s

    def note(self, what: object) -> None:
        """Add to the trace."""
        self.trace.append(f"{self.at(self.now()):8.3f}  {what}")

    def records(self) -> list[TreeRecord]:
        """Return the tasks that were accepted and are not over."""
        return [record for record in self.all_records() if not record.is_over]

    def all_records(self) -> list[TreeRecord]:
        """Return the tasks that were accepted."""
        return list(cast("dict[str, TreeRecord]", self.rules.records).values())

    def _was_there(self, leaf: str, since: float) -> bool:
        """Tell whether its region knew a leaf all the time."""
        return not any(
            one.kind == "leaf removed" and leaf in one.who and one.touches(since, self.now(), 1.0)
            for one in self.windows
        )

    def change(self, url: str) -> None:
        """Make new content at the origin."""
        self._origin.set(HOST, path_of(url), f"new {url}".encode())

    def content_of(self, url: str) -> str:
        """Return what the origin has."""
        return self._origin.content(HOST, path_of(url)).body.decode()

    # The round

    async def run(self) -> None:
        """Carry it out, mend everything, wait until all is quiet, and judge."""
        await self._start()
        self._began_at = self.now()
        at_work = [self.clients.hand_in() for _ in range(_CLIENTS)]
        looks = [self.clients.look(number, _LOOKERS) for number in range(_LOOKERS)]
        beside = [asyncio.create_task(work) for work in (self._watch_the_loop(), *looks)]
        async with asyncio.TaskGroup() as group:
            for work in at_work:
                group.create_task(work)
            tracks = [self._track(track) for track in self._tracks]
            await asyncio.gather(*tracks, asyncio.sleep(self._seconds))
            self.note("everything is mended")
            self.is_over = True
        mended_at = self.now()
        await self._until(lambda: not self.records(), self._settle_limit_s)
        self.settled_after_s = self.now() - mended_at
        self.has_ended = True
        for task in beside:
            task.cancel()
        for ended in await asyncio.gather(*beside, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        await self.clients.end()
        await judge(self)

    async def _start(self) -> None:
        """Start the caches, and the engines from below: each has to know the keys of those below it."""
        self._stack.enter_context(self._origin)
        await asyncio.to_thread(self._stack.enter_context, self._redis)
        for leaf, driver in LEAVES.items():
            server = await asyncio.to_thread(
                start_cache,
                driver,
                self._folder,
                name=f"cache-{leaf}",
                backend=self._origin.address,
                node="edge",
            )
            self._stack.callback(server.stop)
            cache = self.caches[leaf] = RealCache(leaf, server)
            await cache.open(self._network.address(cache.name), _PORT)
        for names in (LEAVES, REGIONS, (ROOT,)):
            await asyncio.gather(*(self._begin_first(name) for name in names))

    async def _begin_first(self, name: str) -> None:
        engine = self.engines[name]
        self._prepare(name)
        await asyncio.to_thread(engine.begin)
        self._keys[name] = await asyncio.to_thread(keys_of, engine)

    def _prepare(self, name: str, token: str = TOKEN) -> None:
        self.engines[name].prepare(self._nodes(name), drain_s=_DRAIN_S, token=token)

    def _nodes(self, name: str) -> list[dict[str, Any]]:
        if name in self.caches:
            cache = self.caches[name]
            return [cache.table(self._network.address(cache.name), _PORT)]
        lower = REGIONS if name == ROOT else [leaf for leaf in LEAVES if region_of(leaf) == name]
        return [
            {
                "name": each,
                "layer": "edge",
                "driver": "engine",
                "url": f"http://{self.engines[each].address}:{self.engines[each].port}",
                "public_keys": self._keys[each],
                "token": TOKEN,
            }
            for each in lower
            if each not in self._left_out
        ]

    async def _until(self, is_so: Callable[[], bool], limit_s: float) -> None:
        for _ in range(int(limit_s * 10)):
            if is_so() or not all(engine.is_up for engine in self.engines.values()):
                return
            await asyncio.sleep(0.1)

    async def _watch_the_loop(self) -> None:
        while True:
            before = self.now()
            await asyncio.sleep(0.1)
            if self.now() - before > _STALL_S:
                self.figures.faults["the model itself was slow"] += 1
                names = frozenset(cache.name for cache in self.caches.values())
                self.windows.append(Window("slow", names, before, self.now()))

    # Faults

    async def _track(self, track: Track) -> None:
        for event in track:
            if self.at(self.now()) > self._seconds:
                return
            await asyncio.sleep(max(0.0, self._began_at + event.at_s - self.now()))
            await self._happen(event)

    def _begin(self, kind: str, *who: str) -> Window:
        window = Window(kind, frozenset(who), self.now())
        self.windows.append(window)
        self.figures.faults[kind] += 1
        self.note(f"{kind}: {', '.join(who)}")
        return window

    async def _happen(self, event: Event) -> None:
        """Let it happen, and be over."""
        is_engines = event.who in self.engines
        lock = self._locks[event.who] if is_engines and "cut" not in event.kind else asyncio.Lock()
        if event.kind == "leaf removed":
            lock = self._locks[region_of(event.who)]
        async with lock:
            window = self._begin(event.kind, event.who)
            if event.who == REDIS:
                await self._redis_fault(event)
            elif not is_engines:
                await self._cache_fault(event)
            elif event.kind in {"killed", "paused", "drained", "clock"}:
                await self._engine_fault(event)
            else:
                await self._link_fault(event)
            window.ended_at = self.now()
            self.note(f"{event.kind} is over: {event.who}")

    async def _redis_fault(self, event: Event) -> None:
        redis = self._redis
        if event.kind == "redis paused":
            redis.pause()
            await asyncio.sleep(event.lasts_s)
            redis.resume()
            return
        await asyncio.to_thread(redis.kill if event.kind == "redis killed" else redis.stop)
        await asyncio.sleep(event.lasts_s)
        await asyncio.to_thread(redis.start)

    async def _cache_fault(self, event: Event) -> None:
        cache = next(cache for cache in self.caches.values() if cache.name == event.who)
        cache.fall_ill(event.kind)
        await asyncio.sleep(event.lasts_s)
        await cache.heal()

    async def _engine_fault(self, event: Event) -> None:
        engine = self.engines[event.who]
        match event.kind:
            case "killed":
                await asyncio.to_thread(engine.kill)
                await asyncio.sleep(event.lasts_s)
                await asyncio.to_thread(engine.begin)
            case "paused":
                engine.send(signal.SIGSTOP)
                try:
                    await asyncio.sleep(event.lasts_s)
                finally:
                    engine.send(signal.SIGCONT)
            case "drained":
                await self._restart(event.who)
            case "clock":
                engine.set_clock(event.clock_s)

    async def _link_fault(self, event: Event) -> None:
        who, network = event.who, self._network
        match event.kind:
            case "cut off" | "cut from a leaf":
                above = [ROOT] if event.kind == "cut off" else [region_of(who)]
                await asyncio.to_thread(network.cut, above, [who])
                await asyncio.sleep(event.lasts_s)
                await asyncio.to_thread(network.mend, above, [who])
            case "slow link":
                await asyncio.to_thread(network.slow, who, _RATE)
                await asyncio.sleep(event.lasts_s)
                await asyncio.to_thread(network.full_speed, who)
            case "token revoked":
                await self._restart(who, token="another")
                await asyncio.sleep(event.lasts_s)
                await self._restart(who)
            case "leaf removed":
                self._left_out.add(who)
                await self._restart(region_of(who))
                await asyncio.sleep(event.lasts_s)
                self._left_out.discard(who)
                await self._restart(region_of(who))

    async def _restart(self, name: str, token: str = TOKEN) -> None:
        window = self._begin(RESTARTED, name)
        engine = self.engines[name]
        await asyncio.to_thread(engine.end)
        self._prepare(name, token)
        await asyncio.to_thread(engine.begin)
        window.ended_at = self.now()

    async def close(self) -> None:
        """End everything."""
        for engine in self.engines.values():
            if engine.is_up:
                engine.send(signal.SIGCONT)
                engine.kill()
        for cache in self.caches.values():
            cache.close()
        await asyncio.to_thread(self._stack.close)

"""The register of prefetches: what engines see of each other, when purges count, and what is lost or away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from engine.cluster.fetch_register import FetchRegister
from engine.nodes.underway import link
from engine.store.redis.fetch_log import Position, Read
from engine.tasks.words import Operation
from tests.fakes.shares import items_of
from tests.unit.engine.test_underway import Clock, Place
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from engine.nodes.queue import Item

URL = "http://a.com/1"
PURGE = Operation.PURGE_URL


class Log:
    """A log in memory, of two parts: hosts of even and of odd length."""

    parts = 2

    def __init__(self) -> None:
        self.texts: dict[int, list[bytes]] = {0: [], 1: []}
        self.away: set[int] = set()
        self.generation = 0
        self.ahead_s = 0.0
        self.reads = 0

    def part_of(self, host: str) -> int:
        return len(host) % 2

    def append(self, texts: Mapping[int, bytes]) -> set[int]:
        for part in texts.keys() - self.away:
            self.texts[part].append(texts[part])
        return texts.keys() - self.away

    def read(self, positions: Mapping[int, Position]) -> dict[int, Read]:
        self.reads += 1
        found = {}
        for part in positions.keys() - self.away:
            entry, mark = positions[part]
            goes_on = bool(entry) and mark == b"%d" % self.generation
            texts = self.texts[part][int(entry) if goes_on else 0 :]
            at = Position(str(len(self.texts[part])), b"%d" % self.generation)
            found[part] = Read(goes_on, time.time() + self.ahead_s, at, texts)
        return found

    def lose(self) -> None:
        """Have all entries go."""
        self.texts = {0: [], 1: []}
        self.generation += 1

    def lose_last(self, part: int) -> None:
        """Have the last entry go; the position of who has not seen it stays good."""
        self.texts[part].pop()


class Calls:
    """Threads that are none."""

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args)

    def close(self) -> None:
        """There are none."""


class Acked:
    """Purges that were acked, and what of them was looked at."""

    def __init__(self, *urls: str) -> None:
        self.items = items_of(*urls)
        self.seen: list[Item] = []
        self.covered_since = inf

    def looked(self, items: Iterable[Item], covered_since: float) -> None:
        self.seen += items
        self.covered_since = covered_since


class Engine:
    """An engine with a node and its parent."""

    def __init__(self, log: Any, name: str) -> None:
        self.clock = Clock()
        self.nodes = {"parent": Place(self.clock), "edge-1": Place(self.clock, "parent")}
        link(self.nodes)
        nodes: Any = self.nodes
        clock: Any = self.clock
        calls: Any = Calls()
        for place in nodes.values():
            place.share = lambda register: None
        self.register = FetchRegister(log, name, calls, nodes=nodes, timer=clock)

    async def begin(self, url: str, *, lasts_s: float = 60) -> int:
        entered = asyncio.Event()
        number = self.enter(url, entered.set, lasts_s=lasts_s)
        await entered.wait()
        return number

    def enter(self, url: str, on_entered: Callable[[], None], *, lasts_s: float = 60) -> int:
        names = self.nodes["edge-1"].fetches.names
        return self.register.enter(
            url.partition("://")[2], names, ["t"], lasts_s=lasts_s, on_entered=on_entered
        )

    async def look(self, *urls: str) -> Acked:
        acked = Acked(*urls)
        self.register.look(acked)
        await until(lambda: len(acked.seen) == len(urls))
        return acked

    def sees(self, url: str = URL, node: str = "parent", since: float = inf) -> bool:
        return self.nodes[node].covered_by(PURGE, url, since)


@contextlib.asynccontextmanager
async def engines() -> AsyncIterator[tuple[Log, Engine, Engine]]:
    log = Log()
    both = Engine(log, "one"), Engine(log, "other")
    for engine in both:
        engine.register.open()
    try:
        yield log, *both
    finally:
        for engine in both:
            await engine.register.close()


async def test_what_another_engine_has_entered_is_under_way_until_it_says_that_it_has_ended() -> None:
    async with engines() as (log, one, other):
        number = await other.begin(URL)
        await one.look(URL)
        assert one.sees()
        assert one.sees(node="edge-1")
        assert not other.sees()  # it knows its own from elsewhere
        before = one.clock.s
        one.clock.go(1)
        other.register.end(number)
        await until(lambda: len(log.texts[1]) == 2)
        await one.look(URL)
        assert not one.sees()
        assert one.sees(since=before)


async def test_one_that_nobody_ends_counts_for_its_time() -> None:
    async with engines() as (_, one, other):
        await other.begin(URL, lasts_s=60)
        await one.look(URL)
        one.clock.go(59)
        assert one.sees()
        one.clock.go(2)
        assert not one.sees()


async def test_a_part_that_is_away_holds_up_its_own_hosts_only() -> None:
    """Purges of one read are told apart; nothing is entered, looked at or lost meanwhile."""
    even, odd = "http://ab.com/1", "http://a.com/1"
    async with engines() as (log, one, _):
        log.away = {1}
        acked, entered = Acked(even, odd), asyncio.Event()
        one.register.look(acked)
        one.enter("http://abc.com/1", entered.set)
        one.enter(odd, entered.set)
        await until(lambda: acked.seen == acked.items[:1])
        await one.look("http://abcd.com/1")
        everywhere = Acked("http://*.com/")
        one.register.look(everywhere)
        await one.look(even)
        assert (acked.seen, everywhere.seen, log.texts[1]) == (acked.items[:1], [], [])
        log.away = set()
        await until(lambda: len(acked.seen) == 2 and everywhere.seen and entered.is_set())
        await one.look(odd)


async def test_what_a_failover_lost_is_entered_again_and_what_it_does_not_cover_is_told() -> None:
    async with engines() as (log, one, other):
        await other.begin(URL)
        await other.look(URL)
        covered_since = (await one.look(URL)).covered_since
        assert covered_since < time.monotonic() - 29
        log.lose()
        assert (await one.look(URL)).covered_since == covered_since  # hardly any time has passed
        assert one.sees()
        await other.look(URL)
        await until(lambda: log.texts[1])
        third = Engine(log, "third")
        third.register.open()
        await third.look(URL)
        assert third.sees()
        await third.register.close()
        log.lose()
        log.ahead_s = 3600  # so much may have passed on that machine
        assert (await one.look(URL)).covered_since > covered_since


async def test_what_a_failover_lost_before_anybody_looked_is_entered_again() -> None:
    async with engines() as (log, one, other):
        await other.begin("http://a.com/0")
        await other.look(URL)
        await other.begin(URL)
        log.lose_last(1)
        await other.look(URL)
        await until(lambda: len(log.texts[1]) == 2)
        await one.look(URL)
        assert one.sees()


async def test_many_that_came_while_a_part_was_away_are_written_in_groups_and_ends_after_begins() -> None:
    async with engines() as (log, one, other):
        log.away = {1}
        entered: list[int] = []
        numbers = [other.enter(f"http://a.com/{n}", partial(entered.append, n)) for n in range(1200)]
        other.register.end(numbers[-1])
        log.away = set()
        await until(lambda: len(entered) == 1199)
        assert max(map(len, log.texts[1])) < 100_000
        await one.look(URL)
        await until(lambda: not one.sees("http://a.com/1199"))
        assert one.sees("http://a.com/1198")


async def test_many_that_waited_for_a_look_do_not_hold_the_loop_up_while_they_are_told() -> None:
    """Redis was away: other engines take one for dead that says nothing for some seconds."""
    async with engines() as (_, one, _other):
        told_in: set[int] = set()
        turns = 0

        class Many(Acked):
            def looked(self, items: Iterable[Item], covered_since: float) -> None:
                super().looked(items, covered_since)
                told_in.add(turns)

        urls = [f"http://a.com/{number}" for number in range(100)]
        acks = [Many(*urls) for _ in range(100)]
        for waiting in acks:
            one.register.look(waiting)
        while not acks[-1].seen:
            turns += 1
            await asyncio.sleep(0)
        assert all(len(waiting.seen) == 100 for waiting in acks)
        assert len(told_in) >= 10


async def test_a_busy_engine_looks_no_more_than_some_times_a_second() -> None:
    async with engines() as (log, one, _):
        began = time.monotonic()
        for _ in range(40):
            await one.look(URL)
        took_s = time.monotonic() - began
        assert took_s > 0.2
        assert log.reads < 60 + 60 * took_s

"""Looks at the log of prefetches: which parts of it are asked, and that none is forgotten."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from engine.base.timer import Timer
from engine.cluster import fetch_looks
from engine.cluster.fetch_looks import FetchLooks
from engine.cluster.fetch_mirror import FetchMirror
from engine.cluster.threads import Threads
from engine.config.redis_url import parse_redis_url
from engine.store.redis.fetch_log import FetchLog
from engine.store.redis.keys import Keys
from engine.store.redis.link import Link
from tests.fakes.shares import items_of
from tests.rigs.redis_servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from engine.nodes.queue import Item
    from engine.store.redis.fetch_log import Position, Read

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


class NotingLog(FetchLog):
    """Notes which parts are read."""

    def __init__(self, link: Link, keys: Keys) -> None:
        super().__init__(link, keys, "one", longest_s=5)
        self.looks: list[set[int]] = []
        self.is_read = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def read(self, positions: Mapping[int, Position]) -> dict[int, Read]:
        found = super().read(positions)
        self.looks.append(set(positions))
        self._loop.call_soon_threadsafe(self.is_read.set)
        return found


@dataclass
class Acks:
    """Purges that were acked, and count when they were looked for."""

    items: list[Item]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    count: int = 0

    def looked(self, items: list[Item], _covered_since: float) -> None:
        self.count += len(items)
        if self.count == len(self.items):
            self.over.set()


class Rig:
    """Looks of one engine."""

    def __init__(self, log: NotingLog, looks: FetchLooks) -> None:
        self.log = log
        self._looks = looks

    async def look(self, *targets: str) -> list[set[int]]:
        """Look for purges; return the parts of each look that was made meanwhile."""
        before, acks = len(self.log.looks), Acks(items_of(*targets))
        self._looks.look(acks)
        async with asyncio.timeout(20):
            await acks.over.wait()
        return self.log.looks[before:]


@asynccontextmanager
async def rig_on(redis: RedisServer, prefix: str) -> AsyncIterator[Rig]:
    link, threads = Link(parse_redis_url(redis.url), timeout_s=5, connections_max=4), Threads("fetches")
    log = NotingLog(link, Keys(prefix, 16))
    mirror = FetchMirror({}, Timer(asyncio.get_running_loop()), asyncio.get_running_loop().time)
    looks = FetchLooks(log, threads, mirror, "one", lambda *_args, **_named: None)
    looks.lanes.start()
    looks.lanes.ask()
    try:
        async with asyncio.timeout(20):
            await log.is_read.wait()
        yield Rig(log, looks)
    finally:
        await looks.lanes.close()
        threads.close()
        link.close()


async def test_a_few_purges_look_at_the_parts_of_their_hosts_alone(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_looks, "_IDLE_S", 600.0)
    async with rig_on(redis, "few") as rig:
        hosts = {rig.log.part_of(host): host for host in (f"{number}.example.com" for number in range(40))}
        everything = set(range(rig.log.parts))
        assert hosts.keys() == everything
        assert rig.log.looks == [everything]
        assert await rig.look(f"http://{hosts[1]}/a", f"http://{hosts[1]}/b") == [{1}]
        assert await rig.look(f"http://{hosts[1]}/a", f"https://{hosts[3]}/b") == [{1, 3}]
        assert await rig.look("*.example.com/key") == [everything]
        many = [f"http://{hosts[2]}/{number}" for number in range(fetch_looks._FEW + 1)]
        assert await rig.look(*many) == [everything]


async def test_a_host_that_is_purged_all_the_time_keeps_no_other_part_from_being_looked_at(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of the others must not get old: prefetches there began after the last look at them."""
    monkeypatch.setattr(fetch_looks, "_IDLE_S", 0.5)
    async with rig_on(redis, "busy") as rig:
        seen: set[int] = set()
        count = 0
        async with asyncio.timeout(20):
            while seen != set(range(rig.log.parts)):
                for parts in await rig.look("http://img.example.com/a"):
                    seen |= parts
                count += 1
        assert count > 3  # not each of them looked at all

"""Canaries of engines on one Redis: one runs them, all answer and show them; after it another does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from engine.config.tables import CanaryConfig
from engine.nodes.canary import HEADER, Canary
from tests.fakes.canary_cache import CanaryCache
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.redis_servers import RedisServer
from tests.rigs.wall_clock import WallClock
from tests.service.test_canaries import ask, canary_of, canary_table, states_of
from tests.service.test_leader import leader_of
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.redis


def test_one_of_two_engines_runs_canaries_and_the_other_goes_on_after_its_death(tmp_path: Path) -> None:
    cache = CanaryCache()
    with RedisServer(tmp_path) as redis, FakeNode(cache) as node:
        tables = (
            f'[store]\nurl = "{redis.url}"\ntakeover_s = 1\n'
            + canary_table(interval_s=0.2)
            + fake_table(node.url, name="edge-1", driver="ats")
        )
        folders = [tmp_path / name for name in ("one", "two")]
        for folder in folders:
            folder.mkdir()
        clock = WallClock(folders[1], 3600)  # nothing is decided by it
        one = EngineProcess(folders[0], tables, name="one")
        two = EngineProcess(folders[1], tables, name="two", env=clock.env)
        with one, two:
            leader, other = leader_of([one, two])
            wait_until(lambda: states_of(leader) == states_of(other) == {"edge-1": "fresh"})
            at = canary_of(other, "edge-1")["at"]
            wait_until(lambda: canary_of(other, "edge-1")["at"] > at, what="the next result")
            purged = _purges(cache)
            began = time.monotonic()
            wait_until(lambda: _purges(cache) >= purged + 5)
            assert time.monotonic() - began > 3 * 0.2  # of one engine; two would take half of that
            canary = Canary(CanaryConfig())
            canary.key = _key(redis)
            assert {ask(engine.port, **{HEADER: canary.mint()})[0] for engine in (one, two)} == {200}
            leader.kill()
            purged = _purges(cache)
            wait_until(lambda: _purges(cache) > purged + 2, what="canaries of the other engine")
            redis.flush()  # the key is lost: what runs on puts its own there, and works on
            purged = _purges(cache)
            wait_until(lambda: _purges(cache) > purged + 3)
            assert states_of(other) == {"edge-1": "fresh"}
            assert _key(redis) == canary.key


def _key(redis: RedisServer) -> bytes:
    return bytes.fromhex(redis.ask("GET", "purgeline:{cluster}:canary-key"))


def _purges(cache: CanaryCache) -> int:
    return sum(method == "PURGE" and "purgeline/" in path for method, path in cache.seen)

"""Who may begin the rewind of a node: of all that work with one store one alone, while that one lives."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from engine.api.rewinding import Rewinding
from engine.errors import StoreError
from engine.saver.reader import StoreReader
from engine.store.redis.open import redis_store
from engine.store.redis.rewinds import SharedRewinds
from engine.store.sqlite.rewinds import FolderRewinds
from tests.rigs.redis_servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.api.rewinding import SharesRewinds

DEAD: set[str] = set()


@pytest.fixture(params=["folder", pytest.param("redis", marks=pytest.mark.redis)])
def join(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], SharesRewinds]]:
    """Return a function that makes the claims of one worker, or engine, by its name."""
    if request.param == "folder":
        yield lambda _name: FolderRewinds(tmp_path)
        return
    with RedisServer(tmp_path) as server:
        yield lambda name: SharedRewinds(redis_store(server.url, name, region_count=2), DEAD.__contains__)


def test_one_claims_a_node_until_the_tasks_are_stored(join: Callable[[str], SharesRewinds]) -> None:
    one, other = join("one"), join("other")
    assert one.claim("edge-1", "rewind-1", 5.0) == ""
    assert other.claim("edge-1", "rewind-2", 6.0) == "rewind-1"
    assert one.claim("edge-1", "rewind-3", 6.0) == "rewind-1"
    assert other.claim("edge-2", "rewind-4", 6.0) == ""
    for claims in (one, other):
        found = claims.under_way(["edge-1", "edge-3"])
        assert {node: (rewind.name, rewind.since, rewind.tasks) for node, rewind in found.items()} == {
            "edge-1": ("rewind-1", 5.0, [])
        }
    one.keep("edge-1", "rewind-1", 5.0)
    one.begun("edge-1", "rewind-1", 5.0, {})
    assert other.under_way(["edge-1"]) == {}
    assert other.claim("edge-1", "rewind-5", 7.0) == ""


def test_of_many_at_one_moment_one_claims_a_node(join: Callable[[str], SharesRewinds]) -> None:
    everybody = [join(f"engine-{number}") for number in range(4)]
    with ThreadPoolExecutor(len(everybody)) as threads:
        for turn in range(6):
            names = [f"rewind-{turn}-{number}" for number in range(len(everybody))]
            had = list(threads.map(lambda claims, name: claims.claim("edge-1", name, 1.0), everybody, names))
            assert had.count("") == 1, had
            winner = had.index("")
            assert set(had) <= {"", names[winner]}
            everybody[winner].begun("edge-1", names[winner], 1.0, {})


def test_who_looks_is_in_nobodys_way(join: Callable[[str], SharesRewinds]) -> None:
    one, looking = join("one"), join("looking")
    with ThreadPoolExecutor(1) as threads:
        until = time.monotonic() + 0.3
        looks = threads.submit(
            lambda: [looking.under_way(["edge-1"]) for _ in iter(lambda: time.monotonic() < until, False)]
        )
        while not looks.done():
            assert one.claim("edge-1", "rewind-1", 1.0) == ""
            one.begun("edge-1", "rewind-1", 1.0, {})
        assert {name for found in looks.result() for name in found} <= {"edge-1"}


@pytest.mark.redis
def test_a_claim_lapses_with_its_engine_and_a_late_one_takes_nothing_back(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        one, other = (
            SharedRewinds(redis_store(server.url, name, region_count=2), {"one"}.__contains__)
            for name in ("one", "other")
        )
        assert one.claim("edge-1", "rewind-1", 5.0) == ""
        server.ask("SET", "purgeline:{cluster}:beat:one", "it has just come")
        assert other.claim("edge-1", "rewind-2", 6.0) == "rewind-1"
        server.ask("DEL", "purgeline:{cluster}:beat:one")
        assert other.claim("edge-1", "rewind-2", 6.0) == ""  # as "one" is nobody that lives
        with pytest.raises(StoreError, match="did not go on for too long"):
            one.keep("edge-1", "rewind-1", 5.0)
        with pytest.raises(StoreError, match="another engine has begun"):
            one.begun("edge-1", "rewind-1", 5.0, {"t": 1})
        one.begun("edge-1", "rewind-1", 5.0, {})
        assert other.under_way(["edge-1"])["edge-1"].name == "rewind-2"


def test_a_claim_lapses_with_its_worker(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from engine.store.sqlite.rewinds import FolderRewinds\n"
        f"claims = FolderRewinds(pathlib.Path({str(tmp_path)!r}))\n"
        "print(claims.claim('edge-1', 'rewind-1', 5.0), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"\n"
        claims = FolderRewinds(tmp_path)
        assert claims.claim("edge-1", "rewind-2", 6.0) == "rewind-1"
        assert claims.under_way(["edge-1"])["edge-1"].name == "rewind-1"
        worker.kill()
        worker.wait()
        assert claims.under_way(["edge-1"]) == {}
        assert claims.claim("edge-1", "rewind-2", 6.0) == ""


def test_only_who_claimed_a_node_gives_it_back(join: Callable[[str], SharesRewinds]) -> None:
    one, other = join("one"), join("other")
    assert one.claim("edge-1", "rewind-1", 5.0) == ""
    one.begun("edge-1", "rewind-2", 6.0, {})  # could not claim it
    assert other.under_way(["edge-1"])["edge-1"].name == "rewind-1"


@pytest.mark.redis
async def test_a_claim_that_could_not_be_made_sure_of_is_given_back(tmp_path: Path) -> None:
    """Redis has taken it, and no replica has: this engine lives, and nobody else would rewind the node."""
    with RedisServer(tmp_path) as server:
        store = redis_store(server.url, "one", region_count=2, wait_replicas=1, timeout_s=0.3)
        reader, shared = StoreReader(1), SharedRewinds(store, DEAD.__contains__)
        rewinding = Rewinding({}, reader, peers=None, shared=shared)
        with pytest.raises(StoreError):
            await rewinding.claim_of("edge-1").make()
        assert shared.under_way(["edge-1"]) == {}
        reader.close()

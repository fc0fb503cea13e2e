"""The leader is paused for longer than it may be, and comes back: one leads, and no harm is done."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.log_cache import LogCache
from tests.fakes.node import OK, Act, FakeNode, Request
from tests.rigs.cluster_engine import cluster_engine
from tests.rigs.cluster_load import Clients, never_came, wait_until_settled
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

pytestmark = pytest.mark.redis

SHORT = "takeover_s = 1\n"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def tables_of(url: str, cache: FakeNode) -> str:
    return f'[store]\nurl = "{url}"\n{SHORT}' + fake_table(cache.url, name="edge-1")


def view(engine: EngineProcess) -> dict[str, Any]:
    return dict(engine.get("/v1/engine/cluster"))


def leader_of(engines: list[EngineProcess]) -> tuple[EngineProcess, EngineProcess]:
    """Return the leader and the other one, once they agree."""

    def agreed() -> EngineProcess | None:
        said = {view(engine)["leader"] for engine in engines}
        found = [engine for engine in engines if view(engine)["self"] in said]
        return found[0] if len(said) == 1 and len(found) == 1 else None

    leader = wait_until(agreed, what="a leader")
    assert leader is not None
    return leader, next(engine for engine in engines if engine is not leader)


def test_a_leader_that_slept_through_its_end_leads_no_more(tmp_path: Path, redis: RedisServer) -> None:
    """Clients load both engines all the time; nothing is lost, and there is never more than one leader."""
    addresses = ["127.0.0.1", "127.0.0.2"]
    with (
        LogCache("edge-1", addresses) as cache,
        cluster_engine(tmp_path, redis.url, [cache], number=0, store=SHORT) as one,
        cluster_engine(tmp_path, redis.url, [cache], number=1, store=SHORT) as two,
    ):
        old, new = leader_of([one, two])
        fence = view(new)["fence"]
        with Clients([one.port, two.port], count=4, pause_s=0.005) as clients:
            wait_until(lambda: len(clients.seen.accepted) > 100, what="the load")
            os.kill(old.pid, signal.SIGSTOP)
            try:
                wait_until(lambda: view(new)["leader"] == view(new)["self"], what="another leader")
                taken = view(new)["fence"]
                assert taken > fence
            finally:
                os.kill(old.pid, signal.SIGCONT)
            wait_until(lambda: view(old)["leader"] == view(new)["self"], what="the old leader knowing")
            assert view(old)["fence"] == view(new)["fence"] == taken
            before = len(clients.seen.accepted)
            wait_until(lambda: len(clients.seen.accepted) > before + 100, what="more load")
        seen = clients.stop()
        assert wait_until_settled([one.port, two.port], seen.accepted, timeout_s=30)[1] == []
        assert (seen.wrong, seen.not_found) == ([], [])
        assert never_came(seen.accepted, [cache]) == []
        print(f"{len(seen.accepted)} accepted, {len(cache.repeats)} purges came again, {cache.by_sender}")


def test_work_that_was_taken_from_a_paused_engine_counts_once(tmp_path: Path, redis: RedisServer) -> None:
    """Its purge is at the cache when it is paused; what it says later changes nothing."""
    answered: list[str] = []

    def script(request: Request) -> Iterator[bytes | Act]:
        answered.append(request.path)
        yield Act.HANG if len(answered) == 1 else OK

    with (
        FakeNode(script) as cache,
        cluster_engine(tmp_path, redis.url, [cache], number=0, store=SHORT, request_timeout_s=3) as one,
        cluster_engine(tmp_path, redis.url, [cache], number=1, store=SHORT, request_timeout_s=3) as two,
    ):
        leader_of([one, two])
        one.submit(["http://img.example.com/x"], id="held")
        wait_until(lambda: answered, what="the purge at the cache")
        os.kill(one.pid, signal.SIGSTOP)
        try:
            done = two.wait_for("held")
        finally:
            os.kill(one.pid, signal.SIGCONT)
        wait_until(
            lambda: one.get("/v1/engine/stats")["tasks_in_cache"] == 0, what="the first one letting go"
        )
        for engine in (one, two):
            task = engine.task("held")
            assert (task["state"], task["counter"], task["total"]) == ("done", 1, 1)
            assert task["updated_at"] == done["updated_at"]
        assert 2 <= len(answered) <= 3


def test_a_number_of_the_leader_that_an_operator_deleted_grows_past_what_was_seen(
    tmp_path: Path, redis: RedisServer
) -> None:
    """What only the leader does is done: rows of a node that nobody configures fail at their time."""
    with FakeNode() as edge, FakeNode() as removed:
        engine = cluster_engine(tmp_path, redis.url, [edge, removed], store=SHORT, gone_after_s=3)
        removed.stop()
        with engine:
            engine.wait_for(engine.submit(["http://img.example.com/x"], id="t"), "partial")
            fence = view(engine)["fence"]
        engine.configure(tables_of(redis.url, edge))
        with engine:
            wait_until(lambda: view(engine)["fence"] > fence, what="the engine leading again")
            key = "purgeline:{region-00}:fence"
            wait_until(lambda: int(redis.ask("GET", key) or 0) > fence, what="the number in the regions")
            redis.ask("DEL", "purgeline:{cluster}:fence")
            found = engine.wait_for("t", "failed")
            assert "gone: not configured" in found["errors"][-1]["reason"]
            wait_until(lambda: view(engine)["fence"] > fence, what="a greater number")
            wait_until(lambda: "number of the leader was lost" in engine.log(), what="the line in the log")

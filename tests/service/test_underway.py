"""Purges beside own prefetches, on scripted caches: what is sent when, and what is acked."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from engine.nodes.answer import Answer
from engine.nodes.health import NodeState
from engine.tasks.shards import slot_of
from engine.tasks.words import Operation
from tests.fakes.node import OK, Act, FakeNode, Request, answer
from tests.fakes.shares import items_of
from tests.rigs.delivery_rig import rig_of
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.waiting import until, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from typing import Any

    from engine.tasks.task import Task
    from tests.rigs.delivery_rig import Rig

URL = "http://a.com/1"
ANSWER = Answer(200, 0, keep_alive=True)


class Cache:
    """A cache that answers purges at once, and the first prefetch when it is told to."""

    def __init__(self, *, first_prefetch: bytes | Act = OK) -> None:
        self.go_on = threading.Event()
        self.first_prefetch = first_prefetch
        self.node = FakeNode(self._script)

    def _script(self, request: Request) -> Iterator[bytes | Act]:
        if request.method == "GET" and self.methods.count("GET") == 1:
            self.go_on.wait(60)
            yield self.first_prefetch
        yield OK

    @property
    def is_purged(self) -> bool:
        """Whether a purge has come."""
        return "PURGE" in self.methods

    @property
    def methods(self) -> list[str]:
        """What it was asked for, in order."""
        return [request.method for request in self.node.requests]


@contextlib.asynccontextmanager
async def under_way(folder: Path, cache: Cache, **settings: Any) -> AsyncIterator[tuple[Rig, Task]]:
    """Run a rig with a prefetch on the wire."""
    with cache.node:
        async with rig_of(folder, {"edge-1": cache.node}, **settings) as rig:
            task = rig.submit(targets=[URL], action="prefetch")
            await until(lambda: cache.methods == ["GET"])
            try:
                yield rig, task
            finally:
                cache.go_on.set()


async def test_a_purge_goes_out_at_once_and_again_after_the_prefetch(tmp_path: Path) -> None:
    cache = Cache()
    async with under_way(tmp_path, cache) as (rig, first):
        second = rig.submit(targets=[URL, "http://a.com/2"], prefetch=True)
        await until(lambda: sorted(cache.methods) == ["GET", "GET", "PURGE", "PURGE"])
        await until(lambda: rig.node("edge-1").waiting_count == 1)
        cache.go_on.set()
        await rig.stored(first, "done")
        assert (await rig.stored(second, "done"))["counter"] == 4
        assert cache.methods[-2:] == ["PURGE", "GET"]
        assert rig.node("edge-1").counting.acked_count == 5
        rig.node("edge-1").underway.forget_ended()
        assert not rig.node("edge-1").underway.fetches


async def test_a_purge_beside_a_prefetch_can_be_cancelled(tmp_path: Path) -> None:
    cache = Cache()
    async with under_way(tmp_path, cache) as (rig, first):
        second = rig.submit(targets=[URL])
        await until(lambda: cache.is_purged and rig.node("edge-1").waiting_count == 1)
        rig.dispatch.cancel(second)
        cache.go_on.set()
        await rig.stored(first, "done")
        await rig.stored(second, "cancelled")
        assert cache.methods == ["GET", "PURGE"]


async def test_a_prefetch_that_lost_its_connection_is_under_way_for_as_long_as_it_may_take(
    tmp_path: Path,
) -> None:
    """It is tried again by itself, which proves nothing; the purge follows both."""
    cache = Cache(first_prefetch=Act.RESET)
    async with under_way(tmp_path, cache, prefetch_timeout_s=1) as (rig, first):
        second = rig.submit(targets=[URL])
        await until(lambda: cache.is_purged and rig.node("edge-1").waiting_count == 1)
        cache.go_on.set()
        await rig.stored(first, "done")
        await rig.stored(second, "done")
        assert cache.methods == ["GET", "PURGE", "GET", "PURGE"]


async def test_a_prefetch_that_is_never_done_again_is_waited_for_no_longer_than_it_may_take(
    tmp_path: Path,
) -> None:
    cache = Cache(first_prefetch=Act.RESET)
    async with under_way(tmp_path, cache, prefetch_timeout_s=0.5) as (rig, first):
        rig.dispatch.cancel(first)
        cache.go_on.set()
        await until(lambda: first.state == "cancelled")
        second = rig.submit(targets=[URL])
        await rig.stored(second, "done")
        assert cache.methods == ["GET", "PURGE", "PURGE"]


async def test_purges_that_wait_are_parked_when_the_node_goes_away_and_ready_does_not_wait(
    tmp_path: Path,
) -> None:
    """The row waits for the prefetch, whose own row is done again; the node is ready meanwhile."""
    cache = Cache()
    async with under_way(tmp_path, cache, connect_timeout_s=1, prefetch_timeout_s=2) as (rig, first):
        second = rig.submit(targets=[URL])
        node = rig.node("edge-1")
        await until(lambda: cache.is_purged and node.waiting_count == 1)
        cache.go_on.set()
        cache.node.stop()
        third = rig.submit(targets=["http://a.com/3"])
        await until(lambda: node.state is NodeState.DOWN)
        await rig.stored(second, "partial")
        cache.node.start()
        await rig.stored(third, "done")
        await rig.stored(first, "done")
        await rig.stored(second, "done")
        assert cache.methods[-1] == "PURGE"


async def test_a_row_does_not_wait_for_a_prefetch_that_began_after_it_was_first_acked(tmp_path: Path) -> None:
    """Otherwise a host that is prefetched without a gap would keep its rows for ever."""
    gates = [threading.Event(), threading.Event()]
    methods: list[str] = []

    def script(request: Request) -> Iterator[bytes | Act]:
        methods.append(request.method)
        if request.method == "GET":
            gates[methods.count("GET") - 1].wait(60)
        yield answer(403) if methods.count("PURGE") == 1 else OK

    with FakeNode(script) as cache:
        async with rig_of(tmp_path, {"edge-1": cache}) as rig:
            try:
                fetches = [rig.submit(targets=[URL], action="prefetch")]
                await until(lambda: methods == ["GET"])
                purge = rig.submit(targets=[URL])
                await rig.stored(purge, "partial")
                await until(lambda: rig.node("edge-1").postponed.is_waiting(Operation.PURGE_URL, URL))
                await until(lambda: methods.count("PURGE") == 2)
                fetches.append(rig.submit(targets=[URL], action="prefetch"))
                await until(lambda: methods.count("GET") == 2)
                gates[0].set()
                await rig.stored(purge, "done")
                assert methods == ["GET", "PURGE", "PURGE", "GET", "PURGE"]
            finally:
                for gate in gates:
                    gate.set()
            for fetch in fetches:
                await rig.stored(fetch, "done")


async def test_a_cache_that_answers_a_purge_after_the_fetch_of_the_same_is_not_sick(tmp_path: Path) -> None:
    """Squid does, however long its origin takes; other purges of its are done meanwhile."""
    fetched = threading.Event()

    def script(request: Request) -> Iterator[bytes | Act]:
        if request.path == "/1":
            fetched.wait(60)
        yield OK

    with FakeNode(script) as squid:
        async with rig_of(tmp_path, {"edge-1": squid}, request_timeout_s=0.2) as rig:
            node = rig.node("edge-1")
            first = rig.submit(targets=[URL], action="prefetch")
            await until(lambda: squid.requests)
            second = rig.submit(targets=[URL], prefetch=True)
            for number in range(2, 5):
                await rig.stored(rig.submit(targets=[f"http://a.com/{number}"]), "done")
            await until(lambda: node.waiting_count == 1)
            assert (node.state, node.health.last_error) == (NodeState.READY, "")
            fetched.set()
            await rig.stored(first, "done")
            assert (await rig.stored(second, "done"))["counter"] == 2
            asked = [request.method for request in squid.requests if request.path == "/1"]
            assert asked == ["GET", "PURGE", "PURGE", "GET"]


def table(cache: Cache) -> str:
    return fake_table(cache.node.url, name="edge-1", driver="ats")


def id_of(slot: int) -> str:
    """Return a task id that belongs to one of two workers."""
    return next(f"t{number}" for number in range(100) if slot_of(f"t{number}", 2) == slot)


def test_a_purge_waits_for_the_prefetch_of_another_worker(tmp_path: Path) -> None:
    cache = Cache()
    with cache.node, EngineProcess(tmp_path, table(cache), workers=2) as engine:
        first = engine.submit([URL], id=id_of(0), action="prefetch")
        wait_until(lambda: cache.methods == ["GET"], what="the prefetch")
        second = engine.submit([URL], id=id_of(1))
        wait_until(lambda: cache.is_purged and engine.node("edge-1")["waiting"] == 1, what="its first answer")
        assert (cache.methods, engine.task(second)["counter"]) == (["GET", "PURGE"], 0)
        cache.go_on.set()
        assert engine.wait_for(first)["state"] == "done"
        assert engine.wait_for(second)["state"] == "done"
        assert cache.methods == ["GET", "PURGE", "PURGE"]


def test_a_prefetch_is_under_way_after_its_engine_was_killed(tmp_path: Path) -> None:
    """Its task was cancelled, so nothing does it again: it counts for as long as it may take."""
    cache = Cache()
    with cache.node:
        engine = EngineProcess(tmp_path, table(cache), prefetch_timeout_s=4)
        with engine:
            first = engine.submit([URL], action="prefetch")
            wait_until(lambda: cache.methods == ["GET"], what="the prefetch")
            engine.request("DELETE", f"/v1/engine/task/{first}")
            engine.kill()
        with engine:
            second = engine.submit([URL])
            wait_until(
                lambda: cache.is_purged and engine.node("edge-1")["waiting"] == 1, what="its first answer"
            )
            assert engine.task(second)["counter"] == 0
            assert engine.wait_for(second)["state"] == "done"
            assert cache.methods == ["GET", "PURGE", "PURGE"]
        cache.go_on.set()


async def test_a_prefetch_that_ended_after_the_purge_was_sent_counts_however_long_its_answer_is_read(
    tmp_path: Path,
) -> None:
    with FakeNode() as cache:
        async with rig_of(tmp_path, {"edge-1": cache}) as rig:
            node = rig.node("edge-1")
            prefetches, purges = items_of(URL, operation=Operation.PREFETCH), items_of(URL)
            prefetches[0][0].task.id = "another"
            node.fetches.begin(prefetches)
            sent_at = time.monotonic()
            node.underway._oldest_sent_at = lambda: sent_at
            node.fetches.answered(prefetches)
            node._readings._log_subtasks = lambda *line: time.sleep(0.02)
            node.answered(purges, [ANSWER], time.monotonic() - sent_at)
            assert (node.counting.acked_count, len(node._beside)) == (0, 1)

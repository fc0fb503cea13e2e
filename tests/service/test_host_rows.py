"""Full delay queues whose node can purge a whole host: their rows become host-wide ones."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine.store.sqlite.store import SqliteStore
from engine.tasks.records import Batch, Committed, Joined, Parked
from engine.tasks.words import Operation
from release.lab import caches
from tests.fakes.node import OK, FakeNode, Request, always, answer
from tests.rigs.delivery_rig import Rig, rig_of
from tests.rigs.engine_process import EngineProcess, fake_table, get_body, node_table
from tests.rigs.redis_servers import RedisServer
from tests.waiting import until, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from engine.tasks.records import ParkedRow
    from release.lab.origin import Origin
    from tests.fakes.node import Act

HOST = "img.example.com"
NGINX = {"edge-1": {"driver": "nginx", "wildcard": True}}


def away() -> FakeNode:
    """A cache that is down, and may come back."""
    node = FakeNode()
    node.start()
    node.stop()
    return node


def urls(host: str, count: int) -> list[str]:
    return [f"http://{host}/{number}" for number in range(count)]


async def filled(rig: Rig, *tasks: dict[str, Any]) -> list[Any]:
    """Hand tasks in for a node that is away, and wait until its rows are host-wide ones."""
    made = [rig.submit(**body) for body in tasks]
    for task in made:
        await rig.stored(task, "partial")
    rig.delivery.host_rows.start("edge-1")
    await until(lambda: rig.store.host_rows("edge-1", 10))
    await until(lambda: rig.queues.depth("edge-1") < 20)
    return made


async def test_the_rows_of_a_full_queue_become_one_for_each_task_and_host(tmp_path: Path) -> None:
    """One request serves all of a host; the task's numbers add up all the time."""
    edge = away()
    async with rig_of(tmp_path, {"edge-1": edge}, NGINX, delay_rows_max=20) as rig:
        tasks = await filled(rig, {"targets": urls("a.com", 30)}, {"targets": urls("a.com", 25)})
        [first, second] = tasks
        assert rig.queues.depth("edge-1") == 2
        assert (await rig.stored(first, "partial"))["delayed"] == 30
        levels = [level for key, level, _ in rig.alerts if key == "delay:edge-1"]
        assert levels == ["error", "resolved"]
        with edge:
            for task, count in ((first, 30), (second, 25)):
                found = await rig.stored(task, "done")
                assert (found["counter"], found["delayed"], found["errors"]) == (count, 0, [])
            assert [(request.host, request.path) for request in edge.requests] == [("a.com", "/purge/*")]
            await until(lambda: not rig.queues.total())
        assert rig.store.depths() == {}


class CountingStore(SqliteStore):
    """Keeps how many delivered rows each commit had."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.delivered: list[int] = []

    def commit(self, batch: Batch) -> Committed:
        self.delivered.append(len(batch.delivered))
        return super().commit(batch)


async def test_what_one_purge_of_a_host_settles_is_folded_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that stands for others goes whole."""
    monkeypatch.setattr("engine.delivery.late.FOLDED_MAX", 50)
    edge = away()
    async with rig_of(tmp_path, {"edge-1": edge}, NGINX, store_kind=CountingStore, delay_rows_max=20) as rig:
        tasks = await filled(rig, *[{"targets": urls("a.com", 30)}] * 5)
        with edge:
            for task in tasks:
                assert (await rig.stored(task, "done"))["counter"] == 30
        assert len(edge.requests) == 1
        assert isinstance(rig.store, CountingStore)
        assert [count for count in rig.store.delivered if count] == [60, 60, 30]


async def test_only_the_hosts_with_the_most_rows_are_replaced(tmp_path: Path) -> None:
    edge = away()
    async with rig_of(tmp_path, {"edge-1": edge}, NGINX, delay_rows_max=20) as rig:
        both = {"targets": [*urls("a.com", 19), *urls("b.com", 3)]}
        await filled(rig, both)
        assert rig.queues.depth("edge-1") == 4
        with edge:
            await until(lambda: not rig.queues.total())
        assert min(edge.urls) == "http://a.com/purge/*"
        assert len(edge.urls) == 4


@pytest.mark.parametrize("status", [403, 400, 500])
async def test_where_the_host_is_not_purged_what_was_asked_for_is_sent(tmp_path: Path, status: int) -> None:
    """The tasks asked for URLs: they do not depend on whether the cache takes more."""

    def script(request: Request) -> Iterable[bytes | Act]:
        return [answer(status) if request.path == "/purge/*" else OK]

    edge = FakeNode(script)
    edge.start()
    edge.stop()
    async with rig_of(tmp_path, {"edge-1": edge}, NGINX, delay_rows_max=20) as rig:
        [task] = await filled(rig, {"targets": urls("a.com", 30)})
        with edge:
            found = await rig.stored(task, "done")
            assert (found["counter"], found["failed"]) == (30, 0)
            assert len(set(edge.urls)) == 31
            await until(lambda: not rig.queues.total())


async def test_a_cancelled_task_takes_its_host_wide_rows_along(tmp_path: Path) -> None:
    edge = away()
    async with rig_of(tmp_path, {"edge-1": edge}, NGINX, delay_rows_max=20) as rig:
        [gone, stays] = await filled(rig, {"targets": urls("a.com", 30)}, {"targets": urls("a.com", 25)})
        rig.saver.cancel_stored(gone.id, 1.0)
        assert (await rig.stored(gone, "cancelled"))["cancelled"] == 30
        await rig.queues.recount("edge-1")
        assert rig.queues.depth("edge-1") == 1
        with edge:
            assert (await rig.stored(stays, "done"))["counter"] == 25
        assert (await rig.stored(gone, "cancelled"))["counter"] == 0


class PinningStore(SqliteStore):
    """Holds its thread when it has pinned what it counts."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.has_pinned, self.goes_on = threading.Event(), threading.Event()

    def pin(self) -> Callable[[str], int]:
        pinned = super().pin()
        self.has_pinned.set()
        assert self.goes_on.wait(60)
        return pinned


async def test_a_task_cancelled_while_its_joined_rows_are_counted_hides_no_rows_of_others(
    tmp_path: Path,
) -> None:
    """Its only host-wide row is gone when the cancel is written, and stood for ten."""
    async with rig_of(tmp_path, {"edge-1": away()}, NGINX, store_kind=PinningStore) as rig:
        assert isinstance(rig.store, PinningStore)
        rig.saver.store.commit(Batch(documents=dict.fromkeys("tu", b'{"state":"partial"}')))
        for name, count in (("t", 10), ("u", 3)):
            rows = [Parked("edge-1", 1, url, name, "", 1.0) for url in urls("a.com", count)]
            rig.queues.park("edge-1", name, rows)
        await rig.saver.flushed()
        rows_of_t = [row for row in rig.store.oldest_parked("edge-1", 20) if row.task_id == "t"]
        rig.queues.join(rig.saver, "edge-1", [Joined(rows_of_t, int(Operation.PURGE_HOST), "a.com")])
        await rig.saver.flushed()
        counting = asyncio.ensure_future(rig.queues.recount("edge-1"))
        await until(rig.store.has_pinned.is_set)
        rig.queues.unpark("t", {"edge-1": 10})
        rig.store.goes_on.set()
        await counting
        await rig.saver.flushed()
        await until(lambda: rig.queues.depth("edge-1") == rig.store.depth("edge-1").count == 3)


async def test_a_queue_that_was_full_before_the_start_is_made_smaller_when_the_worker_before_has_gone(
    tmp_path: Path,
) -> None:
    edge = away()
    async with rig_of(tmp_path, {"edge-1": edge}, NGINX, delay_rows_max=20) as rig:
        rig.delivery.redelivery.hold()
        task = rig.submit(targets=urls("a.com", 30))
        await rig.stored(task, "partial")
        await until(lambda: not rig.delivery.host_rows.at_work)
        assert rig.queues.depth("edge-1") == 30
        rig.delivery.redelivery.let_go()
        await until(lambda: rig.queues.depth("edge-1") == 1, timeout_s=20)


async def test_prefetches_and_what_waits_for_a_parent_stay_rows(tmp_path: Path) -> None:
    parent, edge = away(), away()
    nodes = {"parent-1": parent, "edge-1": edge}
    async with rig_of(tmp_path, nodes, NGINX, delay_rows_max=20) as rig:
        task = rig.submit(targets=urls("a.com", 15), prefetch=True)
        await rig.stored(task, "partial")
        rig.delivery.host_rows.start("edge-1")
        await until(lambda: "edge-1" not in rig.delivery.host_rows.at_work)
        assert rig.store.host_rows("edge-1", 10) == []
        with parent, edge:
            assert (await rig.stored(task, "done"))["counter"] == 60
        parent.script = always(OK)


class SlowSweepStore(SqliteStore):
    """A store whose first look for old rows takes until `go_on` is set."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.has_looked = threading.Event()
        self.go_on = threading.Event()

    def expired(self, node: str, before_at: float, limit: int) -> list[ParkedRow]:
        rows = super().expired(node, before_at, limit)
        self.has_looked.set()
        assert self.go_on.wait(10)
        return rows


async def test_what_waits_for_old_rows_still_waits_when_they_became_part_of_a_younger_one(
    tmp_path: Path,
) -> None:
    """Let go, the edge would be purged ahead of its parent, and fetch the old object from that again."""
    nodes = {"parent-1": away(), "edge-1": away()}
    layers = [
        {"name": name, "total": 30, "counter": 0, "failed": 0, "delayed": 30} for name in ("parent", "edge")
    ]
    made = {"task_id": "t", "state": "partial", "counter": 0, "failed": 0, "delayed": 60, "layers": layers}
    document = json.dumps({**made, "created_at": 1.0, "updated_at": 1.0, "errors": []}).encode()
    rows = []
    for number, url in enumerate(urls("a.com", 30)):
        at = time.time() - (4000 if number < 15 else 0)
        rows += [Parked("parent-1", 1, url, "t", "", at), Parked("edge-1", 1, url, "t", "parent-1", at)]
    tables = {"parent-1": NGINX["edge-1"]}
    limits = {"delay_rows_max": 20, "delay_ttl_s": 3600}
    async with rig_of(tmp_path, nodes, tables, store_kind=SlowSweepStore, **limits) as rig:
        store: Any = rig.store
        store.commit(Batch(documents={"t": document}, parked=rows[:2]))
        await rig.queues.load({"parent-1": store.depth("parent-1")}, [])
        store.commit(Batch(parked=rows[2:]))
        sweep = asyncio.create_task(rig.delivery.sweep.run())
        await asyncio.to_thread(store.has_looked.wait, 10)
        await rig.queues.recount("parent-1")
        await until(lambda: store.host_rows("parent-1", 10) and not rig.delivery.host_rows.at_work)
        store.go_on.set()
        await sweep
        assert len(store.behind_parked("edge-1", 100)) == 30


def test_a_varnish_that_hangs_for_long_is_purged_by_host_when_it_goes_on(
    origin: Origin, tmp_path: Path
) -> None:
    """Whatever it was sick of before: a purge of the host is another request."""
    pages = [f"/{number}" for number in range(30)]
    with (
        caches.start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(
            tmp_path,
            node_table(cache, name="edge-1"),
            delay_rows_max=20,
            connect_timeout_s=0.3,
            request_timeout_s=0.3,
        ) as engine,
    ):
        for page in pages:
            assert get_body(cache, page).startswith(b"v1 ")
        origin.version = "v2"
        cache.pause()
        task_id = engine.submit([f"http://{HOST}{page}" for page in pages], due_s=1)
        engine.wait_for(task_id, "partial")
        wait_until(lambda: 0 < engine.node("edge-1")["delayed"] < 20, what="the rows being replaced")
        assert engine.task(task_id)["delayed"] == 30
        cache.resume()
        assert engine.wait_for(task_id, "done", timeout_s=40)["counter"] == 30
        for page in pages:
            assert get_body(cache, page).startswith(b"v2 ")


@pytest.mark.redis
@pytest.mark.parametrize("is_shared", [False, True])
def test_a_full_queue_takes_tasks_that_a_purge_of_their_host_does(tmp_path: Path, *, is_shared: bool) -> None:
    """A restart keeps what its rows stand for; prefetches alone are still refused."""
    edge = away()
    table = fake_table(edge.url, name="edge-1", driver="nginx", wildcard=True)
    with RedisServer(tmp_path) as redis:
        store = f'[store]\nurl = "{redis.url}"\n' if is_shared else ""
        with EngineProcess(tmp_path, store + table, name="one", delay_rows_max=20) as engine:

            def ask(**body: object) -> int:
                return engine.request("POST", "/v1/engine/task", json.dumps(body).encode())[0]

            first = engine.submit(urls("a.com", 40))
            engine.wait_for(first, "partial")
            wait_until(lambda: engine.node("edge-1")["delayed"] == 1, what="the rows being replaced")
            assert engine.task(first)["delayed"] == 40
            second = engine.submit(urls("a.com", 40))
            engine.wait_for(second, "partial")
            wait_until(lambda: engine.node("edge-1")["delayed"] == 2, what="one row for each task")
            assert engine.stop() == 0
            engine.start()
            assert engine.node("edge-1")["delayed"] == 2
            with edge:
                for task_id in (first, second):
                    task = engine.wait_for(task_id, "done", timeout_s=40)
                    assert (task["counter"], task["delayed"], task["failed"]) == (40, 0, 0)
                wait_until(lambda: engine.node("edge-1")["state"] == "ready", what="the node being ready")
                assert engine.node("edge-1")["delayed"] == 0
            assert set(edge.urls) == {"http://a.com/purge/*"}

"""Unreachable nodes: what is parked, what is delivered, and in which order."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import StoreError
from engine.intake.validate import all_hosts
from engine.nodes.health import NodeState
from engine.store.sqlite.store import SqliteStore
from tests.fakes.node import OK, PROBE_PATH, Act, FakeNode, Request, always, answer
from tests.rigs.delivery_rig import rig_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from engine.tasks.records import ParkedRow

URL = "http://img.example.com/a"


def later() -> Any:
    """Return a module ``time`` by which more than an hour has passed."""
    return SimpleNamespace(time=lambda: time.time() + 3700, monotonic=lambda: time.monotonic() + 3700)


def dead() -> FakeNode:
    """A cache on a port of its own that refuses connections until it is started again."""
    fake = FakeNode()
    fake.start()
    fake.stop()
    return fake


async def test_a_dead_nodes_subtasks_are_parked_and_delivered_late_oldest_first(tmp_path: Path) -> None:
    edge = dead()
    async with rig_of(tmp_path, {"edge-1": edge}, pipeline_depth=1, connections_per_node=1) as rig:
        first = rig.submit(targets=["http://a.com/1", "http://a.com/2"], due_s=0.2)
        found = await rig.stored(first, "partial")
        assert found["delayed"] == 2
        assert "unreachable" in found["errors"][0]["reason"]
        second = rig.submit(targets=["http://a.com/3", "http://a.com/1"], due_s=0.2)
        await rig.stored(second, "partial")
        assert rig.queues.depth("edge-1") == 4
        assert rig.queues.oldest_s("edge-1") > 0
        with edge:
            for task in (first, second):
                found = await rig.stored(task, "done")
                assert (found["counter"], found["delayed"], found["errors"]) == (2, 0, [])
            await until(lambda: rig.node("edge-1").state is NodeState.READY)
            assert edge.urls == ["http://a.com/1", "http://a.com/2", "http://a.com/3"]
            assert rig.queues.total() == 0
            assert ("node:edge-1", "resolved") in [alert[:2] for alert in rig.alerts]


async def test_below_a_dead_parent_an_edge_is_purged_at_once_and_again_after_it(tmp_path: Path) -> None:
    parent = dead()
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"parent-1": parent, "edge-1": edge}) as rig:
            task = rig.submit(targets=[URL], due_s=0.2)
            await rig.stored(task, "partial")
            await until(lambda: edge.urls == [URL])
            with parent:
                found = await rig.stored(task, "done")
                assert (found["counter"], found["delayed"]) == (2, 0)
                assert edge.urls == [URL, URL]
                assert parent.requests[0].at < edge.requests[1].at


async def test_an_edge_behind_two_dead_parents_is_delivered_when_both_are_back(tmp_path: Path) -> None:
    one, other = dead(), dead()
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"parent-1": one, "parent-2": other, "edge-1": edge}) as rig:
            task = rig.submit(targets=[URL, URL + "2"], due_s=0.2)
            await rig.stored(task, "partial")
            with one, other:
                found = await rig.stored(task, "done")
                assert (found["counter"], found["delayed"]) == (6, 0)


@pytest.mark.parametrize("failing_probes", [0, 3])
async def test_a_node_that_fails_while_a_retry_is_pending_still_comes_back(
    tmp_path: Path, failing_probes: int
) -> None:
    """The retried row of a delivery that was cut must not be waited for by a queue nobody empties.

    The retry comes after 0.1-0.2 s: without failing probes the node is back before it, with them after.
    """
    state = "busy"
    failing = failing_probes

    def moody(request: Request) -> Iterable[bytes | Act]:
        nonlocal state, failing
        if request.path.startswith(PROBE_PATH):
            if state == "well" and failing:
                failing -= 1
                yield Act.RESET
            yield OK
        elif state == "well":
            yield OK
        elif request.path == "/a":
            yield answer(503, b"", "Connection: close")
            yield Act.CLOSE
        else:
            state = "well"
            yield Act.RESET

    edge = FakeNode(moody, answers_probes=False)
    edge.start()
    edge.stop()
    async with rig_of(tmp_path, {"edge-1": edge}, pipeline_depth=1, connections_per_node=1) as rig:
        task = rig.submit(targets=[URL, URL + "b", URL + "c"], due_s=0.2)
        await rig.stored(task, "partial")
        with edge:
            found = await rig.stored(task, "done")
            assert found["counter"] == 3
            await until(lambda: rig.node("edge-1").state is NodeState.READY)
            assert rig.queues.total() == 0


async def test_cancelling_takes_the_rows_of_a_dead_node_back(tmp_path: Path) -> None:
    edge = dead()
    async with rig_of(tmp_path, {"edge-1": edge}) as rig:
        task = rig.submit(targets=[URL, URL + "2"])
        await rig.stored(task, "partial")
        await until(lambda: rig.regions.get(task.id) is None)
        rig.saver.cancel_stored(task.id, time.time())
        assert (await rig.stored(task, "cancelled"))["cancelled"] == 2
        assert rig.store.depths() == {}
        await rig.queues.recount("edge-1")
        assert rig.queues.total() == 0


async def test_rows_that_waited_longer_than_they_may_fail_unsent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = dead()
    async with rig_of(tmp_path, {"edge-1": edge}, delay_ttl_s=3600) as rig:
        stored = rig.submit(targets=[URL, URL + "2"], due_s=0.2)
        await rig.stored(stored, "partial")
        in_memory = rig.submit(targets=[URL], due_s=600)
        await until(lambda: rig.queues.depth("edge-1") == 3)
        monkeypatch.setattr("engine.base.clock.time", later())
        with edge:
            for task in (stored, in_memory):
                found = await rig.stored(task, "failed")
                assert (found["counter"], found["failed"]) == (0, found["total"])
                assert "longer than delay_ttl_s (3600)" in found["errors"][-1]["reason"]
            await until(lambda: rig.node("edge-1").state is NodeState.READY)
            assert edge.urls == []
            assert rig.queues.total() == 0


async def test_rows_of_a_node_that_stays_away_or_refuses_them_fail_when_they_are_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No delivery comes to these. What waits behind a parent fails with it; younger rows stay."""
    away, refusing = dead(), FakeNode(always(answer(403)))
    with refusing:
        nodes = {"parent-1": away, "edge-1": refusing}
        async with rig_of(tmp_path, nodes, delay_ttl_s=3600) as rig:
            behind = rig.submit(targets=[URL], layers=["parent", "edge"])
            refused = rig.submit(targets=[f"{URL}{number}" for number in range(20)], layers=["edge"])
            for task in (behind, refused):
                await rig.stored(task, "partial")
            await rig.delivery.sweep.run()
            assert rig.queues.total() == 22
            monkeypatch.setattr("engine.base.clock.time", later())
            await rig.delivery.sweep.run()
            for task in (behind, refused):
                found = await rig.stored(task, "failed")
                assert (found["counter"], found["failed"]) == (0, found["total"])
                assert "longer than delay_ttl_s (3600)" in found["errors"][-1]["reason"]
            assert rig.queues.total() == 0


@pytest.mark.parametrize("jump_s", [30 * 86400, -30 * 86400])
async def test_a_wall_clock_that_is_set_makes_no_row_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    edge = dead()
    wall = time.time
    async with rig_of(tmp_path, {"edge-1": edge}, delay_ttl_s=3600) as rig:
        before = rig.submit(targets=[URL])
        await rig.stored(before, "partial")
        monkeypatch.setattr(time, "time", lambda: wall() + jump_s)
        after = rig.submit(targets=[URL])
        await rig.stored(after, "partial")
        await rig.delivery.sweep.run()
        assert rig.queues.oldest_s("edge-1") < 60
        with edge:
            for task in (before, after):
                await rig.stored(task, "done")
        monkeypatch.undo()


async def test_rows_that_are_too_old_fail_beside_a_node_with_many_that_is_being_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig_of(tmp_path, {"edge-1": dead(), "edge-2": dead()}, delay_ttl_s=3600) as rig:
        many = rig.submit(targets=[f"{URL}{number}" for number in range(2000)], nodes=["edge-1"])
        one = rig.submit(targets=[URL], nodes=["edge-2"])
        for task in (many, one):
            await rig.stored(task, "partial")
        is_over = asyncio.Event()

        async def deliver() -> None:
            await is_over.wait()

        busy = asyncio.create_task(rig.delivery.redelivery.in_between("edge-1", deliver))
        await asyncio.sleep(0)
        monkeypatch.setattr("engine.base.clock.time", later())
        await rig.delivery.sweep.run()
        await rig.stored(one, "failed")
        assert rig.queues.depth("edge-1") == 2000
        is_over.set()
        await busy
        await rig.delivery.sweep.run()
        await rig.stored(many, "failed")


async def test_a_prefix_purge_stands_for_the_older_urls_below_it(tmp_path: Path) -> None:
    edge = dead()
    table = {"edge-1": {"driver": "nginx", "wildcard": True}}
    async with rig_of(tmp_path, {"edge-1": edge}, table) as rig:
        urls = rig.submit(
            targets=["http://a.com/img/1", "http://a.com/img/2", "http://a.com/other"], due_s=0.2
        )
        await rig.stored(urls, "partial")
        wide = rig.submit(kind="prefix", targets=["http://a.com/img/"], due_s=0.2)
        await rig.stored(wide, "partial")
        younger = rig.submit(targets=["http://a.com/img/1"], due_s=0.2)
        await rig.stored(younger, "partial")
        with edge:
            for task in (urls, wide, younger):
                await rig.stored(task, "done")
        assert sorted(request.path for request in edge.requests) == [
            "/purge/img/*",
            "/purge/img/1",
            "/purge/other",
        ]


async def test_rows_of_a_node_that_is_forgotten_fail(tmp_path: Path) -> None:
    edge = dead()
    async with rig_of(tmp_path, {"edge-1": edge}) as rig:
        task = rig.submit(targets=[URL], due_s=0.2)
        await rig.stored(task, "partial")
        await rig.delivery.gone.forget("edge-1")
        found = await rig.stored(task, "failed")
        assert found["errors"][-1]["reason"] == "gone: not configured, and forgotten by an operator"


async def test_early_purges_on_a_connection_that_closes_early_are_all_sent_and_settled(
    tmp_path: Path,
) -> None:
    """More than a lane's turn, put back in the middle of a pipeline, while a task waits for the same URLs."""
    gate = threading.Event()

    def short(request: Request) -> Iterable[bytes | Act]:
        assert gate.wait(60)
        yield OK
        if request.place == 10:
            yield Act.CLOSE

    parent = dead()
    targets = [f"http://a.com/{number}" for number in range(100)]
    with FakeNode(short) as edge:
        nodes = {"parent-1": parent, "edge-1": edge}
        async with rig_of(tmp_path, nodes, connections_per_node=1) as rig:
            other = rig.submit(targets=targets, nodes=["edge-1"])
            await until(lambda: edge.requests)
            task = rig.submit(targets=targets[40:], due_s=0.2)
            await until(lambda: rig.queues.depth("edge-1") == 60)
            gate.set()
            await rig.stored(other, "done")
            await rig.stored(task, "partial")
            node = rig.node("edge-1")
            await until(lambda: not node.waiting_count and not node.in_flight, lambda: repr(node))
            assert set(edge.urls) == set(targets)
            assert rig.load.live == 0
            channels = (node.purges, node.prefetches)
            assert not any(channel._backlog._lanes or channel._queue._lanes for channel in channels)
            with parent:
                found = await rig.stored(task, "done")
                assert (found["counter"], found["delayed"]) == (120, 0)
                await until(lambda: not node.waiting_count and not node.in_flight, lambda: repr(node))
                assert rig.load.live == rig.queues.total() == 0


async def test_a_node_is_ready_when_its_purges_are_delivered_and_prefetches_come_after(
    tmp_path: Path,
) -> None:
    gate = threading.Event()

    def slow_origin(request: Request) -> Iterable[bytes | Act]:
        if request.method == "GET":
            assert gate.wait(60)
        yield OK

    edge = FakeNode(slow_origin)
    edge.start()
    edge.stop()
    async with rig_of(tmp_path, {"edge-1": edge}) as rig:
        fetch = rig.submit(action="prefetch", targets=[URL, URL + "2"], due_s=0.2)
        await rig.stored(fetch, "partial")
        purge = rig.submit(targets=[URL + "3"], due_s=0.2)
        await rig.stored(purge, "partial")
        with edge:
            await rig.stored(purge, "done")
            await until(lambda: rig.node("edge-1").state is NodeState.READY)
            await until(lambda: "GET" in {request.method for request in edge.requests})
            await rig.stored(rig.submit(targets=[URL + "4"]), "done")
            gate.set()
            await rig.stored(fetch, "done")
            assert edge.requests[0].path == "/a3"
            await until(lambda: rig.queues.total() == 0)


class HeldStore(SqliteStore):
    """Lets the test do something between the two reads of a delivery."""

    def __init__(self, path: Path, **parts: Any) -> None:
        super().__init__(path, **parts)
        self.is_between = threading.Event()
        self.gate = threading.Event()

    def wide_parked(self, node: str) -> list[ParkedRow]:
        self.is_between.set()
        assert self.gate.wait(60)
        return super().wide_parked(node)


async def test_a_delivery_ends_when_its_rows_are_cancelled_between_the_reads(tmp_path: Path) -> None:
    edge = dead()
    async with rig_of(tmp_path, {"edge-1": edge}, store_kind=HeldStore) as rig:
        assert isinstance(rig.store, HeldStore)
        task = rig.submit(targets=[URL], due_s=0.2)
        await rig.stored(task, "partial")
        with edge:
            await until(rig.store.is_between.is_set)
            rig.saver.unpark_task(task.id, lambda: None)
            assert await rig.saver.drain(60)
            rig.store.gate.set()
            await until(lambda: rig.node("edge-1").state is NodeState.READY)
            await until(lambda: rig.queues.total() == 0)
            await rig.stored(rig.submit(targets=[URL + "2"]), "done")
            assert edge.urls == [URL + "2"]


async def test_the_depth_is_exact_although_it_is_counted_while_rows_come_and_go(tmp_path: Path) -> None:
    """Rows are parked and cancelled, on their way to the file, while what is in the file is counted."""
    async with rig_of(tmp_path, {"edge-1": dead()}) as rig:
        queues = rig.queues
        for number in range(60):
            counting = asyncio.gather(queues.recount("edge-1"), queues.recount("edge-1"))
            tasks = [rig.submit(targets=[f"{URL}/{number}/{n}" for n in range(3)]) for _ in range(3)]
            while not counting.done():
                await asyncio.sleep(0.0005)
                if tasks and tasks[-1].shares and tasks[-1].shares[0].delayed_count:
                    rig.dispatch.cancel(tasks.pop())
            await counting
            await until(lambda: not rig.load.live)
            assert await rig.saver.drain(60)
            assert queues.depth("edge-1") == rig.store.depth("edge-1").count > 0


class FailingStore(SqliteStore):
    """Each reading function of a delivery fails the first time."""

    def __init__(self, path: Path, **parts: Any) -> None:
        super().__init__(path, **parts)
        self.failed: set[str] = set()

    def _fail_once(self, name: str) -> None:
        if name not in self.failed:
            self.failed.add(name)
            raise StoreError(f"{name}: cannot be read now")

    def oldest_parked(self, node: str, limit: int, purges_only: bool = False) -> list[ParkedRow]:
        self._fail_once("oldest_parked")
        return super().oldest_parked(node, limit, purges_only)

    def wide_parked(self, node: str) -> list[ParkedRow]:
        self._fail_once("wide_parked")
        return super().wide_parked(node)

    def parked_like(
        self, node: str, targets: Sequence[tuple[int, str]], among: Sequence[ParkedRow]
    ) -> list[ParkedRow]:
        self._fail_once("parked_like")
        return super().parked_like(node, targets, among)


async def test_a_delivery_that_cannot_read_its_rows_tries_again(tmp_path: Path) -> None:
    edge = dead()
    async with rig_of(tmp_path, {"edge-1": edge}, store_kind=FailingStore) as rig:
        assert isinstance(rig.store, FailingStore)
        task = rig.submit(targets=[URL, URL + "2"], due_s=0.2)
        await rig.stored(task, "partial")
        with edge:
            await rig.stored(task, "done")
            await until(lambda: rig.node("edge-1").state is NodeState.READY)
            assert rig.store.failed == {"oldest_parked", "wide_parked", "parked_like"}
            assert [alert[:2] for alert in rig.alerts].count(("store:read", "error")) == 3
            assert sorted(edge.urls) == [URL, URL + "2"]


async def test_an_edge_that_returns_before_its_parent_is_purged_at_once_and_again_after_it(
    tmp_path: Path,
) -> None:
    """Both were down when the purge came; until then visitors of the edge would be given the old page."""
    parent, edge = dead(), dead()
    async with rig_of(tmp_path, {"parent-1": parent, "edge-1": edge}) as rig:
        task = rig.submit(targets=[URL], prefetch=True, due_s=0.2)
        assert (await rig.stored(task, "partial"))["delayed"] == 4
        with edge:
            await until(lambda: edge.urls == [URL])
            assert json.loads(rig.store.document(task.id) or b"")["counter"] == 0
            with parent:
                await rig.stored(task, "done")
            assert [request.method for request in edge.requests] == ["PURGE", "PURGE", "GET"]


@pytest.mark.parametrize("gone", ["parent-1", "edge-1"])
async def test_rows_of_a_removed_node_are_counted_once_and_the_rest_is_delivered(
    tmp_path: Path, gone: str
) -> None:
    """Both layers have delayed rows, and the edge's wait for the parent's."""
    nodes = {"parent-1": dead(), "edge-1": dead()}
    async with rig_of(tmp_path, nodes) as rig:
        task = rig.submit(targets=[URL, URL + "2", URL + "3"], due_s=0.2)
        assert (await rig.stored(task, "partial"))["delayed"] == 6
        await until(lambda: rig.regions.get(task.id) is None)
        await rig.delivery.gone.forget(gone)
        found = await rig.stored(task, "partial")
        assert (found["counter"], found["failed"], found["delayed"]) == (0, 3, 3)
        assert sorted(layer["delayed"] + layer["failed"] for layer in found["layers"]) == [3, 3]
        left = (nodes.keys() - {gone}).pop()
        with nodes[left]:
            found = await rig.stored(task, "failed")
        layers = {layer["name"]: layer for layer in found["layers"]}
        one, other = layers[gone.partition("-")[0]], layers[left.partition("-")[0]]
        assert (one["counter"], one["failed"], one["delayed"]) == (0, 3, 0)
        assert (other["counter"], other["failed"], other["delayed"]) == (3, 0, 0)
        assert rig.store.depths() == {}


async def test_an_id_posted_again_does_not_swallow_the_delivery_of_its_old_rows(tmp_path: Path) -> None:
    """The new task waits for the saver to say that the id is known; it is not the one with the rows."""
    edge = dead()
    body = {"id": "same", "targets": [URL]}
    async with rig_of(tmp_path, {"edge-1": edge}) as rig:
        task = rig.submit(**body, due_s=0.2)
        await rig.stored(task, "partial")
        await until(lambda: rig.regions.get("same") is None)
        again = rig.validator.task(json.dumps(body).encode(), all_hosts)
        again.waiters = [lambda reply: None]
        assert rig.regions.add(again) is again
        with edge:
            found = await rig.stored(task, "done")
            assert (found["counter"], found["delayed"]) == (1, 0)
        rig.regions.remove("same")


@pytest.mark.parametrize("status", [403, 405])
async def test_a_refused_wide_purge_waits_and_the_urls_below_it_are_sent_by_themselves(
    tmp_path: Path, status: int
) -> None:
    def no_bans(request: Request) -> Iterable[bytes | Act]:
        yield answer(status, b"no") if request.path.endswith("*") else OK

    edge = FakeNode(no_bans)
    edge.start()
    edge.stop()
    table = {"edge-1": {"driver": "nginx", "wildcard": True}}
    async with rig_of(tmp_path, {"edge-1": edge}, table) as rig:
        urls = rig.submit(targets=[f"http://a.com/img/{number}" for number in range(5)], due_s=0.2)
        await rig.stored(urls, "partial")
        wide = rig.submit(kind="prefix", targets=["http://a.com/img/"], due_s=0.2)
        await rig.stored(wide, "partial")
        with edge:
            found = await rig.stored(urls, "done")
            assert (found["counter"], found["failed"]) == (5, 0)
            assert rig.stats.subtasks_redelivered == 5
            assert (await rig.stored(wide, "partial"))["delayed"] == 1
            edge.script = always(OK)
            await rig.stored(wide, "done")


async def test_what_a_cache_that_was_away_had_nothing_of_is_absent(tmp_path: Path) -> None:
    """Whether its task is still in memory then or not; another task's part of the same request, too."""
    edge = dead()

    def nothing(request: Request) -> Iterable[bytes | Act]:
        yield OK if request.path == "/had" else answer(404)

    edge.script = nothing
    with FakeNode(nothing) as other:
        async with rig_of(tmp_path, {"edge-1": edge, "edge-2": other}) as rig:
            targets = ["http://a.com/had", "http://a.com/not"]
            tasks = [rig.submit(targets=targets) for _ in range(2)]
            for task in tasks:
                found = await rig.stored(task, "partial")
                assert (found["counter"], found["absent"]) == (2, 1)
            edge.start()
            for task in tasks:
                found = await rig.stored(task, "done")
                assert (found["counter"], found["absent"]) == (4, 2)
            edge.stop()

"""Rebounds: every purge by URL once more, for fetches of the old object that visitors began."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from engine.errors import RequestError
from engine.nodes.health import NodeState
from engine.tasks.words import State
from tests.fakes.node import Act, FakeNode, always, answer
from tests.rigs.delivery_rig import rig_of
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.waiting import until, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.node import Request

URL, OTHER = "http://a.com/1", "http://a.com/2"


def asked(node: FakeNode) -> list[str]:
    """Return what a cache was asked for, in order."""
    return [f"{request.method} {request.path}" for request in node.requests]


async def test_a_task_is_done_at_the_first_ack_and_its_purges_go_out_once_more(tmp_path: Path) -> None:
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            task = rig.submit(targets=[URL, OTHER], rebound_s=0.3)
            await until(lambda: task.state is State.DONE)
            assert sorted(asked(edge)) == ["PURGE /1", "PURGE /2"]
            assert rig.load.live == 0
            assert rig.store.document(task.id) is None
            assert [len(records) for _, records in rig.store.journal()] == [1]
            found = await rig.stored(task, "done")
            assert (found["total"], found["counter"]) == (2, 2)
            assert sorted(asked(edge)) == ["PURGE /1", "PURGE /1", "PURGE /2", "PURGE /2"]
            await until(lambda: not list(rig.store.journal()))
            assert rig.stats.tasks_done == 1


async def test_parents_are_purged_first_again_and_prefetches_come_after_that(tmp_path: Path) -> None:
    with FakeNode() as parent, FakeNode() as edge:
        async with rig_of(tmp_path, {"parent": parent, "edge-1": edge}) as rig:
            task = rig.submit(targets=[URL], rebound_s=0.1, prefetch=True)
            found = await rig.stored(task, "done")
            assert (found["total"], found["counter"]) == (4, 4)
            assert asked(parent) == asked(edge) == ["PURGE /1", "PURGE /1", "GET /1"]
            times = [request.at for request in (*parent.requests, *edge.requests)]
            first_parent, again_parent, get_parent, first_edge, again_edge, get_edge = times
            assert first_parent < first_edge < again_parent < again_edge < get_edge
            assert again_parent < get_parent < get_edge
            assert again_parent - first_edge >= 0.1


async def test_what_failed_is_not_sent_again_and_its_prefetch_neither(tmp_path: Path) -> None:
    def script(request: object) -> list[bytes]:
        return [answer(400) if getattr(request, "path", "") == "/1" else answer(200)]

    with FakeNode(script) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            task = rig.submit(targets=[URL, OTHER], rebound_s=0.1, prefetch=True)
            found = await rig.stored(task, "failed")
            assert (found["counter"], found["failed"]) == (2, 2)
            assert sorted(asked(edge)[:2]) == ["PURGE /1", "PURGE /2"]
            assert asked(edge)[2:] == ["PURGE /2", "GET /2"]


async def test_a_cancelled_task_has_no_rebound(tmp_path: Path) -> None:
    with FakeNode() as edge, FakeNode(always(Act.HANG)) as stuck:
        async with rig_of(tmp_path, {"edge-1": edge, "edge-2": stuck}, request_timeout_s=0.5) as rig:
            task = rig.submit(targets=[URL], rebound_s=0.1)
            await until(lambda: stuck.requests and asked(edge))
            rig.dispatch.cancel(task)
            await rig.stored(task, "cancelled")
            assert asked(edge) == ["PURGE /1"]


async def test_a_node_that_goes_away_meanwhile_is_purged_again_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.delivery.rebound._AGAIN_S", 0.1)
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connect_timeout_s=1) as rig:
            task = rig.submit(targets=[URL], rebound_s=0.2)
            await until(lambda: task.state is State.DONE)
            edge.stop()
            node = rig.node("edge-1")
            await until(lambda: node.state is NodeState.DOWN)
            await asyncio.sleep(0.1)
            edge.start()
            await rig.stored(task, "done")
            assert asked(edge) == ["PURGE /1", "PURGE /1"]


async def test_what_waits_for_its_node_has_no_rebound(tmp_path: Path) -> None:
    """It is purged late anyway; the prefetch waits for that."""
    with FakeNode() as edge, FakeNode() as away:
        away.stop()
        async with rig_of(tmp_path, {"edge-1": edge, "edge-2": away}, connect_timeout_s=1) as rig:
            task = rig.submit(targets=[URL], rebound_s=0.1, prefetch=True, due_s=0.3)
            await rig.stored(task, "partial")
            assert asked(edge) == ["PURGE /1", "PURGE /1", "GET /1"]
            away.start()
            found = await rig.stored(task, "done")
            assert found["counter"] == 4
            assert asked(away) == ["PURGE /1", "GET /1"]


async def test_a_prefetch_sees_that_the_purge_before_it_was_delivered_while_it_waited_for_a_parents(
    tmp_path: Path,
) -> None:
    """It has waited for the second purge, which was not worth it: the first was in the delay queue then."""
    fetched = threading.Event()

    def script(request: Request) -> Iterator[bytes]:
        if request.method == "GET":
            fetched.wait(30)
        yield answer(200)

    with FakeNode(script) as parent, FakeNode() as edge:
        edge.stop()
        async with rig_of(tmp_path, {"parent": parent, "edge-1": edge}, connect_timeout_s=1) as rig:
            task = rig.submit(targets=[URL], rebound_s=0.1, prefetch=True)
            await until(lambda: "GET /1" in asked(parent))
            edge.start()
            await until(lambda: asked(edge) == ["PURGE /1"])
            await until(lambda: rig.node("edge-1").state is NodeState.READY)
            fetched.set()
            found = await rig.stored(task, "done")
            assert (found["counter"], found["delayed"]) == (4, 0)
            assert asked(edge) == ["PURGE /1", "GET /1"]


async def test_a_task_whose_edge_waits_below_a_purged_parent_ends_once(tmp_path: Path) -> None:
    with FakeNode() as parent, FakeNode() as edge:
        edge.stop()
        async with rig_of(tmp_path, {"parent": parent, "edge-1": edge}, connect_timeout_s=1) as rig:
            task = rig.submit(targets=[URL], rebound_s=0.1, due_s=0.3)
            await rig.stored(task, "partial")
            assert asked(parent) == ["PURGE /1", "PURGE /1"]
            edge.start()
            found = await rig.stored(task, "done")
            assert (found["counter"], found["delayed"]) == (2, 0)
            await until(lambda: rig.regions.get(task.id) is None)
            await until(lambda: not list(rig.store.journal()))
            assert rig.load.live == 0


@pytest.mark.parametrize("rebound_s", [-1, 3601, "1", True])
async def test_rebound_s_takes_seconds(tmp_path: Path, rebound_s: object) -> None:
    with FakeNode() as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            with pytest.raises(RequestError, match="rebound_s: "):
                rig.submit(targets=[URL], rebound_s=rebound_s)
            with pytest.raises(RequestError, match="rebound_s: only a purge by url"):
                rig.submit(targets=["http://a.com/"], kind="prefix", rebound_s=1)


def test_a_rebound_survives_a_crash(tmp_path: Path) -> None:
    """The task is done for its client; after a restart it is begun again, its rebound too."""
    with FakeNode() as edge:
        tables = fake_table(edge.url, name="edge-1", driver="ats")
        with EngineProcess(tmp_path, tables, rebound_s=600) as engine:
            task_id = engine.submit([URL])
            assert engine.wait_for(task_id)["counter"] == 1
            engine.kill()
        with EngineProcess(tmp_path, tables, rebound_s=0.2) as engine:
            assert engine.wait_for(task_id)["counter"] == 1
            wait_until(lambda: len(edge.requests) == 3, what="the rebound")

"""Unreachable nodes: what is parked, what is delivered, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.node import NodeState
from tests.engine.rig import rig_of, until
from tests.fakes.node import OK, PROBE_PATH, Act, FakeNode, Request, answer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

URL = "http://img.example.com/a"


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
        assert rig.dispatch.delay.depth("edge-1") == 4
        assert rig.dispatch.delay.oldest_s("edge-1") > 0
        with edge:
            for task in (first, second):
                found = await rig.stored(task, "done")
                assert (found["counter"], found["delayed"], found["errors"]) == (2, 0, [])
            await until(lambda: rig.node("edge-1").state is NodeState.READY)
            assert edge.urls == ["http://a.com/1", "http://a.com/2", "http://a.com/3"]
            assert rig.dispatch.delay.total() == 0
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
            assert rig.dispatch.delay.total() == 0


async def test_cancelling_takes_the_rows_of_a_dead_node_back(tmp_path: Path) -> None:
    edge = dead()
    async with rig_of(tmp_path, {"edge-1": edge}) as rig:
        task = rig.submit(targets=[URL, URL + "2"])
        await until(lambda: rig.dispatch.delay.depth("edge-1") == 2)
        assert rig.dispatch.cancel(task) == 2
        await rig.stored(task, "cancelled")
        assert await rig.saver.drain(60)
        assert rig.store.depths() == {}
        assert rig.dispatch.delay.total() == 0


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


async def test_rows_of_a_node_that_is_not_configured_any_more_fail(tmp_path: Path) -> None:
    edge = dead()
    async with rig_of(tmp_path, {"edge-1": edge}) as rig:
        task = rig.submit(targets=[URL], due_s=0.2)
        await rig.stored(task, "partial")
        await rig.dispatch.delay.drop_unknown("edge-1")
        found = await rig.stored(task, "failed")
        assert "not configured any more" in found["errors"][-1]["reason"]

"""Tasks through real nodes: who is asked when, what counts, and how tasks end."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest

from engine.nodes.health import NodeState
from engine.tasks.words import State
from tests.fakes.node import OK, Act, FakeNode, Request, always, answer
from tests.rigs.delivery_rig import rig_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

URL = "http://img.example.com/a"
ABSENT = answer(404)


async def test_a_task_is_done_when_every_node_acked_or_had_nothing(tmp_path: Path) -> None:
    with FakeNode() as parent, FakeNode(always(ABSENT)) as edge:
        async with rig_of(tmp_path, {"parent-1": parent, "edge-1": edge}) as rig:
            task = rig.submit(targets=[URL, URL + "2"])
            found = await rig.stored(task, "done")
            assert (found["total"], found["counter"], found["failed"], found["errors"]) == (4, 4, 0, [])
            assert [layer["name"] for layer in found["layers"]] == ["parent", "edge"]
            assert sorted(parent.urls) == sorted(edge.urls) == [URL, URL + "2"]
            assert (
                max(request.at for request in parent.requests) <= min(request.at for request in edge.requests)
                or len(parent.requests) == 2
            )
            await until(lambda: rig.regions.get(task.id) is None)
            await until(lambda: rig.store.count()["journal_rows"] == 0)
            assert rig.load.live == 0
            assert not task.shares


async def test_an_edge_is_asked_only_after_its_parent_answered(tmp_path: Path) -> None:
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        assert gate.wait(60)
        yield OK

    with FakeNode(held) as parent, FakeNode() as edge:
        async with rig_of(tmp_path, {"parent-1": parent, "edge-1": edge}) as rig:
            task = rig.submit(targets=[URL])
            await until(lambda: parent.requests)
            assert edge.requests == []
            gate.set()
            await rig.stored(task, "done")
            assert edge.urls == [URL]


async def test_below_a_parent_that_refuses_an_edge_is_purged_at_once_and_again_after_it(
    tmp_path: Path,
) -> None:
    with FakeNode(always(answer(403, b"no"))) as parent, FakeNode() as edge:
        async with rig_of(tmp_path, {"parent-1": parent, "edge-1": edge}) as rig:
            task = rig.submit(targets=[URL])
            found = await rig.stored(task, "partial")
            assert (found["failed"], found["delayed"]) == (0, 2)
            [error] = found["errors"]
            assert (error["node"], error["target"]) == ("parent-1", URL)
            assert "refused" in error["reason"]
            assert ("refused:parent-1", "error") in [alert[:2] for alert in rig.alerts]
            await until(lambda: edge.urls == [URL])
            parent.script = always(OK)
            assert (await rig.stored(task, "done"))["counter"] == 2
            assert edge.urls == [URL, URL]


async def test_a_parent_that_fails_for_good_fails_the_task_and_the_edge_is_purged_all_the_same(
    tmp_path: Path,
) -> None:
    with FakeNode(always(answer(400, b"no"))) as parent, FakeNode() as edge:
        async with rig_of(tmp_path, {"parent-1": parent, "edge-1": edge}) as rig:
            task = rig.submit(targets=[URL])
            found = await rig.stored(task, "failed")
            assert edge.urls == [URL]
            assert (found["counter"], found["failed"]) == (1, 1)
            [error] = found["errors"]
            assert (error["node"], error["target"], error["reason"]) == (
                "parent-1",
                URL,
                "answered 400: Said",
            )


async def test_a_passing_trouble_is_tried_again_and_a_lasting_one_is_kept(tmp_path: Path) -> None:
    seen: dict[str, int] = {}

    def troubled(request: Request) -> Iterable[bytes | Act]:
        seen[request.path] = seen.get(request.path, 0) + 1
        yield OK if request.path == "/a" and seen["/a"] == 3 else answer(503)

    with FakeNode(troubled) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            good, bad = rig.submit(targets=[URL]), rig.submit(targets=[URL + "bad"], due_s=0.1)
            assert (await rig.stored(good, "done"))["errors"] == []
            found = await rig.stored(bad, "partial")
            assert (found["failed"], found["delayed"]) == (0, 1)
            assert "503, 5 times; it is tried again" in found["errors"][0]["reason"]
            assert (seen["/a"], rig.node("edge-1").state) == (3, NodeState.READY)
            edge.script = always(OK)
            assert (await rig.stored(bad, "done"))["errors"] == []
            await until(lambda: rig.queues.total() == 0)


async def test_below_a_parent_that_answers_wrongly_an_edge_is_purged_at_once_and_again_after_it(
    tmp_path: Path,
) -> None:
    with FakeNode(always(answer(503))) as parent, FakeNode() as edge:
        async with rig_of(tmp_path, {"parent-1": parent, "edge-1": edge}) as rig:
            task = rig.submit(targets=[URL], due_s=0.2)
            found = await rig.stored(task, "partial")
            assert (found["failed"], found["delayed"]) == (0, 2)
            await until(lambda: edge.urls == [URL])
            parent.script = always(OK)
            assert (await rig.stored(task, "done"))["counter"] == 2
            assert edge.urls == [URL, URL]


async def test_a_prefetch_waits_for_its_purge_that_is_answered_wrongly(tmp_path: Path) -> None:
    def troubled(request: Request) -> Iterable[bytes | Act]:
        yield answer(503) if request.method == "PURGE" else OK

    with FakeNode(troubled) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            task = rig.submit(targets=[URL], prefetch=True, due_s=0.2)
            found = await rig.stored(task, "partial")
            assert (found["failed"], found["delayed"]) == (0, 2)
            edge.script = always(OK)
            await rig.stored(task, "done")
            assert [request.method for request in edge.requests][-2:] == ["PURGE", "GET"]


async def test_a_node_that_answers_half_of_its_requests_wrongly_loses_nothing(tmp_path: Path) -> None:
    draw = random.Random(7)

    def moody(request: Request) -> Iterable[bytes | Act]:
        yield answer(503) if draw.random() < 0.5 else OK

    with FakeNode(moody) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            task = rig.submit(targets=[f"{URL}/{number}" for number in range(400)], due_s=0.2)
            found = await rig.stored(task, "done")
            assert (found["counter"], found["failed"], found["errors"]) == (400, 0, [])
            await until(lambda: rig.queues.total() == 0 and not rig.node("edge-1").postponed)


async def test_a_cancelled_task_takes_its_postponed_rows_back(tmp_path: Path) -> None:
    """While another of its subtasks is on the wire; without one the store alone would have the task."""
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        assert request.path == "/a" or gate.wait(60)
        yield answer(503) if request.path == "/a" else OK

    with FakeNode(held) as edge:
        # in a pipeline another attempt could stand behind the one that is held, until that times out
        async with rig_of(tmp_path, {"edge-1": edge}, pipeline_depth=1) as rig:
            task = rig.submit(targets=[URL, f"{URL}/held"])
            await until(lambda: rig.queues.depth("edge-1") == 1)
            assert rig.dispatch.cancel(task) == 2
            gate.set()
            await rig.stored(task, "cancelled")
            await until(lambda: rig.queues.total() == 0)


async def test_a_purge_that_fetches_again_fetches_after_its_purge_and_not_after_a_failed_one(
    tmp_path: Path,
) -> None:
    def picky(request: Request) -> Iterable[bytes | Act]:
        yield answer(400) if (request.method, request.path) == ("PURGE", "/no") else OK

    with FakeNode(picky) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            good = rig.submit(targets=[URL], prefetch=True)
            await rig.stored(good, "done")
            assert [(request.method, request.path) for request in edge.requests] == [
                ("PURGE", "/a"),
                ("GET", "/a"),
            ]
            bad = rig.submit(targets=["http://img.example.com/no"], prefetch=True)
            found = await rig.stored(bad, "failed")
            assert found["failed"] == 2
            assert [request.path for request in edge.requests if request.method == "GET"] == ["/a"]
            assert "not prefetched, because its purge failed" in found["errors"][-1]["reason"]


async def test_out_of_the_delay_queue_nothing_is_fetched_whose_purge_failed_or_waits(tmp_path: Path) -> None:
    """One purge fails for good, another is refused and done later: fetched before would be the old object."""
    refuses = True

    def picky(request: Request) -> Iterable[bytes | Act]:
        statuses = {"/bad": 400, "/closed": 403 if refuses else 200}
        yield OK if request.method == "GET" else answer(statuses.get(request.path, 200))

    def fetched() -> list[str]:
        return [request.path for request in edge.requests if request.method == "GET"]

    with FakeNode(picky) as edge:
        edge.stop()
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            tasks = {
                name: rig.submit(targets=[f"http://img.example.com/{name}"], prefetch=True)
                for name in ("good", "bad", "closed")
            }
            for task in tasks.values():
                await rig.stored(task, "partial")
            edge.start()
            await rig.stored(tasks["good"], "done")
            found = await rig.stored(tasks["bad"], "failed")
            assert found["failed"] == 2
            assert "not prefetched, because its purge failed" in [e["reason"] for e in found["errors"]]
            assert (await rig.stored(tasks["closed"], "partial"))["delayed"] == 2
            assert fetched() == ["/good"]
            refuses = False
            await rig.stored(tasks["closed"], "done")
            assert fetched() == ["/good", "/closed"]


async def test_the_same_target_of_many_tasks_is_sent_once_and_settles_all(tmp_path: Path) -> None:
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        assert gate.wait(60)
        yield OK

    with FakeNode(held) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1) as rig:
            first = rig.submit(targets=[URL])
            await until(lambda: edge.requests)
            tasks = [rig.submit(targets=[URL]) for _ in range(20)]
            await until(lambda: all(task.shares for task in tasks))
            gate.set()
            for task in [first, *tasks]:
                await rig.stored(task, "done")
            assert len(edge.requests) == 2  # on the wire already; then one for all that waited
            assert rig.node("edge-1").coalesced == 19


async def test_what_has_no_answer_is_cancelled_and_an_answer_that_comes_is_counted(tmp_path: Path) -> None:
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        assert gate.wait(60)
        yield OK

    with FakeNode(held) as parent, FakeNode() as edge:
        async with rig_of(
            tmp_path, {"parent-1": parent, "edge-1": edge}, connections_per_node=1, pipeline_depth=1
        ) as rig:
            task = rig.submit(targets=[f"http://a.com/{number}" for number in range(10)])
            await until(lambda: parent.requests)
            assert rig.dispatch.cancel(task) == 20
            assert rig.dispatch.cancel(task) == 0
            found = await rig.stored(task, "cancelled")
            assert (found["counter"], found["cancelled"]) == (0, 20)
            gate.set()
            await until(lambda: not rig.load.live)
            assert await rig.saver.drain(60)
            found = await rig.stored(task, "cancelled")
            assert (found["counter"], found["cancelled"], found["total"]) == (1, 19, 20)
            assert [layer["cancelled"] for layer in found["layers"]] == [9, 10]
            assert rig.regions.get(task.id) is None
            assert len(parent.requests) == 1
            assert edge.requests == []
            assert rig.load.live == 0


@pytest.mark.parametrize("end", ["lost", "down", "odd"])
async def test_nothing_of_a_cancelled_task_is_sent_again_or_parked(tmp_path: Path, end: str) -> None:
    """Its requests on the wire get no answer, or one that asks for another attempt."""
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        assert gate.wait(60)
        yield answer(500) if end == "odd" else Act.RESET

    with FakeNode(held) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1, pipeline_depth=4) as rig:
            task = rig.submit(targets=[f"http://a.com/{number}" for number in range(10)])
            await until(lambda: edge.requests and all(node.purges.in_flight for node in rig.nodes.values()))
            other = rig.submit(targets=["http://a.com/9", "http://b.com/"], due_s=0.2)
            await until(lambda: other.shares)
            assert rig.dispatch.cancel(task) == 10
            if end == "down":
                edge.stop()
            gate.set()
            if end == "down":
                found = await rig.stored(other, "partial")
                assert found["delayed"] == 2
                edge.start()
            edge.script = always(OK)
            await rig.stored(other, "done")
            await until(lambda: rig.regions.get(task.id) is None)
            assert await rig.saver.drain(60)
            found = await rig.stored(task, "cancelled")
            numbers = [found[key] for key in ("total", "counter", "failed", "delayed", "cancelled")]
            assert numbers == [10, 0, 0, 0, 10]
            urls = [request.url for request in edge.requests]
            assert all(urls.count(f"http://a.com/{number}") <= 1 for number in range(9))
            assert rig.queues.total() == rig.load.live == 0


async def test_at_its_due_time_a_task_with_something_left_is_partial_and_can_still_be_done(
    tmp_path: Path,
) -> None:
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        assert gate.wait(60)
        yield OK

    with FakeNode(held) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            task = rig.submit(targets=[URL], due_s=0.05)
            await until(lambda: task.state is State.PARTIAL)
            gate.set()
            await rig.stored(task, "done")


async def test_draining_waits_for_what_is_on_its_way(tmp_path: Path) -> None:
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        assert gate.wait(60)
        yield OK

    with FakeNode(held) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            assert await rig.load.drain(0)
            task = rig.submit(targets=[URL])
            assert not await rig.load.drain(0.05)
            gate.set()
            assert await rig.load.drain(60)
            assert task.state is State.DONE


async def test_a_large_task_does_not_hold_up_a_small_one(tmp_path: Path) -> None:
    begin = threading.Event()

    def script(_request: Request) -> Iterator[bytes]:
        begin.wait(30)
        yield OK

    with FakeNode(script) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1) as rig:
            large = rig.submit(targets=[f"http://large.com/{number}" for number in range(5000)])
            await until(lambda: edge.requests)
            small = rig.submit(targets=["http://small.com/"])
            await until(lambda: small.shares)
            begin.set()
            await rig.stored(small, "done")
            await rig.stored(large, "done")
            place = [request.host for request in edge.requests].index("small.com")
            assert place < 4900
            assert len(edge.requests) == 5001
            assert rig.node("edge-1").state is NodeState.READY

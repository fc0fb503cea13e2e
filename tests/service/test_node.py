"""A node that answers wrongly, slowly, partly or not at all."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from engine.nodes.health import NodeState
from engine.nodes.holds import REFUSALS_BEFORE_HOLD
from tests.fakes.node import OK, PROBE_PATH, Act, FakeNode, Request, always, answer
from tests.rigs.delivery_rig import rig_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

REFUSED = answer(403, b"no")


def urls(count: int, host: str = "a.com") -> list[str]:
    return [f"http://{host}/{number}" for number in range(count)]


async def test_a_node_that_refuses_is_not_hammered_and_other_hosts_go_on(tmp_path: Path) -> None:
    def picky(request: Request) -> Iterable[bytes | Act]:
        yield REFUSED if request.host == "a.com" else OK

    with FakeNode(picky) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1, pipeline_depth=1) as rig:
            bad, good = rig.submit(targets=urls(200)), rig.submit(targets=urls(5, "b.com"))
            await rig.stored(good, "done")
            found = await rig.stored(bad, "partial")
            assert (found["failed"], found["delayed"]) == (0, 200)
            asked = sum(request.host == "a.com" for request in edge.requests)
            assert REFUSALS_BEFORE_HOLD <= asked < REFUSALS_BEFORE_HOLD + 5
            assert "not sent, because it has refused" in found["errors"][-1]["reason"]
            assert rig.node("edge-1").holds.refused_since()
            assert rig.node("edge-1").state is NodeState.READY


async def test_refused_bans_of_a_host_hold_no_purge_of_it_and_go_out_when_one_is_acked(
    tmp_path: Path,
) -> None:
    """The node stays ready, what it takes is sent as ever, and the held rows are the same task's."""

    def no_bans(request: Request) -> Iterable[bytes | Act]:
        yield REFUSED if request.method == "BAN" else OK

    with FakeNode(no_bans) as edge:
        tables = {"edge-1": {"driver": "varnish"}}
        async with rig_of(tmp_path, {"edge-1": edge}, tables) as rig:
            bans = rig.submit(kind="prefix", targets=[f"{url}/" for url in urls(40)])
            found = await rig.stored(bans, "partial")
            assert (found["failed"], found["delayed"]) == (0, 40)
            assert "refused: answered 403" in found["errors"][0]["reason"]
            node = rig.node("edge-1")
            await rig.stored(rig.submit(targets=urls(40)), "done")
            assert (node.state, node.holds.refused_since() is None) == (NodeState.READY, False)
            [held] = node.holds.documents()
            assert (held["host"], held["operation"]) == ("a.com", "purge_prefix")
            edge.script = always(OK)
            found = await rig.stored(bans, "done")
            assert (found["counter"], found["errors"]) == (40, [])
            assert node.holds.refused_since() is None
            assert ("refused:edge-1", "resolved") in [alert[:2] for alert in rig.alerts]


async def test_a_node_that_returns_is_ready_beside_the_rows_of_a_host_that_it_refuses(tmp_path: Path) -> None:
    """Rows of another host behind them are delivered at the return."""

    def picky(request: Request) -> Iterable[bytes | Act]:
        yield REFUSED if request.host == "a.com" else OK

    with FakeNode(picky) as edge:
        edge.stop()
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            bad, good = rig.submit(targets=urls(50)), rig.submit(targets=urls(5, "b.com"))
            for task in (bad, good):
                await rig.stored(task, "partial")
            edge.start()
            await rig.stored(good, "done")
            await until(lambda: rig.node("edge-1").state is NodeState.READY)
            await rig.stored(rig.submit(targets=urls(5, "b.com")), "done")
            assert (await rig.stored(bad, "partial"))["failed"] == 0
            edge.script = always(OK)
            assert (await rig.stored(bad, "done"))["counter"] == 50


async def test_a_node_that_begins_to_refuse_has_one_request_a_connection(tmp_path: Path) -> None:
    """However often the pool looks for work before the next answer comes."""
    go_on = threading.Event()

    def slow(request: Request) -> Iterable[bytes | Act]:
        if len(edge.requests) > 1:
            go_on.wait(20)
        yield REFUSED

    with FakeNode(slow) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=2, pipeline_depth=64) as rig:
            task = rig.submit(targets=urls(200))
            node = rig.node("edge-1")
            await until(lambda: node.refused_count == 1)
            for _ in range(20):
                node.purges.wake()
                await asyncio.sleep(0.001)
                assert node.in_flight <= 2
            go_on.set()
            assert (await rig.stored(task, "partial"))["delayed"] == 200
            assert len(edge.requests) < REFUSALS_BEFORE_HOLD + 3


async def test_other_hosts_are_pipelined_while_one_is_on_trial(tmp_path: Path) -> None:
    """One refusal must not make a far cache slow for everybody."""
    go_on = threading.Event()

    def picky(request: Request) -> Iterable[bytes | Act]:
        if request.host == "a.com":
            yield REFUSED
        else:
            go_on.wait(20)
            yield OK

    with FakeNode(picky) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1, pipeline_depth=64) as rig:
            await rig.stored(rig.submit(targets=urls(1)), "partial")
            task = rig.submit(targets=urls(200, "b.com"))
            await until(lambda: rig.node("edge-1").in_flight == 64)
            assert not rig.node("edge-1").counting.acked_count
            go_on.set()
            await rig.stored(task, "done")


async def test_refused_purges_do_not_hold_prefetches_and_those_do_not_clear_them(tmp_path: Path) -> None:
    def no_purges(request: Request) -> Iterable[bytes | Act]:
        yield OK if request.method == "GET" else REFUSED

    with FakeNode(no_purges) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            await rig.stored(rig.submit(targets=urls(30)), "partial")
            await rig.stored(rig.submit(action="prefetch", targets=urls(3)), "done")
            assert rig.node("edge-1").holds.refused_since()
            assert not [alert for alert in rig.alerts if alert[1] == "resolved"]


@pytest.mark.parametrize("act", [Act.CLOSE, Act.RESET])
async def test_a_connection_that_ends_early_has_its_tail_sent_again(tmp_path: Path, act: Act) -> None:
    def short(request: Request) -> Iterable[bytes | Act]:
        yield OK
        if request.place == 10:
            yield act

    with FakeNode(short) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            task = rig.submit(targets=urls(200))
            found = await rig.stored(task, "done")
            assert found["counter"] == 200
            assert set(edge.urls) == set(urls(200))
            assert edge.connections > 4


async def test_a_request_that_always_kills_the_connection_waits_alone(tmp_path: Path) -> None:
    def deadly(request: Request) -> Iterable[bytes | Act]:
        yield Act.RESET if request.path == "/13" else OK

    with FakeNode(deadly) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1) as rig:
            task = rig.submit(targets=urls(20), due_s=0.2)
            await until(lambda: rig.node("edge-1").counting.acked_count == 19)
            found = await rig.stored(task, "partial")
            assert (found["counter"] + found["delayed"], found["failed"]) == (20, 0)
            edge.script = always(OK)
            assert (await rig.stored(task, "done"))["counter"] == 20


async def test_a_node_whose_purges_hang_while_its_probes_are_answered_loses_nothing(tmp_path: Path) -> None:
    """After its return it has one request of what it hung on, not all; others go on beside that."""

    def picky(request: Request) -> Iterable[bytes | Act]:
        yield Act.HANG if request.host == "a.com" else OK

    with FakeNode(picky) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, request_timeout_s=0.1, connections_per_node=1) as rig:
            task = rig.submit(targets=urls(3))
            await rig.stored(task, "partial")
            node = rig.node("edge-1")
            await until(lambda: edge.probes and node.state is NodeState.READY)
            later = rig.submit(targets=urls(300))
            await rig.stored(rig.submit(targets=urls(3, "b.com")), "done")
            assert (await rig.stored(later, "partial"))["failed"] == 0
            assert edge.probes == 1
            edge.script = always(OK)
            for each in (task, later):
                assert (await rig.stored(each, "done"))["errors"] == []


async def test_an_answer_that_closes_is_the_last_on_its_connection(tmp_path: Path) -> None:
    closing = answer(200, b"", "Connection: close")
    with FakeNode(lambda request: [closing, Act.CLOSE]) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            await rig.stored(rig.submit(targets=urls(12)), "done")
            assert edge.connections == 12


async def test_bodies_are_drained_and_the_buffers_come_back(tmp_path: Path) -> None:
    with FakeNode(always(answer(200, b"x" * 300_000))) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            await rig.stored(rig.submit(action="prefetch", targets=urls(20)), "done")
            await until(lambda: rig.buffers.lent_count == 0)


async def test_an_object_over_the_limit_fails_and_is_not_read_on(tmp_path: Path) -> None:
    with FakeNode(always(answer(200, b"x" * 3_000_000))) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, prefetch_max_bytes=100_000) as rig:
            found = await rig.stored(rig.submit(action="prefetch", targets=urls(1)), "failed")
            assert "over prefetch_max_bytes (100000" in found["errors"][0]["reason"]
            await until(lambda: rig.buffers.lent_count == 0)


async def test_a_node_that_hangs_goes_down_and_its_subtasks_are_delayed(tmp_path: Path) -> None:
    with FakeNode(always(Act.HANG)) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, request_timeout_s=0.1) as rig:
            found = await rig.stored(rig.submit(targets=urls(3), due_s=0.5), "partial")
            assert found["delayed"] == 3
            assert found["errors"][0]["reason"].startswith("sick: ")
            assert "no answer within 0.1 s" in found["errors"][0]["reason"]


@pytest.mark.parametrize("first_purge_after", [0, 8])
async def test_prefetches_whose_origin_hangs_wait_and_do_not_take_the_node_down(
    tmp_path: Path, first_purge_after: int
) -> None:
    """Each has its attempts; purges go on beside them, and are not what keeps the node up."""

    def hung_origin(request: Request) -> Iterable[bytes | Act]:
        yield Act.HANG if request.method == "GET" else OK

    settings: dict[str, Any] = {"prefetch_timeout_s": 0.1, "prefetch_concurrency": 2}
    with FakeNode(hung_origin) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, **settings) as rig:
            fetch = rig.submit(action="prefetch", targets=urls(3), due_s=0.2)
            await until(lambda: len(edge.requests) >= first_purge_after)
            purged = 0
            while rig.regions.get(fetch.id) is not None:
                await rig.stored(rig.submit(targets=urls(3, "b.com")), "done")
                purged += 1
                assert rig.node("edge-1").state is NodeState.READY
            found = await rig.stored(fetch, "partial")
            assert (found["failed"], found["delayed"]) == (0, 3)
            reasons = [error["reason"] for error in found["errors"]]
            assert ["no answer within 0.1 s, 5 times" in reason for reason in reasons] == [True] * 3
            assert purged
            assert rig.alerts == []
            edge.script = always(OK)
            assert (await rig.stored(fetch, "done"))["counter"] == 3


@pytest.mark.parametrize("garbage", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
async def test_a_node_that_does_not_speak_http_goes_down(tmp_path: Path, garbage: bytes) -> None:
    with FakeNode(always(garbage), answers_probes=False) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            await rig.stored(rig.submit(targets=urls(2), due_s=0.5), "partial")
            assert ("node:edge-1", "error") in [alert[:2] for alert in rig.alerts]


async def test_more_answers_than_requests_end_the_connection_and_harm_nobody(tmp_path: Path) -> None:
    with FakeNode(lambda request: [OK * 3]) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1, pipeline_depth=1) as rig:
            await rig.stored(rig.submit(targets=urls(5)), "done")
            assert len(edge.requests) >= 5


@pytest.mark.parametrize("status", [500, 503, 599, 401, 403])
async def test_a_node_that_comes_back_sick_or_locked_is_not_back(tmp_path: Path, status: int) -> None:
    """Its probe is answered, with that: not one row is sent, and the reason is shown."""
    wrong = answer(status, b"no")
    with FakeNode(always(wrong), answers_probes=False) as edge:
        edge.stop()
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            task = rig.submit(targets=urls(50), due_s=0.2)
            assert (await rig.stored(task, "partial"))["delayed"] == 50
            edge.start()
            await until(lambda: len(edge.requests) >= 3)
            assert {request.path for request in edge.requests} == {PROBE_PATH}
            node = rig.node("edge-1")
            assert node.health.is_down
            assert node.health.last_error == f"{edge.url} answered {status} to a probe"
            edge.script = always(OK)
            found = await rig.stored(task, "done")
            assert (found["counter"], found["failed"]) == (50, 0)
            await until(lambda: node.state is NodeState.READY)


@pytest.mark.parametrize("status", [200, 404, 405, 412])
async def test_any_other_answer_to_a_probe_is_a_return(tmp_path: Path, status: int) -> None:
    def script(request: Request) -> Iterable[bytes | Act]:
        yield answer(status) if request.path == PROBE_PATH else OK

    with FakeNode(script, answers_probes=False) as edge:
        edge.stop()
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            task = rig.submit(targets=urls(1), due_s=0.2)
            await rig.stored(task, "partial")
            edge.start()
            await rig.stored(task, "done")


async def test_a_sick_node_is_left_alone_until_its_probe_is_answered_well(tmp_path: Path) -> None:
    """What it was asked waits with the reason, and is done when it has recovered."""
    with FakeNode(always(answer(503)), answers_probes=False) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            task = rig.submit(targets=urls(500), due_s=0.3)
            node = rig.node("edge-1")
            await until(lambda: node.state is NodeState.SICK)
            found = await rig.stored(task, "partial")
            assert (found["delayed"], found["failed"]) == (500, 0)
            assert found["errors"][0]["reason"].startswith("sick: answered 503, 20 times in a row; ")
            later = rig.submit(targets=urls(1, "b.com"), due_s=0.1)
            assert (await rig.stored(later, "partial"))["delayed"] == 1
            assert sum(request.path != PROBE_PATH for request in edge.requests) < 500
            assert (await rig.stored(task, "partial"))["failed"] == 0
            [message] = [alert[2] for alert in rig.alerts if alert[:2] == ("node:edge-1", "error")]
            assert message.startswith("edge-1 is sick: ")
            edge.script = always(OK)
            for each in (task, later):
                assert (await rig.stored(each, "done"))["errors"] == []
            await until(lambda: node.state is NodeState.READY)


async def test_rows_that_make_a_node_sick_do_not_keep_those_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every purge of one host is answered 503, and the probe 200: the other host's are done all the same.

    They lie many chunks behind, and only the first chunk is sent before the host is held.
    """
    monkeypatch.setattr("engine.delivery.due_rows.CHUNK_ROWS", 40)
    monkeypatch.setattr("engine.delivery.due_rows._PAGE_ROWS", 30)

    def picky(request: Request) -> Iterable[bytes | Act]:
        yield answer(503) if request.host == "a.com" else OK

    with FakeNode(picky) as edge:
        edge.stop()
        async with rig_of(tmp_path, {"edge-1": edge}, connections_per_node=1) as rig:
            bad = rig.submit(targets=urls(200), due_s=0.1)
            await rig.stored(bad, "partial")
            good = rig.submit(targets=urls(5, "b.com"), due_s=0.1)
            await rig.stored(good, "partial")
            edge.start()
            await rig.stored(good, "done")
            assert (await rig.stored(bad, "partial"))["failed"] == 0
            edge.script = always(OK)
            assert (await rig.stored(bad, "done"))["counter"] == 200


async def test_prefetches_that_are_answered_5xx_do_not_make_the_node_sick(tmp_path: Path) -> None:
    def no_origin(request: Request) -> Iterable[bytes | Act]:
        yield answer(503) if request.method == "GET" else OK

    with FakeNode(no_origin) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            fetch = rig.submit(action="prefetch", targets=urls(50), due_s=0.2)
            assert (await rig.stored(fetch, "partial"))["delayed"] == 50
            assert rig.node("edge-1").state is NodeState.READY
            assert rig.alerts == []

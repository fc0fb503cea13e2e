"""What becomes of subtasks whose answers do not count, on scripted caches that bear a mark."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.fakes.node import OK, Act, FakeNode, Request, answer
from tests.rigs.delivery_rig import rig_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

MARK = "Purgeline-Cache: ats edge-1"
MARKED = answer(200, b"", MARK)
STRICT = {"edge-1": {"evidence": "strict"}}


class Passing:
    """Script of a marked cache that passes the purges of one host on."""

    def __init__(self, host: str) -> None:
        self.host = host

    def __call__(self, request: Request) -> Iterable[bytes | Act]:
        nonce = request.headers.get("purgeline-nonce")
        if nonce is not None:
            return [answer(404, b"", MARK, f"Purgeline-Nonce: {nonce}")]
        return [OK if request.host == self.host else MARKED]


async def test_one_host_that_is_passed_on_holds_only_its_own_subtasks(tmp_path: Path) -> None:
    script = Passing("b.com")
    with FakeNode(script, answers_probes=False) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, STRICT, due_s=0.2) as rig:
            mixed = rig.submit(targets=[f"http://{'ab'[number % 2]}.com/{number}" for number in range(40)])
            found = await rig.stored(mixed, "partial")
            assert (found["counter"], found["delayed"], found["failed"]) == (20, 20, 0)
            assert any(key == "node:edge-1" and "unproven" in text for key, _, text in rig.alerts)
            await until(lambda: rig.node("edge-1").state == "ready")  # its probe bears the mark
            await rig.stored(rig.submit(targets=["http://a.com/later"]), "done")
            assert rig.queues.depth("edge-1") == 20
            script.host = ""
            await rig.stored(mixed, "done")


async def test_of_a_cancelled_task_nothing_is_kept(tmp_path: Path) -> None:
    gate = threading.Event()

    def passes_on(request: Request) -> Iterable[bytes | Act]:
        assert gate.wait(60)
        yield OK

    with FakeNode(passes_on) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, STRICT) as rig:
            task = rig.submit(targets=["http://b.com/1", "http://b.com/2"])
            await until(lambda: edge.requests)
            assert rig.dispatch.cancel(task) == 2
            gate.set()
            await until(lambda: rig.node("edge-1").state == "unproven")
            found = await rig.stored(task, "cancelled")
            assert (found["cancelled"], found["counter"], rig.queues.total()) == (2, 0, 0)


async def test_a_mark_without_the_probes_nonce_proves_nothing(tmp_path: Path) -> None:
    """Purges bear no nonce: what the probe found counts for their answers as well."""
    script = Passing("")
    with FakeNode(lambda request: [MARKED], answers_probes=False) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, STRICT) as rig:
            node = rig.node("edge-1")
            node.start()
            await until(lambda: node.state == "unproven")
            assert "does not repeat Purgeline-Nonce" in node.health.last_error
            task = rig.submit(targets=["http://a.com/1", "http://a.com/2"])
            found = await rig.stored(task, "partial")
            assert (found["counter"], found["delayed"], found["failed"]) == (0, 2, 0)
            assert "does not repeat Purgeline-Nonce" in found["errors"][0]["reason"]
            edge.script = script
            await rig.stored(task, "done")
            assert node.counting.acked_count == 2


async def test_what_looks_own_does_not_count_where_the_end_of_a_connection_shows_a_pipe(
    tmp_path: Path,
) -> None:
    """The Varnish behind it does not end the connection: it was not told to."""
    lines = ("Date: x", "Server: Varnish", "X-Varnish: 5", "Content-Length: 0", "Connection: keep-alive")
    own = "\r\n".join(("HTTP/1.1 200 Purged", *lines, "\r\n")).encode()
    with FakeNode(lambda request: [own], answers_probes=False) as edge:
        table = {"driver": "varnish", **STRICT["edge-1"]}
        async with rig_of(tmp_path, {"edge-1": edge}, {"edge-1": table}) as rig:
            node = rig.node("edge-1")
            node.start()
            await until(lambda: node.state == "unproven")
            found = await rig.stored(rig.submit(targets=["http://a.com/1"]), "partial")
            assert (found["counter"], found["delayed"]) == (0, 1)
            assert "a server behind edge-1 answered 200" in found["errors"][0]["reason"]


async def test_a_ready_node_is_asked_again_and_found_out_without_a_purge(tmp_path: Path) -> None:
    script = Passing("")
    probes: list[float] = []

    def noted(request: Request) -> Iterable[bytes | Act]:
        probes.append(request.at)
        return script(request) if len(probes) < 3 else [OK]

    with FakeNode(noted, answers_probes=False) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, STRICT, evidence_interval_s=0.05) as rig:
            node = rig.node("edge-1")
            node.start()
            await until(lambda: node.state == "unproven")
            assert len(probes) >= 3
            assert node.proving.judge.rests_on == "none"


async def test_a_purge_that_is_answered_with_a_large_page_is_kept(tmp_path: Path) -> None:
    pages = [answer(200, bytes(4 * 1024 * 1024))]
    with FakeNode(lambda _: [pages.pop() if pages else OK]) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, due_s=0.2) as rig:
            task = rig.submit(targets=["http://a.com/1"])
            found = await rig.stored(task, "partial")
            assert (found["delayed"], found["failed"]) == (1, 0)
            reason = found["errors"][0]["reason"]
            assert reason.startswith("refused: the body is over what a purge may answer (1048576 bytes): let")
            await rig.stored(task, "done")


class Unmarked:
    """Script of an nginx without a mark: of its pages one is gone, the others are purged when it has them."""

    def __init__(self) -> None:
        self.stored: set[str] = set()

    def __call__(self, request: Request) -> Iterable[bytes | Act]:
        if request.method == "GET":
            if request.path.partition("?")[0] == "/gone":  # the prober looks with a query of its own
                return [answer(404)]
            self.stored.add(request.path)
            return [OK]
        path = request.path.removeprefix("/purge")
        if path in self.stored:
            self.stored.discard(path)
            page = (
                f"<html><head><title>Successful purge</title></head><br>Key : http://a.com{path}\r\n</html>"
            )
            return [answer(200, page.encode(), "Server: nginx", "Content-Type: text/html")]
        page = (
            "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n"
            "<center><h1>404 Not Found</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        )
        return [answer(404, page.encode(), "Server: nginx", "Content-Type: text/html")]


async def test_a_page_that_is_gone_does_not_keep_a_node_unproven_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further purge comes: another page that waits shows that the node purges."""
    monkeypatch.setattr("engine.nodes.prober._TRIES_MAX", 2)
    monkeypatch.setattr("engine.nodes.prober._PAUSE_FIRST_S", 0.05)
    monkeypatch.setattr("engine.nodes.proving._AGAIN_S", 0.1, raising=False)
    monkeypatch.setattr("engine.nodes.probe._PROBE_MAX_S", 0.3)
    tables = {"edge-1": {"driver": "nginx", "evidence": "strict"}}
    with FakeNode(Unmarked(), answers_probes=False) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}, tables) as rig:
            gone = rig.submit(targets=["http://a.com/gone"])
            await until(lambda: rig.node("edge-1").state == "unproven")
            there = rig.submit(targets=["http://a.com/there"])
            await rig.stored(gone, "done")
            await rig.stored(there, "done")

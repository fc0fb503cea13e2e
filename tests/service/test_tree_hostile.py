"""What a child that is slow, lies, or is none can do to a question: an error in time, and nothing else."""

from __future__ import annotations

import asyncio
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.api.below import Order
from engine.config.tables import NodeConfig
from engine.proof.receipt_key import ReceiptKey
from engine.tree import link as link_module
from engine.tree.below import Below
from engine.tree.link import NONCE, Link
from engine.tree.seal import Asked, Trusted, seal, text_of, thumbprint
from engine.tree.words import KEY, SIGNATURE, TASKS, WITHIN
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import fake_table
from tests.rigs.tree import engine_in, region_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.rigs.engine_process import EngineProcess

SECRET = b"1" * 32
X = text_of(Ed25519PrivateKey.from_private_bytes(SECRET).public_key().public_bytes_raw())
OWN = ReceiptKey(thumbprint(X), SECRET)
WHERE = "/v1/engine/why?url=http%3A%2F%2Fa%2F"


class _Place:
    async def path_of(self, before: str) -> str:
        return f"{before},root~k" if before else "root~k"


class _Asked:
    """A client's request, as far as `Below` looks at it."""

    def __init__(self, within_s: float) -> None:
        self.headers = {WITHIN: str(within_s)}


def signed(request: web.Request, body: bytes, path: str = "") -> web.Response:
    asked = Asked(request.headers[NONCE], request.method, path or request.raw_path)
    return web.Response(body=body, headers={KEY: OWN.kid, SIGNATURE: seal(OWN, asked, body)})


async def trickles(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(1000):
        await response.write(b" ")
        await asyncio.sleep(0.02)
    return response


async def another_question(request: web.Request) -> web.Response:
    return signed(request, b"{}", "/v1/engine/task/x")


async def unsigned(_: web.Request) -> web.Response:
    return web.Response(body=b"{}")


async def elsewhere(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})


async def too_long(request: web.Request) -> web.Response:
    return signed(request, b"x" * 5000)


async def honest(request: web.Request) -> web.Response:
    return signed(request, b'{"path": "%s"}' % request.headers["Purgeline-Tree-Path"].encode())


@pytest.fixture
async def asked_of() -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Ask a child that answers as it is told to."""
    runners: list[web.AppRunner] = []
    links: list[Link] = []

    async def ask(answer: Callable[[web.Request], Awaitable[web.StreamResponse]], within_s: float = 5) -> Any:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        node = NodeConfig(name="eu", driver="engine", url=f"http://127.0.0.1:{port}", public_keys=[X])
        link = Link(node, "", Trusted([X], "eu"), connect_timeout_s=1, timeout_s=5)
        links.append(link)
        below = Below({"eu": link}, {}, _Place())  # type: ignore[arg-type]
        [said] = await below.ask(["eu"], WHERE, _Asked(within_s), Order(""))  # type: ignore[arg-type]
        return said

    yield ask
    for link in links:
        await link.close()
    for runner in runners:
        await runner.cleanup()


async def test_a_child_that_answers_is_told_the_way_that_the_question_came(asked_of: Any) -> None:
    said = await asked_of(honest)
    assert (said.status, said.error, said.document()) == (200, "", {"path": "root~k"})


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (another_question, "is not signed by its key over the nonce"),
        (unsigned, "answered without a signature"),
        (elsewhere, "answered without a signature"),
    ],
)
async def test_an_answer_that_is_not_the_childs_own_to_this_question_is_none(
    asked_of: Any, answer: Any, error: str
) -> None:
    said = await asked_of(answer)
    assert error in said.error
    assert (said.status, said.body) == (0, b"")


async def test_a_child_that_trickles_is_waited_for_as_long_as_the_question_may_take(asked_of: Any) -> None:
    began = time.monotonic()
    said = await asked_of(trickles, 0.5)
    assert said.error
    assert time.monotonic() - began < 15  # of 20 s that it trickles


async def test_an_answer_that_is_too_long_is_not_read(asked_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "SAID_MAX_BYTES", 4000)
    assert "answers with more than" in (await asked_of(too_long)).error


class _Between(ThreadingHTTPServer):
    """A proxy between a root and its region that has other URLs purged than the root asks for."""

    def __init__(self, region: EngineProcess) -> None:
        super().__init__(("127.0.0.1", 0), _Changing)
        self.region_port = region.port
        self.taken: list[bytes] = []  # answers to what was handed down


class _Changing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Between

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_task = self.path == TASKS
        if is_task:
            body = body.replace(b"/wanted", b"/others")
        headers = {
            name: value for name, value in self.headers.items() if name not in ("Host", "Content-Length")
        }
        region = HTTPConnection("127.0.0.1", self.server.region_port, timeout=30)
        region.request("POST", self.path, body, headers)
        answer = region.getresponse()
        said = answer.read()
        region.close()
        if is_task:
            self.server.taken.append(said)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name not in ("Date", "Server"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_what_is_asked_for_cannot_be_changed_on_its_way_down(tmp_path: Path) -> None:
    """The region's own signed answers to it are no evidence of what the root asked for."""
    with (
        FakeNode() as edge,
        engine_in(tmp_path, fake_table(edge.url, name="edge"), name="eu") as region,
        _Between(region) as between,
    ):
        threading.Thread(target=between.serve_forever, daemon=True).start()
        table = region_table(region, name="eu", url=f"http://127.0.0.1:{between.server_port}")
        with engine_in(tmp_path, table, name="root") as root:
            task = root.submit(["http://img.example.com/wanted"])
            reason = root.wait_for(task, "partial")["errors"][0]["reason"]
            assert "the request was changed on its way" in reason
            assert b'"state":"accepted"' in between.taken[0]
            region.wait_for(task, "done")
            assert edge.urls[0] == "http://img.example.com/others"
            assert root.task(task)["counter"] == 0
        between.shutdown()


def test_names_of_parts_are_an_engines_above_alone(tmp_path: Path) -> None:
    """A client's task with such a name would stand for a part of a task of the root."""
    with FakeNode() as edge, engine_in(tmp_path, fake_table(edge.url, name="edge"), name="eu") as region:
        for name in ("t~f", "t~0123456789abcdef"):
            body = {"targets": ["http://img.example.com/1"], "id": name}
            status, _, problem = region.request("POST", "/v1/engine/task", body)
            assert (status, b"id: takes 1-64 characters of A-Z" in problem) == (422, True)
        assert region.request("GET", "/v1/engine/task/t~f")[0] == 404

"""What a child that is slow, lies, or is none can do to a question: an error in time, and nothing else."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.config.tables import NodeConfig
from engine.proof.receipt_key import ReceiptKey
from engine.tree import link as link_module
from engine.tree.below import Below
from engine.tree.link import NONCE, Link
from engine.tree.seal import Trusted, seal, text_of, thumbprint
from engine.tree.words import KEY, SIGNATURE, WITHIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

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


def signed(request: web.Request, body: bytes, what: str = "") -> web.Response:
    text = f"{request.headers[NONCE]} {what or f'{request.method} {request.raw_path}'}"
    return web.Response(body=body, headers={KEY: OWN.kid, SIGNATURE: seal(OWN, text, body)})


async def trickles(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(1000):
        await response.write(b" ")
        await asyncio.sleep(0.02)
    return response


async def another_question(request: web.Request) -> web.Response:
    return signed(request, b"{}", "GET /v1/engine/task/x")


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
        [said] = await below.ask(["eu"], WHERE, _Asked(within_s))  # type: ignore[arg-type]
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
    assert time.monotonic() - began < 5  # of 20 s that it trickles


async def test_an_answer_that_is_too_long_is_not_read(asked_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "SAID_MAX_BYTES", 4000)
    assert "answers with more than" in (await asked_of(too_long)).error

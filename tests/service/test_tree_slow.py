"""A link to a child that passes little: long bodies and answers are waited for as long as bytes pass."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

import pytest

from engine.config.tables import NodeConfig
from engine.tree import link as link_module
from engine.tree import pace as pace_module
from engine.tree.link import Link, LinkError, RefusedError
from engine.tree.words import TASKS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BODY = b"x" * 900_000
WITHIN_S = 0.3  #: of a request that is short


class SlowChild:
    """Reads a body, and writes its answer, so many bytes at a time; then it says nothing more.

    Args:
        takes: bytes of the body that are read; the rest never. None of it: it is refused at once.
        says: bytes of the answer.
    """

    def __init__(self, *, takes: int, says: int) -> None:
        self.takes = takes
        self.says = says
        self.url = ""

    async def serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        got = b""
        while b"\r\n\r\n" not in got:
            got += await loop.sock_recv(connection, 4096)
        assert b"content-length: 900000\r\n" in got.lower()
        if not self.takes:
            await loop.sock_sendall(connection, b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
            await asyncio.sleep(0.2)
            return
        left = self.takes - len(got.partition(b"\r\n\r\n")[2])
        while left > 0:
            left -= len(await loop.sock_recv(connection, 60_000))
            await asyncio.sleep(0.1)
        if self.takes < len(BODY):
            await asyncio.sleep(60)
        await loop.sock_sendall(connection, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.says)
        for _ in range(10):
            await loop.sock_sendall(connection, b"y" * (self.says // 10))
            await asyncio.sleep(0.1)

    async def run(self) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)  # little is on its way
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)

            async def accept() -> None:
                connection, _ = await loop.sock_accept(listener)
                with connection:
                    await self.serve(connection)

            task = asyncio.create_task(accept())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            task.cancel()


async def ask(child: SlowChild) -> bytes:
    async for url in child.run():
        node = NodeConfig(name="eu", driver="engine", url=url)
        link = Link(node, "", None, connect_timeout_s=1, timeout_s=WITHIN_S)
        try:
            return (await link.post(TASKS, BODY, path="root~k")).body
        finally:
            await link.close()
    raise AssertionError


async def test_a_long_body_and_a_long_answer_may_take_longer_than_short_ones() -> None:
    began = time.monotonic()
    assert await ask(SlowChild(takes=len(BODY), says=50_000)) == b"y" * 50_000
    assert time.monotonic() - began > 4 * WITHIN_S


async def test_a_link_that_passes_nothing_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After as long as what was written last may be on its way."""
    monkeypatch.setattr(pace_module, "SLOWEST", 1024 * 1024)
    with pytest.raises(LinkError, match="gave no answer"):
        await ask(SlowChild(takes=100_000, says=0))


async def test_a_refusal_before_the_whole_body_went_is_one() -> None:
    with pytest.raises(RefusedError, match="answered 401"):
        await ask(SlowChild(takes=0, says=0))


async def test_a_body_of_a_few_urls_is_given_up_as_soon_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_SHORT_BYTES", len(BODY))
    with pytest.raises(LinkError, match=r"gave no answer within 0\.3 s"):
        await ask(SlowChild(takes=100_000, says=0))

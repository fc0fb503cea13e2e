"""A cache that answers every purge with 200 and writes down who sent it: for long runs, so cheap in memory.

Targets are numbered: the last part of the path is the number. What is kept is a few bytes for each number,
and more only for what came more than once.

It listens on several loopback addresses, one for each engine, and that tells which of them sent a request.
"""

import asyncio
import threading
import time
from array import array
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self, cast

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
PROBE = ".purgeline-probe"


class Repeat(NamedTuple):
    """A purge that came again; times of ``time.monotonic()``."""

    number: int
    before: int  #: which engine had sent it the time before
    before_at: float
    sender: int
    at: float


class LogCache:
    """A scripted cache.

    Args:
        name: of the node.
        addresses: where it listens, by engine; loopback has many.
        delay_s: before every answer.

    Attributes:
        total: purges that came, probes not counted.
        repeats: those that had come before.
        port: the same on all addresses, and after `down` and `up`.
    """

    def __init__(self, name: str, addresses: Sequence[str] = ("127.0.0.1",), *, delay_s: float = 0.0) -> None:
        self.name = name
        self.addresses = list(addresses)
        self.delay_s = delay_s
        self.port = 0
        self.total = 0
        self.by_sender = [0] * len(self.addresses)
        self.repeats: list[Repeat] = []
        self._sender = array("b")  #: by number: who sent it last, -1: nobody
        self._at = array("d")
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Transport] = set()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __repr__(self) -> str:
        return f"<LogCache {self.name} [port {self.port}, {self.total} purges, {len(self.repeats)} again]>"

    def __enter__(self) -> Self:
        self._thread.start()
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def url(self, sender: int) -> str:
        """Where an engine finds it."""
        return f"http://{self.addresses[sender]}:{self.port}"

    def up(self) -> None:
        """Listen."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def down(self) -> None:
        """Refuse, and break every connection: what is on its way has no answer."""
        asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(10)

    def has(self, number: int) -> bool:
        """Whether a purge of this target has come."""
        return number < len(self._sender) and self._sender[number] >= 0

    def note(self, number: int, sender: int) -> None:
        """Write down a purge."""
        now = time.monotonic()
        if number >= len(self._sender):
            more = number + 1024 - len(self._sender)
            self._sender.extend([-1] * more)
            self._at.extend([0.0] * more)
        before = self._sender[number]
        if before >= 0:
            self.repeats.append(Repeat(number, before, self._at[number], sender, now))
        self._sender[number] = sender
        self._at[number] = now
        self.total += 1
        self.by_sender[sender] += 1

    async def _listen(self) -> None:
        for sender, address in enumerate(self.addresses):
            made = await self._loop.create_server(
                partial(_Connection, self, sender, self._open), address, self.port
            )
            server = cast("asyncio.Server", made)
            self.port = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    async def _leave(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for transport in list(self._open):
            transport.abort()


class _Connection(asyncio.Protocol):
    def __init__(self, cache: LogCache, sender: int, all_open: set[asyncio.Transport]) -> None:
        self._cache = cache
        self._sender = sender
        self._all_open = all_open
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class
        self._all_open.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._all_open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for head in heads:
            path = head.split(b" ", 2)[1]
            last = path.rpartition(b"/")[2]
            if last.isdigit():
                self._cache.note(int(last), self._sender)
        if not heads:
            return
        if self._cache.delay_s:
            asyncio.get_running_loop().call_later(self._cache.delay_s, self._answer, len(heads))
        else:
            self._answer(len(heads))

    def _answer(self, count: int) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(ANSWER * count)

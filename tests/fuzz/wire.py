"""The fuzzing client: connections that take case after case, as long as the engine keeps them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from tests.fuzz.cases import TOKEN, get

if TYPE_CHECKING:
    from collections.abc import Callable

HAND_OVER: Final = get("/healthz")  #: from then on, aiohttp serves the connection
IDLE_S: Final = 0.05  #: without a word, what was sent is not complete
HANG_S: Final = 10.0  #: a connection that the client has ended must have ended by then
STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[^\r\n]*\r\n")
_ANSWER: Final = re.compile(rb"(?=HTTP/1\.[01] [0-9]{3} )")


class HangError(Exception):
    """The engine has not ended a connection that the client had ended."""


def last_purge(number: int) -> bytes:
    """Return the same for a purge door."""
    return b"PURGE / HTTP/1.1\r\nHost: img.example.com\r\nX-Purge-Method: zz%d\r\n\r\n" % number


def last_request(number: int) -> bytes:
    """Return a request whose answer can be told from all others: it ends what belongs to a case."""
    body = b'{"zz%d":1}' % number
    head = f"POST /v1/engine/task HTTP/1.1\r\nHost: e\r\nAuthorization: Bearer {TOKEN}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Line(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_closed = False
        self.transport: asyncio.Transport
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Keep what was answered."""
        self.received += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self.is_closed = True
        self._news.set()

    async def changed(self, limit_s: float) -> bool:
        """Wait for bytes or the end; return whether there were any in time."""
        self._news.clear()
        if self.is_closed:
            return True
        try:
            await asyncio.wait_for(self._news.wait(), limit_s)
        except TimeoutError:
            return False
        return True


class Client:
    """Sends cases on one connection after the other.

    Args:
        port: the engine's.
        is_handed: aiohttp is to serve its connections from their first case on.
        last: makes what ends a case.
    """

    def __init__(
        self, port: int, *, is_handed: bool = False, last: Callable[[int], bytes] = last_request
    ) -> None:
        self._last = last
        self._port = port
        self._is_handed = is_handed
        self._line: Line | None = None
        self.connections = 0

    async def _connected(self) -> Line:
        line = self._line
        if line is None or line.is_closed or line.transport.is_closing():
            loop = asyncio.get_running_loop()
            _, line = await loop.create_connection(Line, "127.0.0.1", self._port)
            self._line = line
            self.connections += 1
            if self._is_handed:
                line.transport.write(HAND_OVER)
                while b'"ok"}' not in line.received and not line.is_closed:
                    await line.changed(HANG_S)
        line.received.clear()
        return line

    async def send(self, data: bytes, number: int) -> bytes:
        """Send a case; return all that was answered to it, without the answer to what ends it.

        Raises:
            HangError: see there.
        """
        line = await self._connected()
        if line.is_closed:
            return b""
        line.transport.write(data + self._last(number))
        mark = b"'zz%d'" % number
        is_ended = False
        while mark not in line.received and not line.is_closed:
            if await line.changed(HANG_S if is_ended else IDLE_S):
                continue
            if is_ended:
                line.transport.abort()
                self._line = None
                raise HangError(
                    f"no end within {HANG_S:g} s; answered so far: {bytes(line.received[-300:])!r}"
                )
            is_ended = True
            if not line.transport.is_closing():
                line.transport.write_eof()
        if is_ended:
            line.transport.abort()
            self._line = None
        found = bytes(line.received)
        return found[: found.rfind(b"HTTP/1.1 ", 0, found.find(mark))] if mark in found else found

    def close(self) -> None:
        """Close the connection."""
        if self._line is not None and not self._line.is_closed:
            self._line.transport.abort()


def answers(data: bytes | bytearray) -> list[bytes]:
    """Return the answers that *data* has, each with its head."""
    return [part for part in _ANSWER.split(bytes(data)) if part.startswith(b"HTTP/1.")]


class QuickNode(asyncio.Protocol):
    """A cache that purges whatever it is asked to."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer each head."""
        parts = (self._tail + data).split(b"\r\n\r\n")
        self._tail = parts[-1]
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * (len(parts) - 1))

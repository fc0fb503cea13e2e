"""Real caches, each behind a relay that writes down every purge, and that can be down, stuck, slow or cut.

What a client asks a cache for is read on its way; the bytes pass as they are. Visitors come to the cache
itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Final

from tests.model.tree.places import EDGE, cache_of

if TYPE_CHECKING:
    from release.lab.caches import Cache

_CHUNK: Final = 65536
_PURGE_PATH: Final = "/purge"
_CUT_SHARE: Final = 0.3
_SLOW_S: Final = 0.7
_GET_LIMIT_S: Final = 10.0


class RealCache:
    """One cache and its relay.

    Args:
        leaf: the engine that it belongs to.
        server: the cache; it listens on loopback of the model's host.

    Attributes:
        acts: what it was asked to purge: when, by the loop, and which URL.
        closings: when it closed a connection by itself; what it had not answered is sent again.
        fault: what is wrong: ``down``, ``hang``, ``slow``, ``cuts``; empty: nothing.
    """

    def __init__(self, leaf: str, server: Cache) -> None:
        self.leaf = leaf
        self.name = cache_of(leaf)
        self.server = server
        self.acts: list[tuple[float, str]] = []
        self.by_url: dict[str, list[float]] = {}
        self.closings: list[float] = []
        self.fault = ""
        self._open: set[asyncio.StreamWriter] = set()
        self._listening: asyncio.Server | None = None
        self._address = ("", 0)
        self._well = asyncio.Event()
        self._well.set()

    def __repr__(self) -> str:
        return f"<RealCache {self.name} {self.server.driver} [{len(self.acts)} purges]>"

    def table(self, address: str, port: int) -> dict[str, object]:
        """Return its node's table."""
        path = {"purge_path": self.server.purge_path} if self.server.purge_path else {}
        url = f"http://{address}:{port}"
        return {"name": EDGE, "layer": "edge", "driver": self.server.driver, "url": url, **path}

    # The relay

    async def open(self, address: str, port: int) -> None:
        """Listen."""
        self._address = (address, port)
        await self._listen()

    async def _listen(self) -> None:
        if self._listening is None:
            self._listening = await asyncio.start_server(self._serve, *self._address)

    def fall_ill(self, kind: str) -> None:
        """Begin a fault."""
        self.fault = kind
        if kind == "hang":
            self._well.clear()
        if kind == "down" and self._listening is not None:
            self._listening.close()
            self._listening = None
            self._reset()

    async def heal(self) -> None:
        """End what is wrong."""
        if self.fault == "hang":
            self._reset()
        self.fault = ""
        self._well.set()
        await self._listen()

    def close(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.close()
        self._reset()

    def _reset(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        except OSError:
            self._open.discard(writer)
            writer.transport.abort()
            return
        self._open.add(far_writer)
        pumps = [
            asyncio.ensure_future(self._down(reader, far_writer)),
            asyncio.ensure_future(self._up(far_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for one in (writer, far_writer):
                one.transport.abort()
                self._open.discard(one)

    async def _down(self, reader: asyncio.StreamReader, cache: asyncio.StreamWriter) -> None:
        left = b""
        while data := await reader.read(_CHUNK):
            await self._well.wait()
            if self.fault == "slow":
                await asyncio.sleep(_SLOW_S)
            *heads, left = (left + data).split(b"\r\n\r\n")
            for head in heads:
                self._note(head.decode("latin-1"))
            cache.write(data)
            await cache.drain()

    async def _up(self, cache: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await cache.read(_CHUNK):
            await self._well.wait()
            if self.fault == "cuts" and random.random() < _CUT_SHARE:
                return
            writer.write(data)
            await writer.drain()
        self.closings.append(asyncio.get_running_loop().time())

    def _note(self, head: str) -> None:
        line, *fields = head.split("\r\n")
        method, path, *_ = line.split(" ")
        if method != "PURGE":
            return
        host = next((text[5:].strip() for text in fields if text[:5].lower() == "host:"), "")
        if self.server.purge_path:
            path = path.removeprefix(_PURGE_PATH)
        url, now = f"http://{host}{path}", asyncio.get_running_loop().time()
        self.acts.append((now, url))
        self.by_url.setdefault(url, []).append(now)

    # Visitors

    async def get(self, host: str, path: str) -> bytes:
        """Return what a visitor gets; empty: an error."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(_GET_LIMIT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
                try:
                    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
                finally:
                    writer.close()
                return body if head.split(b" ", 2)[1:2] == [b"200"] else b""
        return b""

"""``GET /v1/engine/debug/gc/trace``: a line for each pass of the garbage collector, as it ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
from aiohttp import web

from engine.api.debug_gathering import LOOK_S, query_of, refusal
from engine.api.debug_schemas import DebugTrouble
from engine.api.openapi import NDJSON
from engine.debugging.collector import pass_of, watching
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.api.debug_gathering import Gathering
    from engine.api.debug_queries import SecondsQuery
    from engine.workers.peers import Peer, Peers

_WAITING_MAX: Final = 1000  #: lines; of a client that does not read, later ones are dropped and counted
_END_LIMIT_S: Final = 1.0
_OTHERS_LIMIT_S: Final = 3.0  #: they begin a moment later, and wait for their lines, too


class GcTrace:
    """Streams passes.

    Args:
        worker: name of this one.
        gathering: tells which workers are asked for, and when a stream is over.
        peers: the other workers, under a supervisor.
        server: value of ``Server``.
    """

    def __init__(self, worker: str, gathering: Gathering, peers: Peers | None, server: str) -> None:
        self._worker = worker
        self._gathering = gathering
        self._peers = peers
        self._server = server

    async def stream(
        self, request: web.Request, asked: SecondsQuery, others: Sequence[Peer], *, is_own: bool
    ) -> web.StreamResponse:
        """Stream what is asked for, until its time is over or its client has gone."""
        response = web.StreamResponse(headers={"Server": self._server, "Cache-Control": "no-store"})
        response.content_type = NDJSON
        lines = _Lines()
        loop = asyncio.get_running_loop()

        def tell(generation: int, pause_s: float, info: dict[str, Any]) -> None:
            line = _line(pass_of(self._worker, generation, pause_s, info))
            loop.call_soon_threadsafe(lines.put, line)  # a pass may be another thread's

        parts: list[asyncio.Task[None]] = []
        try:
            with contextlib.suppress(ConnectionError):
                await response.prepare(request)
                parts = [asyncio.create_task(lines.write(response))]
                parts += [asyncio.create_task(self._relay(peer, asked, lines)) for peer in others]
                with watching(tell) if is_own else contextlib.nullcontext():
                    is_whole = await self._over(request, parts[0], asked.seconds)
                if is_whole and others:  # the last line of each tells what it has dropped
                    await asyncio.wait(parts[1:], timeout=_OTHERS_LIMIT_S)
                await lines.rest()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        if missing := lines.missing():
            last = _line(DebugTrouble(self._worker, f"{missing} lines are missing, not read in time"))
            with contextlib.suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(response.write(last), _END_LIMIT_S)
        response.force_close()
        return response

    async def _over(self, request: web.Request, writer: asyncio.Task[None], seconds: float) -> bool:
        """Wait for the end of a stream; tell whether its time is over, or its client or worker is."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self._gathering.why_over(request) and not writer.done():
            if (left_s := until - loop.time()) <= 0:
                return True
            await asyncio.wait([writer], timeout=min(LOOK_S, left_s))
        return False

    async def _relay(self, peer: Peer, asked: SecondsQuery, lines: _Lines) -> None:
        """Hand on the lines of another worker, or say what is wrong with them."""
        assert self._peers is not None
        try:
            response = await self._peers.open(peer, worker_path("debug", "gc", "trace", **query_of(asked)))
            async with response:
                if response.status == 200:  # noqa: PLR2004 - HTTP
                    async for line in response.content:
                        lines.put(line)
                    return
                why = refusal(response.status, msgspec.json.decode(await response.read()))
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as exc:
            why = f"it does not answer, it may have just begun or ended: {exc!r}"
        lines.put(_line(DebugTrouble(f"{peer.slot}.{peer.generation}", why)))


class _Lines:
    """Lines that wait for the client; those that there is no room for are counted."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(_WAITING_MAX)
        self._dropped = 0

    def put(self, line: bytes) -> None:
        """Have a line written, if there is room."""
        try:
            self._waiting.put_nowait(line)
        except asyncio.QueueFull:
            self._dropped += 1

    async def write(self, response: web.StreamResponse) -> None:
        """Write what comes, until cancelled."""
        while True:
            await response.write(await self._waiting.get())
            self._waiting.task_done()

    async def rest(self) -> None:
        """Give the client a moment to read what waits."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.join(), _END_LIMIT_S)

    def missing(self) -> int:
        """Return how many lines the client does not get, once nothing is written any more."""
        return self._dropped + self._waiting.qsize()


def _line(document: msgspec.Struct) -> bytes:
    return msgspec.json.encode(document) + b"\n"

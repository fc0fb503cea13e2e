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

_WAITING_MAX: Final = 1000  #: lines; of a client that does not read, later ones are dropped
_END_LIMIT_S: Final = 1.0


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
        lines: asyncio.Queue[bytes] = asyncio.Queue(_WAITING_MAX)
        loop = asyncio.get_running_loop()

        def tell(generation: int, pause_s: float, info: dict[str, Any]) -> None:
            line = _line(pass_of(self._worker, generation, pause_s, info))
            loop.call_soon_threadsafe(_put, lines, line)  # a pass may be another thread's

        parts: list[asyncio.Task[None]] = []
        with contextlib.ExitStack() as stack, contextlib.suppress(ConnectionError):
            await response.prepare(request)
            parts = [asyncio.create_task(_write(lines, response))]
            parts += [asyncio.create_task(self._relay(peer, asked, lines)) for peer in others]
            if is_own:
                stack.enter_context(watching(tell))
            until = loop.time() + asked.seconds
            while not self._gathering.why_over(request) and not parts[0].done():
                if (left_s := until - loop.time()) <= 0:
                    break
                await asyncio.wait(parts[:1], timeout=min(LOOK_S, left_s))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lines.join(), _END_LIMIT_S)
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        response.force_close()
        return response

    async def _relay(self, peer: Peer, asked: SecondsQuery, lines: asyncio.Queue[bytes]) -> None:
        """Hand on the lines of another worker, or say what is wrong with them."""
        assert self._peers is not None
        try:
            response = await self._peers.open(peer, worker_path("debug", "gc", "trace", **query_of(asked)))
            async with response:
                if response.status == 200:  # noqa: PLR2004 - HTTP
                    async for line in response.content:
                        _put(lines, line)
                    return
                why = refusal(response.status, msgspec.json.decode(await response.read()))
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as exc:
            why = f"it does not answer, it may have just begun or ended: {exc!r}"
        _put(lines, _line(DebugTrouble(f"{peer.slot}.{peer.generation}", why)))


async def _write(lines: asyncio.Queue[bytes], response: web.StreamResponse) -> None:
    while True:
        await response.write(await lines.get())
        lines.task_done()


def _put(lines: asyncio.Queue[bytes], line: bytes) -> None:
    with contextlib.suppress(asyncio.QueueFull):
        lines.put_nowait(line)


def _line(document: msgspec.Struct) -> bytes:
    return msgspec.json.encode(document) + b"\n"

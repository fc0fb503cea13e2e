"""``GET /v1/engine/recording``: requests and their answers as they pass, to whoever writes them to a file.

The stream has what all workers see: the one that is asked hands on those of the others, frame by frame. What
the client does not read in time is dropped where it was seen, and counted; no request waits for that.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from aiohttp import web
from loguru import logger

from engine.api.answers import response_of
from engine.api.recording_relays import Relays
from engine.api.route import QUERY, Route, Text
from engine.errors import RequestError
from engine.intake.problems import problem
from engine.recordings.frames import Frame, encode
from engine.recordings.packing import Packer
from engine.recordings.tap import BATCH_BYTES, Recording

if TYPE_CHECKING:
    from engine.api.callers import Callers
    from engine.api.readiness import Readiness
    from engine.observe.audit import Audit
    from engine.recordings.tap import Tap
    from engine.workers.peers import Peers

CONTENT_TYPE: Final = "application/octet-stream"
SECONDS_MAX: Final = 86_400
_PATH: Final = "/v1/engine/recording"
_PAUSE_S: Final = 0.4  #: from one look for batches to the next; the command waits a little longer at its end
_LARGE_BYTES: Final = 2 * BATCH_BYTES  #: a batch with larger bodies is packed beside the loop
_BEAT_S: Final = 1.0  #: a frame without entries, when nothing passes
_LOOK_S: Final = 0.5  #: whether the stream is over
_END_LIMIT_S: Final = 2.0
_DRAIN_LIMIT_S: Final = 1.0  #: the others mostly drain, too, and end by themselves
_OK: Final = 200


class RecordingQuery(msgspec.Struct):
    """What is recorded."""

    share: Annotated[
        float, msgspec.Meta(gt=0, le=1, description="of all requests, such as 0.1; default 1")
    ] = 1
    seconds: Annotated[
        float, msgspec.Meta(gt=0, le=SECONDS_MAX, description="for how long; default a day")
    ] = SECONDS_MAX


class RecordingRoutes:
    """Handlers, for clients and for other workers.

    Args:
        tap: shows what passes.
        peers: the other workers, under a supervisor.
        readiness: a draining engine ends its recordings.
        callers: tell who records.
        audit: told when a recording begins.
        server: value of ``Server``.
    """

    routes: Final = (
        Route(
            "GET",
            _PATH,
            "recording",
            "admin",
            RecordingQuery,
            text="requests and their answers as they pass, in all workers, until the client closes the "
            "connection: what `purgeline record` writes to a file, see docs/recording.md; scope `admin`",
            answers={200: Text(CONTENT_TYPE)},
            errors={409: "two others record already"},
        ),
    )

    def __init__(
        self,
        tap: Tap,
        peers: Peers | None,
        readiness: Readiness,
        *,
        callers: Callers,
        audit: Audit,
        server: str,
    ) -> None:
        self._tap = tap
        self._peers = peers
        self._readiness = readiness
        self._callers = callers
        self._audit = audit
        self._server = server
        self._worker = "0.0" if peers is None else f"{peers.slot}.{peers.generation}"

    async def recording(self, request: web.Request) -> web.StreamResponse:
        """Stream what passes in all workers."""
        if request.method == "HEAD":
            return web.Response(content_type=CONTENT_TYPE)
        recording = Recording(request[QUERY].share)
        self._tap.begin(recording)
        self._audit.admin(f"GET {_PATH} begins", self._callers.by(request), _OK)
        return await self._stream(request, recording, request[QUERY], self._peers)

    async def here(self, request: web.Request) -> web.StreamResponse:
        """Stream what passes in this worker, to the one that was asked."""
        try:
            asked = msgspec.convert(dict(request.query), RecordingQuery, strict=False)
            recording = Recording(asked.share)
            self._tap.begin(recording)
        except (RequestError, msgspec.ValidationError) as exc:
            return response_of(problem(409, str(exc)))
        return await self._stream(request, recording, asked, None)

    async def _stream(
        self, request: web.Request, recording: Recording, asked: RecordingQuery, peers: Peers | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Server": self._server, "Cache-Control": "no-store"})
        response.content_type = CONTENT_TYPE
        parts: list[asyncio.Task[None]] = []
        try:
            with contextlib.suppress(ConnectionError):
                await response.prepare(request)
                parts.append(asyncio.create_task(self._pump(recording, response)))
                if peers is not None:
                    parts.append(
                        asyncio.create_task(
                            Relays(peers, response, asked.share, asked.seconds).run(recording)
                        )
                    )
                why = await self._over(request, parts, asked.seconds)
                self._tap.end(recording)
                if why:
                    await asyncio.wait(parts, timeout=_END_LIMIT_S if why == "seconds" else _DRAIN_LIMIT_S)
                    if peers is self._peers:
                        last = encode(Frame(self._worker, ended=why))
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(response.write(last), _END_LIMIT_S)
        finally:
            self._tap.end(recording)
            for part in parts:
                part.cancel()
            for fault in await asyncio.gather(*parts, return_exceptions=True):
                if isinstance(fault, Exception) and not isinstance(fault, ConnectionError):
                    logger.opt(exception=fault).error("a recording ended too early")
        response.force_close()
        return response

    async def _over(self, request: web.Request, parts: list[asyncio.Task[None]], seconds: float) -> str:
        """Wait for the end of a stream; return why it ends, empty: the client has gone."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            done, _ = await asyncio.wait(parts, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if done or request.transport is None or request.transport.is_closing():
                return ""
            if self._readiness.is_draining:
                return "draining"
            if loop.time() >= until:
                return "seconds"

    async def _pump(self, recording: Recording, response: web.StreamResponse) -> None:
        """Write what this worker sees, until the recording is closed and all is written."""
        packer = Packer(self._worker)
        loop = asyncio.get_running_loop()
        told_at = 0.0
        is_over = False
        while not is_over:
            is_over = recording.is_closed
            while batch := recording.take():
                if batch.size > _LARGE_BYTES:
                    frame, packed = await asyncio.to_thread(packer.pack, batch)
                else:
                    frame, packed = packer.pack(batch)
                frame.dropped, frame.unwritable = recording.dropped, packer.unwritable
                await response.write(encode(frame, packed))
                recording.written(batch)
                told_at = loop.time()
                await asyncio.sleep(0)  # a write mostly waits for nothing
            if is_over or loop.time() - told_at >= _BEAT_S:
                beat = Frame(self._worker, dropped=recording.dropped, unwritable=packer.unwritable)
                await response.write(encode(beat))
                told_at = loop.time()
            await asyncio.sleep(0 if is_over else _PAUSE_S)


def head_of(request: web.Request) -> bytes:
    """Return the head of a request of aiohttp's lane, with a length in place of chunks."""
    lines = [f"{request.method} {request.raw_path} HTTP/1.1".encode("utf-8", "surrogateescape")]
    lines += [name + b": " + value for name, value in request.raw_headers]
    return b"\r\n".join([*lines, b"", b""])

"""The streams of the other workers, frame by frame into the one that a client reads."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec

from engine.recordings.frames import Frame, encode
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from aiohttp import web

    from engine.recordings.tap import Recording
    from engine.workers.peers import Peer, Peers

_LOOK_S: Final = 0.5  #: whether the stream is over, or there is another worker
_END_LIMIT_S: Final = 2.0
_OPEN_LIMIT_S: Final = 5.0  #: for a worker that is starting
_LEAVE_LIMIT_S: Final = 3.0  #: from the end of a worker's streams to its end
_OK: Final = 200


class Relays:
    """Hands on the streams of the other workers, also of those that start meanwhile.

    Args:
        peers: the other workers.
        response: what the client reads.
        share: of all requests that are recorded.
        seconds: for which they are.
    """

    def __init__(self, peers: Peers, response: web.StreamResponse, share: float, seconds: float) -> None:
        self._peers = peers
        self._response = response
        self._share = share
        self._until = asyncio.get_running_loop().time() + seconds

    async def run(self, recording: Recording) -> None:
        """Hand on until the recording is closed, then what the others still say."""
        relays: dict[Peer, asyncio.Task[None]] = {}
        try:
            while not recording.is_closed:
                for peer in self._peers.others():
                    if peer not in relays:
                        relays[peer] = asyncio.create_task(self._relay(peer, recording))
                await asyncio.sleep(_LOOK_S)
            if relays:
                await asyncio.wait(relays.values(), timeout=_END_LIMIT_S)
        finally:
            for relay in relays.values():
                relay.cancel()
            await asyncio.gather(*relays.values(), return_exceptions=True)

    async def _relay(self, peer: Peer, recording: Recording) -> None:
        """Hand on the frames of one worker for as long as it lives, and say when some are missing."""
        told = ""
        is_refused = False
        while not is_refused:
            try:
                response = await self._open(peer)
                async with response:
                    is_refused = response.status != _OK  # that stays so
                    if is_refused:
                        trouble = _refusal(response.status, await response.read())
                    else:
                        told = ""
                        await self._hand_on(response.content)
                        trouble = "its stream ended before the recording did"
            except Exception as exc:  # noqa: BLE001 - whatever ends a stream, it is told
                trouble = f"its stream broke: {exc!r}"
            if not await self._lives_on(peer, recording):
                return
            if trouble != told and self._stays(peer):
                told = trouble
                frame = Frame(f"{peer.slot}.{peer.generation}", trouble=trouble)
                with contextlib.suppress(ConnectionError):
                    await self._response.write(encode(frame))

    async def _lives_on(self, peer: Peer, recording: Recording) -> bool:
        """Tell whether a worker is still to be recorded, a while after its stream ended."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LEAVE_LIMIT_S
        while not recording.is_closed and peer in self._peers.others():
            if (left_s := until - loop.time()) <= 0:
                return True
            await asyncio.sleep(min(_LOOK_S, left_s))
        return False

    def _stays(self, peer: Peer) -> bool:
        """Tell whether a worker is the newest of its slot: one that drains ends its streams, as it should."""
        return not any(
            other.slot == peer.slot and other.generation > peer.generation for other in self._peers.all()
        )

    async def _open(self, peer: Peer) -> aiohttp.ClientResponse:
        loop = asyncio.get_running_loop()
        until = loop.time() + _OPEN_LIMIT_S
        seconds = max(0.1, self._until - loop.time())
        path = worker_path("recording", share=self._share, seconds=round(seconds, 3))
        while True:
            try:
                return await self._peers.open(peer, path)
            except (aiohttp.ClientError, OSError):
                if loop.time() > until or peer not in self._peers.others():
                    raise
            await asyncio.sleep(_LOOK_S)

    async def _hand_on(self, content: aiohttp.StreamReader) -> None:
        while line := await content.readline():
            size: Any = msgspec.json.decode(line).get("bytes", 0)
            entries = await content.readexactly(size) if size else b""
            await self._response.write(line + entries)


def _refusal(status: int, body: bytes) -> str:
    if status == 404:  # noqa: PLR2004 - HTTP
        return "its version records nothing"
    try:
        return str(msgspec.json.decode(body)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"it answered {status}"

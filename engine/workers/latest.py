"""What the other workers answered last: for who asks again and again, and cannot wait for one that hangs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp

if TYPE_CHECKING:
    from engine.workers.peers import Peer, PeerReply

ANSWER_S: Final = 1.5
_NOT_FOUND: Final = 404


class Asked(Protocol):
    """The workers; see `engine.workers.peers.Peers`."""

    def others(self) -> list[Peer]:
        """Return all other live workers."""

    async def ask(self, peer: Peer, method: str, path: str, body: bytes = b"") -> PeerReply:
        """Send one request to one worker."""


class _Asking:
    """One request to one worker, and the answer to the one before."""

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.is_late = False
        self.task: asyncio.Task[PeerReply | None] | None = None


class LatestAnswers:
    """Asks all other workers; in place of what does not come in time is what the same worker said before.

    A worker that hangs has one open request for each path, not one more with each look; once that is late,
    nobody waits for it again until it has answered or failed.

    Args:
        peers: the other workers.
        limit_s: an answer that takes longer is late.
    """

    def __init__(self, peers: Asked, *, limit_s: float = ANSWER_S) -> None:
        self._peers = peers
        self._limit_s = limit_s
        self._asking: dict[tuple[Peer, str], _Asking] = {}

    def forget(self) -> None:
        """Drop all answers; they are too old for who asks next."""
        for asking in self._asking.values():
            asking.body = None

    @property
    def silent(self) -> list[int]:
        """Slots of live workers that were late, or gave no answer."""
        live = self._peers.others()
        return sorted({peer.slot for (peer, _), one in self._asking.items() if one.is_late and peer in live})

    async def ask_all(self, path: str) -> list[bytes]:
        """Return the answers of all other workers; one that has never answered is left out."""
        peers = self._peers.others()
        for key in [key for key in self._asking if key[0] not in peers]:
            del self._asking[key]
        wanted = [self._ask(peer, path) for peer in peers]
        fresh = [one.task for one in wanted if one.task is not None and not one.is_late]
        if fresh:
            await asyncio.wait(fresh, timeout=self._limit_s)
        for one in wanted:
            _take(one)
        return [one.body for one in wanted if one.body is not None]

    def _ask(self, peer: Peer, path: str) -> _Asking:
        one = self._asking.setdefault((peer, path), _Asking())
        _take(one)
        if one.task is None:
            one.task = asyncio.get_running_loop().create_task(self._reply(peer, path))
        return one

    async def _reply(self, peer: Peer, path: str) -> PeerReply | None:
        try:
            return await self._peers.ask(peer, "GET", path)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None


def _take(one: _Asking) -> None:
    """Take over what has come."""
    if one.task is None:
        return
    if not one.task.done():
        one.is_late = True
        return
    reply = None if one.task.cancelled() else one.task.result()
    one.task = None
    one.is_late = reply is None
    if reply is not None:
        one.body = reply.body if reply.status < _NOT_FOUND else None

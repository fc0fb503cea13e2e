"""The other workers of this engine: whose a task is, and asking them.

With several workers a task belongs to one *slot*, told by its id; a worker makes ids of its own slot, and
hands what a client named to the slot it belongs to. During a hot reload a slot has two workers, the old
one and the new one, and a task may be in either. So whichever worker a client's connection reached, it
sees every task.

Workers speak HTTP to each other over their private Unix sockets (`engine.api.worker_api`), mode 0600: who can
open them is the engine's own user, and is believed.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from engine.base.background import Background
from engine.base.unix_path import UnixPaths
from engine.errors import StoreError
from engine.tasks.shards import slot_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_ASK_LIMIT_S: Final = 10.0
_FIND_LIMIT_S: Final = 10.0  #: a worker that died is back in about a second
_PAUSE_S: Final = 0.05
_OK: Final = 200
_NOT_FOUND: Final = 404
GONE: Final = 410  #: not an answer: ask again, the supervisor will say whom


def worker_path(*parts: str, **query: object) -> str:
    """Return a path of the workers' private interface; no character of a part or of a value ends it."""
    path = "/".join(("/worker", *(quote(part, safe="") for part in parts)))
    return f"{path}?{urlencode(query)}" if query else path


class Peer(msgspec.Struct, frozen=True):
    """One live worker, as the supervisor names it."""

    slot: int
    generation: int  #: grows with every start of a worker
    socket: str


class PeerReply(msgspec.Struct, frozen=True):
    """What a worker answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Peers:
    """The table of live workers.

    Args:
        slot: of this worker.
        count: of slots.
        generation: of this worker.
    """

    def __init__(self, slot: int, count: int, generation: int) -> None:
        self.slot = slot
        self.count = count
        self.generation = generation
        self.on_successor: Callable[[], None] = _ignore
        """Told that there is a newer worker of this slot: what is left in the store is for that one."""
        self.on_successor_lost: Callable[[], None] = _ignore
        """Told that a newer worker of this slot has gone: what it had accepted is in the store alone."""
        self._table: list[Peer] = []
        self._sessions: dict[Peer, aiohttp.ClientSession] = {}
        self._leaving: set[aiohttp.ClientSession] = set()
        self._background = Background()
        self._paths = UnixPaths()

    def __repr__(self) -> str:
        return f"<Peers of {self.slot}/{self.count} g{self.generation} [{len(self._table)} live]>"

    def update(self, table: Iterable[Peer]) -> None:
        """Take over which workers live, this one included."""
        before = self._table
        self._table = sorted(table, key=lambda peer: (peer.slot, -peer.generation))
        if any(self._is_successor(peer) for peer in self._table):
            self.on_successor()
        if any(self._is_successor(peer) and peer not in self._table for peer in before):
            self.on_successor_lost()
        leaving = [self._sessions.pop(peer) for peer in list(self._sessions) if peer not in self._table]
        for session in leaving:
            self._leaving.add(session)
            asyncio.get_running_loop().call_later(_ASK_LIMIT_S, self._let_go, session)  # it may be in use

    def _is_successor(self, peer: Peer) -> bool:
        return peer.slot == self.slot and peer.generation > self.generation

    def _let_go(self, session: aiohttp.ClientSession) -> None:
        if session in self._leaving:
            self._leaving.discard(session)
            self._background.start(session.close())

    async def close(self) -> None:
        """Close the connections."""
        for session in (*self._sessions.values(), *self._leaving):
            await session.close()
        self._sessions.clear()
        self._leaving.clear()
        self._paths.close()

    def is_mine(self, task_id: str) -> bool:
        """Tell whether a task belongs to this worker's slot."""
        return self.count == 1 or slot_of(task_id, self.count) == self.slot

    def others(self) -> list[Peer]:
        """Return all other live workers, by slot, the newest of a slot first."""
        return [peer for peer in self._table if peer.generation != self.generation]

    def all(self) -> list[Peer]:
        """Return all live workers, this one included, in the order of `others`."""
        return list(self._table)

    def has_predecessor(self) -> bool:
        """Tell whether an older worker of this slot is still there."""
        return any(peer.slot == self.slot and peer.generation < self.generation for peer in self._table)

    def others_of(self, task_id: str) -> list[Peer]:
        """Return the other live workers of a task's slot, the newest first."""
        slot = slot_of(task_id, self.count)
        return [peer for peer in self.others() if peer.slot == slot]

    async def find(self, task_id: str, *, is_sure: bool = False) -> dict[str, Any] | None:
        """Return a task's private document from another worker of its slot, or None.

        Args:
            task_id: of the task.
            is_sure: wait for a worker that has not yet replayed what was left to it.

        Raises:
            StoreError: a worker that may have it does not answer.
        """
        path = worker_path("task", task_id, **({"sure": 1} if is_sure else {}))
        reply = await self.ask_owner("GET", path, task_id)
        if reply is None:
            return None
        answer: dict[str, Any] = msgspec.json.decode(reply.body)
        if reply.status != _OK:
            raise StoreError(f"the worker that has this task cannot tell: {answer['detail']}")
        return answer

    async def ask_owner(self, method: str, path: str, task_id: str, body: bytes = b"") -> PeerReply | None:
        """Ask the other workers of a task's slot one after the other; None when all say 404.

        Raises:
            StoreError: none did it, and one does not answer.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _FIND_LIMIT_S
        while True:
            peers = self.others_of(task_id)
            is_mine = self.is_mine(task_id)
            silent: Exception | None = None if peers or is_mine else StoreError("there is none at the moment")
            for peer in peers:
                try:
                    reply = await self.ask(peer, method, path, body)
                except (aiohttp.ClientError, OSError, TimeoutError) as exc:
                    silent = exc
                    continue
                if reply.status == GONE:
                    silent = StoreError("it is ending")
                elif reply.status != _NOT_FOUND:
                    return reply
            if silent is None:
                return None
            if loop.time() > until:
                raise StoreError(f"the worker that has this task does not answer: {silent!r}")
            await asyncio.sleep(_PAUSE_S)  # it has just gone: the supervisor will say who is next

    async def ask_slots(self, method: str, path: str, body: bytes = b"") -> list[PeerReply]:
        """Ask all other workers, and wait for one of every slot: what is in its stores, it alone can change.

        This worker has done it by now. A worker that is announced meanwhile is asked, too.

        Raises:
            StoreError: a slot has no worker that answers, or one that lives does not; asking again is safe.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _FIND_LIMIT_S
        replies: dict[Peer, PeerReply] = {}
        while True:
            why = "it is starting"
            for peer in self.others():
                if peer not in replies:
                    try:
                        reply = await self.ask(peer, method, path, body)
                    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
                        why = repr(exc)
                        continue
                    if reply.status == GONE:
                        why = "it is ending"
                    else:
                        replies[peer] = reply
            # A worker looks at its store for the last time after the supervisor has announced it: that order
            # is in this worker's socket by now, and is read within the pause.
            await asyncio.sleep(_PAUSE_S)
            silent = self._silent_slots(replies)
            if not silent:
                return list(replies.values())
            if loop.time() > until:
                done = {self.slot, *(peer.slot for peer, reply in replies.items() if reply.status == _OK)}
                raise StoreError(
                    f"worker {_listed(silent)} of this engine does not answer, ask again in a moment: {why}; "
                    f"it is done in worker {_listed(done - silent) or 'none'}"
                )

    def _silent_slots(self, replies: Mapping[Peer, PeerReply]) -> set[int]:
        """Return the slots of live workers that are not in *replies*, and those without any worker."""
        answered = {self.slot, *(peer.slot for peer in replies)}
        silent = {peer.slot for peer in self.others() if peer not in replies}
        return silent | (set(range(self.count)) - answered)

    async def ask(self, peer: Peer, method: str, path: str, body: bytes = b"") -> PeerReply:
        """Send one request to one worker.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: it does not answer.
        """
        async with self._session(peer).request(method, path, data=body or None) as response:
            return PeerReply(response.status, dict(response.headers), await response.read())

    async def open(self, peer: Peer, path: str) -> aiohttp.ClientResponse:
        """Ask one worker for what comes bit by bit, and return the response, which the caller closes.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: it does not answer.
        """
        timeout = aiohttp.ClientTimeout(sock_connect=_ASK_LIMIT_S)
        return await self._session(peer).get(path, timeout=timeout)

    def _session(self, peer: Peer) -> aiohttp.ClientSession:
        session = self._sessions.get(peer)
        if session is None:
            connector = aiohttp.UnixConnector(self._paths.short(Path(peer.socket)))
            timeout = aiohttp.ClientTimeout(total=_ASK_LIMIT_S)
            session = self._sessions[peer] = aiohttp.ClientSession(
                "http://worker", connector=connector, timeout=timeout, auto_decompress=False
            )
        return session

    async def ask_all(self, path: str, method: str = "GET", body: bytes = b"") -> list[bytes]:
        """Return what every other worker answers; those that do not answer are left out."""

        async def body_of(peer: Peer) -> bytes | None:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                reply = await self.ask(peer, method, path, body)
                return reply.body if reply.status < _NOT_FOUND else None
            return None

        return [body for body in await asyncio.gather(*map(body_of, self.others())) if body is not None]


def _listed(slots: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(slots)))


def _ignore() -> None:
    """Tell nobody."""

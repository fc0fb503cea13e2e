"""Which nodes are being rewound, whichever worker or engine does it.

Each worker knows by the tasks it has in memory. Engines of one Redis tell each other there, and so do their
workers: one claims a node before it looks for what is to be sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
import msgspec
from loguru import logger

from engine.errors import StoreError
from engine.intake.replies import Reply
from engine.tasks.rewinds import Rewind, rewinds_of
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiohttp import web

    from engine.saver.reader import StoreReader
    from engine.tasks.task import Task
    from engine.workers.peers import Peer, Peers

_OK: Final = 200
_decode = msgspec.json.Decoder(Rewind | None).decode


class SharesRewinds(Protocol):
    """Where all engines of a store note rewinds; see `engine.store.redis.rewinds`."""

    def claim(self, node: str, name: str, since: float, /) -> str:
        """Claim a node for a rewind; return the name of the one that has it, empty: it is ours."""

    def keep(self, node: str, /) -> None:
        """Say that the claim is not forgotten."""

    def begun(self, node: str, name: str, since: float, tasks: Mapping[str, int], /) -> None:
        """Note the tasks of a rewind: id → how many targets it sends; without any it is over."""

    def under_way(self, nodes: Iterable[str], /) -> dict[str, Rewind]:
        """Return node → its rewind."""


class Rewinding:
    """Answers for this worker (`own`), for the store (`elsewhere`), and for all (`of`).

    Args:
        tasks: in memory, that are parts of rewinds.
        reader: asks the store.
        peers: the other workers, where each has a store of its own.
        shared: where several engines share one.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        reader: StoreReader,
        *,
        peers: Peers | None,
        shared: SharesRewinds | None,
    ) -> None:
        self._tasks = tasks
        self._reader = reader
        self._peers = peers
        self._shared = shared

    def own(self) -> dict[str, Rewind]:
        """Return node → its rewind, of those that this worker has tasks of."""
        return rewinds_of(self._tasks.values())

    async def elsewhere(self, nodes: Iterable[str]) -> dict[str, Rewind]:
        """Return node → its rewind, of those that a shared store knows; none when it cannot be read."""
        if self._shared is None:
            return {}
        try:
            return await self._reader.read(self._shared.under_way, nodes)
        except StoreError as exc:
            logger.debug("rewinds of other engines are not known: {}", exc)
            return {}

    async def of(self, node: str) -> Rewind | None:
        """Return the rewind of a node with all tasks of it that are not over; None: there is none.

        Raises:
            StoreError: the store cannot be read, or a worker does not answer.
        """
        found = [self.own().get(node)]
        peers = self._peers.others() if self._peers is not None else ()
        found += [await self._ask(peer, node) for peer in peers]
        if self._shared is not None:
            known = await self._reader.read(self._shared.under_way, [node])
            found.append(known.get(node))
        rewinds = [one for one in found if one is not None]
        if not rewinds:
            return None
        tasks = list(dict.fromkeys(task_id for one in rewinds for task_id in one.tasks))
        return Rewind(rewinds[0].name, rewinds[0].since, max(one.targets for one in rewinds), tasks)

    async def _ask(self, peer: Peer, node: str) -> Rewind | None:
        assert self._peers is not None
        try:
            reply = await self._peers.ask(peer, "GET", worker_path("rewind", node))
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise StoreError(f"a worker of this engine does not answer: {exc!r}") from exc
        # One of the version before does not know: it is about to end, and hands its tasks over.
        return _decode(reply.body) if reply.status == _OK else None

    async def here(self, request: web.Request) -> Reply:
        """Answer another worker about one node."""
        return Reply(_OK, msgspec.json.encode(self.own().get(request.match_info["name"])))

    # By who begins one

    async def claim(self, node: str, name: str, since: float) -> str:
        """Claim a node for a rewind in a shared store; return the name of the one that has it.

        Raises:
            StoreError: the store cannot be read or written.
        """
        if self._shared is None:
            return ""
        return await self._reader.read(self._shared.claim, node, name, since)

    async def keep(self, node: str) -> None:
        """Say that the rewind is still beginning: at least once a minute."""
        if self._shared is not None:
            await self._reader.read(self._shared.keep, node)

    async def begun(self, node: str, name: str, since: float, tasks: Mapping[str, int]) -> None:
        """Note the tasks of a rewind; when that cannot be done, other engines do not know of it."""
        if self._shared is None:
            return
        try:
            await self._reader.read(self._shared.begun, node, name, since, tasks)
        except StoreError as exc:
            logger.warning("the rewind {} of {} is not known to other engines: {}", name, node, exc)

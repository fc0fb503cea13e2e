"""Which nodes are being rewound, whichever worker or engine does it.

Each worker knows by the tasks it has in memory. Before one looks for what is to be sent it claims the node:
in Redis, where all engines and their workers tell each other of rewinds, or, among the workers of an embedded
store, by a lock in the data folder. A claim lapses with who has it.
"""

from __future__ import annotations

import os
import time
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
    """Where all that work with one store claim nodes: `SharedRewinds` or `FolderRewinds`."""

    def claim(self, node: str, name: str, since: float, /) -> str:
        """Claim a node for a rewind; return the name of the one that has it, empty: it is ours."""

    def keep(self, node: str, name: str, since: float, /) -> None:
        """Say that the claim is not forgotten.

        Raises:
            StoreError: it has lapsed.
        """

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
        shared: where all that work with one store claim nodes; None: this process alone does.
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
        """Return node → its rewind, of those that are claimed; none when that cannot be read."""
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

    def claim_of(self, node: str) -> Claim:
        """Return the claim of a rewind that is to begin; it is not made yet."""
        return Claim(self, self._reader, self._shared, node)


class Claim:
    """The claim of one node by a rewind that this worker begins.

    Attributes:
        name: of the rewind.
    """

    def __init__(
        self, rewinding: Rewinding, reader: StoreReader, shared: SharesRewinds | None, node: str
    ) -> None:
        self._rewinding = rewinding
        self._reader = reader
        self._shared = shared
        self._node = node
        self._since = time.time()
        self.name = f"rewind-{int(self._since * 1000):011x}{os.urandom(3).hex()}"

    async def make(self) -> str:
        """Claim the node; return the name of the rewind that has it, empty: it is ours.

        Raises:
            StoreError: the store cannot be read or written, or a worker does not answer.
        """
        if self._shared is None:
            return ""
        try:  # a claim whose answer was lost may stand, too
            other = await self._reader.read(self._shared.claim, self._node, self.name, self._since)
            if other:
                return other
            known = await self._rewinding.of(self._node)  # one may have begun between the last look and this
        except Exception:  # whatever it is: a lock that is kept would refuse every other one
            await self.begun({})
            raise
        if known is None or known.name == self.name:
            return ""
        await self.begun({})
        return known.name

    async def keep(self) -> None:
        """Say that the rewind is still beginning: at least once a minute.

        Raises:
            StoreError: the claim has lapsed, or the store cannot be read or written.
        """
        if self._shared is not None:
            await self._reader.read(self._shared.keep, self._node, self.name, self._since)

    async def begun(self, tasks: Mapping[str, int]) -> None:
        """Note the tasks of the rewind; none: it is over. Where that fails others do not know of it."""
        if self._shared is None:
            return
        try:
            await self._reader.read(self._shared.begun, self._node, self.name, self._since, tasks)
        except StoreError as exc:
            logger.warning(
                "the rewind {} of {} is not known to other engines: {}", self.name, self._node, exc
            )

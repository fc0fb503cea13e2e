"""Which engine delivers the delay queue of a node: one at a time, among those that share it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from zlib import crc32

from engine.errors import StoreError

if TYPE_CHECKING:
    from engine.cluster.membership import Membership
    from engine.cluster.threads import Threads
    from engine.delivery.claims import WasThere
    from engine.store.redis.members import Members


class QueueClaims:
    """The queues that this engine delivers; see `engine.delivery.claims.Claims`.

    With the server of a claim away, the engine of the known ones that the node's name tells delivers.

    Args:
        members: the store's side.
        threads: where it is called.
        membership: tells which engines there are.
    """

    def __init__(self, members: Members, threads: Threads, membership: Membership) -> None:
        self._members = members
        self._threads = threads
        self._membership = membership
        self._claimed: set[str] = set()

    async def take(self, node: str) -> bool:
        """Claim a node's queue, or keep it; False: another engine has it.

        Raises:
            StoreError: Redis is away.
        """
        try:
            is_ours = await self._lock(node)
        except StoreError:
            if not self._members.store.link.has_parts:
                raise
            workers = self._membership.workers()
            is_ours = workers[crc32(node.encode()) % len(workers)] == self._membership.consumer
        if is_ours:
            self._claimed.add(node)
        else:
            self._claimed.discard(node)
        return is_ours

    async def give_back(self, node: str) -> None:
        """Let others have a node's queue; with its server away, when the claim has run out."""
        if node in self._claimed:
            self._claimed.discard(node)
            with contextlib.suppress(StoreError):
                await self._threads.call(self._members.unlock, node)

    async def moment(self) -> WasThere:
        """Return what tells which rows are in their queues now."""
        return await self._threads.call(self._members.store.moment)

    async def keep_all(self) -> None:
        """Renew every claim, before the store lets it go."""
        for node in list(self._claimed):
            with contextlib.suppress(StoreError):  # the next one may be on another server
                await self._keep(node)

    async def _keep(self, node: str) -> None:
        """Renew a claim; one that was given back meanwhile must not come to life again."""
        is_ours = await self._lock(node)
        if not is_ours:
            self._claimed.discard(node)
        elif node not in self._claimed:
            await self._threads.call(self._members.unlock, node)

    async def _lock(self, node: str) -> bool:
        """Claim a node's queue, or keep it; an engine that is known to be gone has it no more.

        One that has joined since the last beat is not known yet, nor is any after this process was stopped
        for a while: it is looked for before its claim is taken.
        """
        lock = self._members.lock
        holder = await self._threads.call(lock, node)
        if holder and self._membership.is_nobody(holder):
            try:
                await self._membership.beat()
            except StoreError:  # the table of engines is away: nobody can tell, and the claim runs out
                return False
            if self._membership.is_nobody(holder):
                holder = await self._threads.call(lock, node, holder)
        return not holder

    async def give_back_all(self) -> None:
        """Let others have every queue."""
        for node in list(self._claimed):
            await self.give_back(node)

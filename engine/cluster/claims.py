"""Which engine delivers the delay queue of a node: one at a time, among those that share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.cluster.threads import Threads
    from engine.delivery.sent import WasThere
    from engine.store.redis.members import Members


class QueueClaims:
    """The queues that this engine delivers; see `engine.delivery.redelivery.Claims`.

    Args:
        members: the store's side.
        threads: where it is called.
    """

    def __init__(self, members: Members, threads: Threads) -> None:
        self._members = members
        self._threads = threads
        self._claimed: set[str] = set()

    async def take(self, node: str) -> bool:
        """Claim a node's queue, or keep it; False: another engine has it."""
        if await self._threads.call(self._members.lock, node):
            self._claimed.add(node)
            return True
        self._claimed.discard(node)
        return False

    async def give_back(self, node: str) -> None:
        """Let others have a node's queue."""
        if node in self._claimed:
            self._claimed.discard(node)
            await self._threads.call(self._members.unlock, node)

    async def moment(self) -> WasThere:
        """Return what tells which rows are in their queues now."""
        return await self._threads.call(self._members.store.moment)

    async def keep_all(self) -> None:
        """Renew every claim, before the store lets it go."""
        for node in list(self._claimed):
            await self._keep(node)

    async def _keep(self, node: str) -> None:
        """Renew a claim; one that was given back meanwhile must not come to life again."""
        is_ours = await self._threads.call(self._members.lock, node)
        if not is_ours:
            self._claimed.discard(node)
        elif node not in self._claimed:
            await self._threads.call(self._members.unlock, node)

    async def give_back_all(self) -> None:
        """Let others have every queue."""
        for node in list(self._claimed):
            await self.give_back(node)

"""Looking for engines that have gone: what they left is shared out among those that live."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from loguru import logger

from engine.errors import StoreError

if TYPE_CHECKING:
    from engine.cluster.membership import Membership
    from engine.cluster.takeover import Takeover
    from engine.cluster.threads import Threads
    from engine.store.redis.members import Members


class Watch:
    """Takes over what engines that have gone left, in this engine's share of the regions.

    Args:
        membership: who is there.
        members: the store's side.
        threads: where it is called.
        takeover: takes entries over.
    """

    def __init__(
        self, membership: Membership, members: Members, threads: Threads, takeover: Takeover
    ) -> None:
        self._membership = membership
        self._members = members
        self._threads = threads
        self._takeover = takeover
        self._looking = asyncio.Lock()
        self._pending: dict[str, dict[int, int]] = {}

    async def look(self) -> None:
        """Look once, and take over.

        Raises:
            StoreError: the store cannot be read or written.
        """
        async with self._looking:
            if self._membership.is_draining:
                return  # what is unfinished goes to others soon
            pending = await self._threads.call(self._members.pending)
            await self._membership.beat()  # after that: who has entries had joined before
            self._pending = pending
            leader = self._membership.view.leader
            if leader and self._membership.is_nobody(leader):  # whose lock may last: clocks can be set back
                await self._threads.call(self._members.depose, leader)
            await self._take_share()
            for member in self._membership.view.members:
                if self._membership.is_gone(member) and not self._pending.get(member.consumer):
                    await self._threads.call(self._members.bury, member.consumer)

    async def _take_share(self) -> None:
        membership = self._membership
        workers = membership.workers()
        place = workers.index(membership.consumer)
        for consumer, regions in self._pending.items():
            if not membership.is_nobody(consumer):
                continue
            for region in sorted(regions):
                if region % len(workers) != place:
                    continue
                try:
                    await self._takeover.take_from(consumer, region)
                except StoreError as exc:  # the others need not wait for this one
                    logger.debug("region {} has to wait: {}", region, exc)

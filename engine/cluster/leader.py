"""What one engine does for all: stored tasks become partial at their time, rows of nobody fail."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from engine.cluster.claims import QueueClaims
    from engine.cluster.membership import Membership
    from engine.cluster.threads import Threads
    from engine.delivery.queues import DelayQueues
    from engine.delivery.redelivery import Redelivery
    from engine.notify.stored import StoredCallbacks
    from engine.observe.counters import Stats
    from engine.store.redis.members import Members


class Leader:
    """The work of the engine that leads.

    Args:
        membership: tells which engine leads, and its number.
        members: the store's side.
        threads: where it is called.
        claims: a node's rows are dropped by the engine that may deliver them.
        queues: tell which nodes have rows.
        redelivery: fails rows of nodes that no engine knows.
        callbacks: delivers the callbacks of tasks that become partial.
        stats: counts those tasks.
    """

    def __init__(
        self,
        membership: Membership,
        members: Members,
        threads: Threads,
        *,
        claims: QueueClaims,
        queues: DelayQueues,
        redelivery: Redelivery,
        callbacks: StoredCallbacks,
        stats: Stats,
    ) -> None:
        self._membership = membership
        self._members = members
        self._threads = threads
        self._claims = claims
        self._queues = queues
        self._redelivery = redelivery
        self._callbacks = callbacks
        self._stats = stats
        self._fenced = 0  # the number that all regions were told

    async def lead(self) -> None:
        """Do one round, unless another engine has come to lead.

        Raises:
            StoreError: the store cannot be read or written.
        """
        fence = self._membership.view.fence
        if self._fenced != fence:
            if not await self._threads.call(self._members.fence, fence):
                return
            self._fenced = fence
        states, callbacks = await self._threads.call(self._members.make_due, time.time(), fence)
        self._stats.tasks_partial += len(states)
        self._callbacks.written(0, callbacks)
        await self._drop_unknown()

    async def _drop_unknown(self) -> None:
        """Fail rows of nodes that no engine has in its configuration any more."""
        known = set().union(*(member.about.nodes for member in self._membership.view.members))
        for name in self._queues.names():
            if name not in known and await self._claims.take(name):
                count = self._queues.depth(name)
                logger.warning("{} is not configured any more; its {} delayed subtasks fail", name, count)
                try:
                    await self._redelivery.drop_unknown(name)
                finally:
                    await self._claims.give_back(name)

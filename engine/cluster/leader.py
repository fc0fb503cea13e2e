"""What one engine does for all: stored tasks become partial at their time, rows of nobody fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.cluster.membership import Membership
    from engine.cluster.threads import Threads
    from engine.delivery.gone import GoneNodes
    from engine.notify.stored import StoredCallbacks
    from engine.observe.counters import Stats
    from engine.store.redis.members import Members


class Leader:
    """The work of the engine that leads.

    Args:
        membership: tells which engine leads, and its number.
        members: the store's side.
        threads: where it is called.
        gone: settles what is left of nodes that no engine configures any more.
        on_alert: told what an operator should know: key, level, message.
        callbacks: delivers the callbacks of tasks that become partial.
        stats: counts those tasks.
    """

    def __init__(
        self,
        membership: Membership,
        members: Members,
        threads: Threads,
        *,
        on_alert: Callable[[str, str, str], None],
        gone: GoneNodes,
        callbacks: StoredCallbacks,
        stats: Stats,
    ) -> None:
        self._membership = membership
        self._members = members
        self._threads = threads
        self._on_alert = on_alert
        self._gone = gone
        self._callbacks = callbacks
        self._stats = stats
        self._fenced: int | None = None  # the number that regions are told
        self._untold: set[int] = set()  # regions that were not told yet

    async def lead(self) -> None:
        """Do one round, unless another engine has come to lead.

        Raises:
            StoreError: the store cannot be read or written.
        """
        fence = self._membership.view.fence
        if self._fenced != fence:
            self._fenced, self._untold = fence, set(range(self._members.store.keys.count))
        if self._untold:
            told = await self._threads.call(self._members.fence, fence, sorted(self._untold))
            if told is None:
                await self._go_past(fence)
                return
            self._untold -= told
        states, callbacks = await self._threads.call(self._members.make_due, self._membership.now(), fence)
        self._stats.tasks_partial += len(states)
        self._callbacks.written(0, callbacks)
        await self._gone.look(self._membership.configured())

    async def _go_past(self, fence: int) -> None:
        """A region has seen a higher number: another engine leads by now, or the number was lost."""
        number = await self._threads.call(self._members.grow_fence)
        if number:
            text = (
                f"the number of the leader was lost: it was {fence}, and regions have seen more; now {number}"
            )
            self._on_alert("leader", "warning", text)

"""Rebounds: the purges by URL of a task once more, ``rebound_s`` after all nodes have had their first one.

A visitor's fetch of the old object that waits for its origin when the purge comes is stored after it, and no
cache tells of it. The second purge drops what such a fetch has brought. It goes parents first, as the first
one did; the task is ``done`` before it, and its own prefetches come after it.

The task stays in memory, and its row in the journal, until its rebound is over: after a restart it is begun
again, with another rebound. A subtask that went into the delay queue has none: it is purged late anyway.

With a shared store the rows of a task are written when nothing else of it is on its way. So that these never
wait for a node that does not take its second purge, that purge becomes a row, too, in place of the first.
"""

from __future__ import annotations

import itertools
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from engine.delivery.parking import behind_parents
from engine.tasks.words import ACKED, CANCELLED, DELAYED, FAILED, QUEUED, RETRYING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.base.timer import Timer
    from engine.delivery.parking import Park
    from engine.tasks.task import Share, Task

_AGAIN_S: Final = 5.0  #: pause until a node is asked again that is away, or that answered wrongly
_numbers = itertools.count()


class Rebound:
    """The second purges of one task; owns their shares, which are those of an internal task.

    Args:
        task: of a client.
        timer: of the engine.
        release: queues what waits for targets of a share.
        on_over: told when every second purge was sent, or is not worth it.
        park: makes rows of a client's subtasks; see `Parking.park`.
    """

    def __init__(
        self,
        task: Task,
        timer: Timer,
        *,
        release: Callable[[Share, Sequence[int]], None],
        on_over: Callable[[Task], None],
        park: Park,
    ) -> None:
        self._task = task
        self._timer = timer
        self._release = release
        self._on_over = on_over
        self._park = park
        self._purges: dict[Share, Share] = {}
        self._left = 0
        self._first_acked_at: dict[tuple[Share, int], float] = {}  # of those acked beside prefetches
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"<Rebound of {self._task.id} [{self._left} left]>"

    def take(self, share: Share, purge: Share) -> None:
        """Take in the share of a node's second purges, with that of its first."""
        self._purges[share] = purge
        self._left += len(share.states)

    def stop(self) -> None:
        """Send nothing more: the task was cancelled, or is another engine's by now."""
        self._is_stopped = True
        for share in self._purges:
            states = share.states
            queued = [index for index in range(len(states)) if states[index] == QUEUED]
            for index in range(len(states)):
                if states[index] in {QUEUED, RETRYING}:
                    states[index] = CANCELLED
            share.node.forget(share, queued)

    def unblocked(self, share: Share, ready: list[int]) -> None:
        """Send what may be sent: of a top node later, of others now, because their parents were waited for.

        What failed the first time, or waits for its node, is not sent; prefetches behind it see the same.
        """
        if self._is_stopped:
            return
        purge = self._purges[share]
        left_out = [index for index in ready if purge.states[index] in {FAILED, DELAYED, CANCELLED}]
        if left_out:
            for index in left_out:
                share.states[index] = purge.states[index]
                share.failed_count += purge.states[index] == FAILED
                share.delayed_count += purge.states[index] == DELAYED
            ready = [index for index in ready if share.states[index] not in {FAILED, DELAYED, CANCELLED}]
        if ready and share.parents[0] not in self._purges:
            self._send_in(self._task.rebound_s, share, ready)
        elif ready:
            self._send(share, self._without_late(share, ready))
        if left_out:
            self._settled(share, left_out)

    def catch_up(self, share: Share, indexes: Sequence[int]) -> None:
        """Take in what the delay queue did of first purges that waited, before a prefetch looks at that."""
        purge = self._purges[share]
        for index in indexes:
            if share.states[index] == DELAYED and purge.states[index] in {ACKED, FAILED}:
                share.states[index] = purge.states[index]
                share.delayed_count -= 1
                share.failed_count += purge.states[index] == FAILED

    def _send_in(self, wait_s: float, share: Share, indexes: Sequence[int]) -> None:
        self._timer.add(("rebound", next(_numbers)), wait_s, partial(self._send, share, indexes))

    def _send(self, share: Share, indexes: Sequence[int]) -> None:
        if indexes and not self._is_stopped:
            share.node.add_backlog(share, indexes)

    def _without_late(self, share: Share, ready: list[int]) -> list[int]:
        """Leave what has a parent that is purged late to the delay queue; return the rest."""
        if not self._task.parked:
            return ready
        ready, behind = behind_parents(ready, share.parents)
        for after, indexes in behind.items():
            self._leave(share, indexes, f"waits for {after}", after=after)
        return ready

    def _leave(self, share: Share, indexes: Sequence[int], reason: str, *, after: str = "") -> None:
        """Make rows of second purges: the first ones count no more."""
        if self._is_stopped:
            return
        purge = self._purges[share]
        purge.acked_count -= len(indexes)
        self._park(purge, indexes, reason, after=after)
        for index in indexes:
            share.states[index] = DELAYED
        share.delayed_count += len(indexes)
        self._settled(share, indexes)

    def _try_again(self, share: Share, indexes: Sequence[int]) -> None:
        if self._task.parked:
            self._leave(share, indexes, "not taken once more (rebound_s); it is sent when the node takes it")
        else:
            self._send_in(_AGAIN_S, share, list(indexes))

    def _settled(self, share: Share, indexes: Sequence[int]) -> None:
        if self._is_stopped:
            return
        self._left -= len(indexes)
        is_last = not self._left  # what the release settles in turn may be the last itself
        self._release(share, indexes)
        if is_last:
            for again in self._purges:
                again.children, again.parents = None, ()
            self._on_over(self._task)

    # Owner of the subtasks

    def acked(self, share: Share, indexes: Sequence[int], *, is_absent: bool = False) -> None:
        """Count second purges that the cache did."""
        self._settled(share, indexes)

    def failed(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """Count second purges that the cache will not do: the first ones were acked."""
        self._settled(share, indexes)

    def parked(self, share: Share, indexes: Sequence[int]) -> None:
        """The node went away after the first purge: try again."""
        self._try_again(share, indexes)

    def postponed(self, share: Share, indexes: Sequence[int]) -> None:
        """The cache answered wrongly, or a prefetch of the same is under way: try again."""
        self._try_again(share, indexes)

    def acked_beside(self, share: Share, index: int, began_at: float, now: float) -> float:
        """Have a second purge sent again, unless all of the prefetches began after it was first acked."""
        first_at = self._first_acked_at.setdefault((share, index), now)
        return first_at if began_at <= first_at else -inf

"""The hot path: committed tasks to their nodes, answers back into their tasks.

A task is expanded into one `Share` per node. A share without parents is queued at once; the others
are released target by target, each when all of its parents have answered for that target. The engine's
rules for a parent that does not ack:

- *failed for good* (poison, 400): the edge is purged all the same, once. It may fetch the old object again,
  but not purging it would surely leave it stale; the task fails and says so.
- *unreachable*, refusing, answering wrongly (5xx): the edge is purged at once, so that one such parent does
  not keep every edge stale; and again when the parent's purge has been delivered, because until then the edge
  may have fetched the old object from it. Only the second one counts.

Everything here runs on the loop and does no I/O.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from engine.delivery import expansion
from engine.delivery.early import send_below, send_early
from engine.delivery.inbox import Inbox
from engine.delivery.layout import Layout
from engine.delivery.parking import behind_parents
from engine.delivery.retries import Retries
from engine.delivery.schedule import Schedule
from engine.tasks import documents
from engine.tasks.task import ERRORS_MAX, Share, Task
from engine.tasks.words import (
    ACKED,
    BLOCKED,
    FAILED,
    FINAL_STATES,
    ON_ITS_WAY,
    UNPURGED,
    Operation,
    State,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping, Sequence

    from engine.base.timer import Timer
    from engine.delivery.absent import PlanNodes
    from engine.delivery.endings import Endings
    from engine.delivery.load import Load
    from engine.delivery.parking import Parking
    from engine.delivery.touched import Touched
    from engine.nodes.queue import Item
    from engine.observe.counters import Stats
    from engine.saver.pool import SaverPool
    from engine.tasks.records import JournalKey
    from engine.tasks.task import NodeRef

_RUNNING: Final = State.RUNNING  # looked up once: see `health`
_PREFETCH: Final = Operation.PREFETCH
_TOGETHER_MIN: Final = 4  #: subtasks, from which on a look whether they are neighbours is worth it
_ACKED_BYTE: Final = bytes((ACKED,))


class Dispatch:
    """Sends the subtasks of tasks to their nodes, and folds the answers into the tasks.

    Args:
        nodes: the configured nodes by name, complete before the first task.
        timer: fires retries.
        plan_nodes: finds the nodes of plans that a store kept.
        touched: told of tasks that made progress; None: no other engine has the store.
        load: counts live subtasks.
        savers: write that tasks begin.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        nodes: Mapping[str, NodeRef],
        timer: Timer,
        stats: Stats,
        *,
        endings: Endings,
        parking: Parking,
        plan_nodes: PlanNodes,
        touched: Touched | None,
        load: Load,
        savers: SaverPool,
    ) -> None:
        self.inbox = Inbox(loop, self._expand)  #: tasks that are stored and not yet expanded
        self.schedule = Schedule(loop, load, savers, is_shared=touched is not None, begin=self._begin)
        self.layout = Layout(
            nodes,
            plan_nodes,
            timer,
            endings,
            release=self._release,
            park=parking.park,
            park_absent=self.park,
        )
        self._stats = stats
        self._endings = endings
        self._less_live = endings.less_live
        self._parking = parking
        self._touched = touched
        self._retries = Retries(timer, stats, give_up=endings.give_up, fail=self._fail, park=self.park)

    def __repr__(self) -> str:
        return f"<Dispatch [{len(self.inbox)} tasks to expand]>"

    # Tasks in

    def submit(self, task: Task, journal_key: JournalKey, *, left_s: float | None = None) -> None:
        """Begin with a committed task; `Load` has counted it since it was accepted.

        Args:
            task: saved by its saver.
            journal_key: the journal's row that holds it.
            left_s: until it is due, for one of an earlier process, as far as the wall clock can tell;
                one that has just come has all of its ``due_s``, whatever happens to that clock.
        """
        self._endings.journal_rows.enter(task, journal_key)
        if task.is_scheduled:
            self.schedule.add(task)
        else:
            self._begin(task, task.due_s if left_s is None else left_s)

    def _begin(self, task: Task, left_s: float) -> None:
        """Have a task expanded, which is due in *left_s*."""
        self._endings.watch(task, max(0.0, min(task.due_s, left_s)))
        task.body = b""
        self.inbox.put(task)

    def _expand(self, task: Task) -> bool:
        """Make the shares of a task and queue those that wait for nobody; False: that was done before."""
        if task.shares or task.state in FINAL_STATES:
            return False
        task.state = State.PARTIAL if task.is_due else _RUNNING
        acked = self.layout.lay_out(task)
        if task.progress is not None:
            self._go_on(task, acked)
            return True
        indexes = range(len(task.targets))
        for share in task.shares:
            if share.blockers is None:
                share.node.add(share, indexes)
        return True

    def _go_on(self, task: Task, acked: dict[Share, list[int]]) -> None:
        """Begin where an engine before this one had come to: what was acked is not sent again."""
        for share in task.shares:
            if share.blockers is None:
                blocked = expansion.blocked_of(share)
                if blocked:
                    share.node.add(share, blocked)
        for share, indexes in acked.items():
            self._release(share, indexes)
        count = sum(map(len, acked.values()))
        if count:
            self._less_live(task, count)

    def stop(self) -> None:
        """Expand nothing more; what is not expanded is in the store."""
        self.schedule.stop()
        self.inbox.stop()

    # Answers

    def acked(self, items: list[Item], *, is_absent: bool = False) -> None:
        """Fold requests that a node acked into their tasks.

        Runs once per answer at full rate, so answers are grouped by share first: neighbours on the
        wire nearly always belong to the same.
        """
        grouped: dict[Share, list[int]] = {}
        last: Share | None = None
        indexes: list[int] = []
        for share, index, others in items:
            if share is not last:
                indexes = grouped.setdefault(share, [])
                last = share
            indexes.append(index)
            if others is not None:
                for other, place in others:
                    grouped.setdefault(other, []).append(place)
        now = time.time()
        for share, indexes in grouped.items():
            self._share_acked(share, indexes, now, is_absent=is_absent)

    def _share_acked(self, share: Share, indexes: list[int], now: float, *, is_absent: bool) -> None:
        states = share.states
        count = len(indexes)
        first = indexes[0]
        if count >= _TOGETHER_MIN and indexes == list(range(first, first + count)):
            states[first : first + count] = _ACKED_BYTE * count  # neighbours were sent one after the other
        else:
            for index in indexes:
                states[index] = ACKED
        share.acked_count += count
        share.acked_at = now
        task = share.task
        if task.owner is not None:  # `is_internal`; a property would cost a call an answer
            task.owner.acked(share, indexes, is_absent=is_absent)
            return
        self._stats.subtasks_acked += count
        if is_absent:
            task.absent_count += count
            share.absent_count += count
        task.updated_at = now
        if self._touched is not None and task.live > count:
            self._touched.add(task)
        if share.children:
            self._release(share, indexes)
        self._less_live(task, count)

    def count_later(self, subtasks: Sequence[tuple[Share, int]]) -> None:
        """Purge at once what waits for purges that were acked and do not count yet: again when they do."""
        grouped: dict[Share, list[int]] = {}
        for share, index in subtasks:
            if share.children and share.states[index] in ON_ITS_WAY:
                grouped.setdefault(share, []).append(index)
        for share, indexes in grouped.items():
            send_below(share, indexes)

    def failed(self, item: Item, reason: str) -> None:
        """Fail every subtask of a request for good."""
        share, index, others = item
        for owner, place in ((share, index), *(others or ())):
            self._fail(owner, [place], reason)

    def _fail(self, share: Share, indexes: list[int], reason: str) -> None:
        task = share.task
        for index in indexes:
            share.states[index] = FAILED
        share.failed_count += len(indexes)
        if task.owner is not None:
            task.owner.failed(share, indexes, reason)
            return
        self._stats.subtasks_failed += len(indexes)
        for index in indexes[:ERRORS_MAX]:
            documents.add_error(task, share.node.name, task.targets[index], reason)
        task.updated_at = time.time()
        self._release(share, indexes)
        self._less_live(task, len(indexes))

    def retry(self, item: Item, reason: str) -> None:
        """Queue a request's subtasks again after a pause; see `Retries.retry`."""
        self._retries.retry(item, reason)

    def postpone(self, item: Item, reason: str) -> None:
        """Move a request's subtasks to the delay queue, to be tried again after a longer pause."""
        self._retries.postpone(item, reason)

    def without_cancelled(self, items: list[Item]) -> list[Item]:
        """Return what is to be sent again of requests that got no answer: nothing of a cancelled task."""
        return self._retries.without_cancelled(items)

    def hold(self, items: list[Item], reason: str) -> None:
        """Move the subtasks of requests that the node refuses, or would, to the delay queue."""
        self._retries.hold(items, reason)

    def park(
        self,
        share: Share,
        indexes: Sequence[int],
        reason: str,
        *,
        after: str = "",
        tells_each: bool = False,
    ) -> None:
        """Move subtasks that cannot be sent now to their node's delay queue, on disk; see `Parking.park`."""
        task = share.task
        if task.owner is not None:
            task.owner.parked(share, indexes)
            return
        self._parking.park(share, indexes, reason, after=after, tells_each=tells_each)
        if share.children:
            self._release(share, indexes)
        self._less_live(task, len(indexes))

    # Children

    def _release(self, share: Share, indexes: Iterable[int]) -> None:
        """A parent is through with these targets: queue them where it was the last to wait for."""
        for child in share.children or ():
            blockers = child.blockers
            assert blockers is not None
            ready = []
            for index in indexes:
                waits_for = blockers[index] - 1
                blockers[index] = waits_for
                if not waits_for:
                    ready.append(index)
            if ready:
                self._unblocked(child, ready)

    def _unblocked(self, share: Share, ready: list[int]) -> None:
        if share.task.owner is not None:
            if share.task.rebound is not None:
                share.task.rebound.unblocked(share, ready)
            return
        if share.cancelled_count or share.task.progress is not None:
            ready = [index for index in ready if share.states[index] == BLOCKED]
        delayed = [parent for parent in share.parents if parent.delayed_count]
        for parent in delayed:
            if parent.task.rebound is not None and parent.task.owner is not None:
                parent.task.rebound.catch_up(parent, ready)
        own = share.parents[0] if share.operation is _PREFETCH else None
        if own is not None and own.node is share.node and own.failed_count:
            unpurged = [index for index in ready if own.states[index] == FAILED]
            ready = [index for index in ready if own.states[index] != FAILED]
            if unpurged:
                self._fail(share, unpurged, UNPURGED)
        if delayed:
            ready = self._park_behind(share, ready, delayed)
        if ready:
            share.node.add(share, ready)

    def _park_behind(self, share: Share, ready: list[int], parents: list[Share]) -> list[int]:
        """Park what has an unreachable parent, and purge it early; return the rest."""
        rest, behind = behind_parents(ready, parents)
        for after, indexes in behind.items():
            if share.operation is not _PREFETCH:
                targets = [share.task.targets[index] for index in indexes]
                send_early(share.node, share.operation, targets, share.task.id)
            self.park(share, indexes, f"waits for {after.replace(':f', '')}", after=after)
        return rest

    # Tasks out

    def cancel(self, task: Task) -> int:
        """Cancel what has no answer: it is not sent again. Returns how many subtasks that was."""
        if task.is_scheduled:
            self.schedule.take_out(task)
        if not task.shares and task.state not in FINAL_STATES:
            acked = sum(map(len, self.layout.lay_out(task).values()))
            if acked:
                self._less_live(task, acked)
        return self._endings.cancel(task)

    def lost(self, task_id: str) -> None:
        """Leave a task to the engine that took it over, because this one was thought to be dead."""
        self.schedule.lost(task_id)
        task = self._endings.lost(task_id)
        if task is not None:
            self.cancel(task)

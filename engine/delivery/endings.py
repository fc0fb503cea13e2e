"""What happens when a task is over, is due, is cancelled, or is another engine's by now.

A task ends in memory when nothing of it is on its way any more: it gets its state, its document is written
with the callback that reports it, and it is forgotten here once that is stored.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from engine.delivery.expansion import unlink
from engine.delivery.watchers import Watchers
from engine.tasks import documents
from engine.tasks.progress import progress_document
from engine.tasks.records import Callback, JournalKey
from engine.tasks.words import (
    ACKED,
    BLOCKED,
    CANCELLED,
    DELAYED,
    FAILED,
    FINAL_STATES,
    QUEUED,
    RETRYING,
    State,
)

if TYPE_CHECKING:
    from engine.base.timer import Timer
    from engine.delivery.journal_rows import JournalRows
    from engine.delivery.load import Load
    from engine.delivery.parking import Parking
    from engine.delivery.touched import Touched
    from engine.observe.audit import Audit
    from engine.observe.counters import Stats
    from engine.saver.pool import SaverPool
    from engine.tasks.region import RegionMap
    from engine.tasks.task import Share, Task

_RUNNING: Final = State.RUNNING  # looked up once: see `health`
_DONE: Final = State.DONE
_CANCELLED: Final = State.CANCELLED
_UNSENT: Final = frozenset({BLOCKED, QUEUED, RETRYING, DELAYED})

_encode = msgspec.json.encode


class Endings:
    """Owns how tasks end, from the due time to the last reference to them.

    Args:
        dues: fires at the due times of tasks.
        audit: told of tasks that are done or have failed; who cancels one tells of that.
        touched: tasks with progress to tell other engines of; None: no other engine has the store.
    """

    def __init__(
        self,
        regions: RegionMap,
        dues: Timer,
        savers: SaverPool,
        *,
        load: Load,
        journal_rows: JournalRows,
        parking: Parking,
        stats: Stats,
        audit: Audit,
        touched: Touched | None,
    ) -> None:
        self._regions = regions
        self._dues = dues
        self._savers = savers
        self._load = load
        self.journal_rows = journal_rows
        self._parking = parking
        self._stats = stats
        self._audit = audit
        self._touched = touched
        self._is_shared = touched is not None
        self.watchers = Watchers()

    # While it is at work

    def watch(self, task: Task, wait_s: float) -> None:
        """Take note of a task that begins: when it is due."""
        self._dues.add(task.id, wait_s, lambda: self.due(task))

    def due(self, task: Task) -> None:
        """A task's due time has come: what is left of it makes it partial, and it goes on."""
        task.is_due = True
        if not task.shares or task.is_handed:
            return  # not expanded yet; it will begin as partial
        if task.live == 0:
            self.over(task)
        elif task.state is _RUNNING:
            task.state = State.PARTIAL
            task.updated_at = time.time()
            self._count(State.PARTIAL)
            report = self._report(task)
            if report is not None:
                self._savers.of(task.id).report(report)

    def less_live(self, task: Task, count: int) -> None:
        """Count subtasks of a task out that were settled or parked; with the last of them it is over."""
        task.live -= count
        if task.live == 0:
            self.over(task)  # before others take its room: its document goes ahead of their records
        elif task.live == 1 and task.rebound is not None:
            self._over_but_rebound(task)
        self._load.release(count)

    def settle_late(self, share: Share, index: int, reason: str, *, is_absent: bool = False) -> None:
        """Settle a delayed subtask of a task in memory: delivered, or failed for *reason*."""
        if share.states[index] != DELAYED:
            return
        task = share.task
        share.delayed_count -= 1
        if reason:
            share.states[index] = FAILED
            share.failed_count += 1
            documents.add_error(task, share.node.name, task.targets[index], reason)
        else:
            share.states[index] = ACKED
            share.acked_count += 1
            share.acked_at = time.time()
            task.absent_count += is_absent
            share.absent_count += is_absent
        task.updated_at = time.time()
        if task.live == 0:
            self.over(task)
        elif task.live == 1 and task.rebound is not None:
            self._over_but_rebound(task)

    def rebound_over(self, task: Task) -> None:
        """The second purges of a task are over: it is not kept for them any more."""
        task.rebound = None
        task.live -= 1
        if task.live == 0:
            self.over(task)

    def verification_over(self, task: Task) -> None:
        """All visits of a task are over: it is not kept for them any more."""
        if task.verify is not None:
            task.verify.run = None
        task.live -= 1
        if task.live == 0:
            self.over(task)

    # When a client takes it back

    def cancel(self, task: Task) -> int:
        """Cancel what has no answer of a task that has its shares. Returns how many subtasks that was.

        The task is cancelled from here on, and the store is told at once, so that no restart and no other
        engine sends it again. What is on the wire stays there: an answer that comes is counted, without one
        the subtask stays cancelled (`give_up`).
        """
        if task.state in FINAL_STATES or task.is_visited_only:
            return 0
        if task.rebound is not None:
            task.rebound.stop()
            task.rebound = None
            task.live -= 1
        if task.verify is not None and task.verify.run is not None:
            task.verify.run.stop()
            task.verify.run = None
            task.live -= 1
        unsent, parked = self._take_back(task)
        self._parking.take_back(task, parked)
        counted_out = unsent - sum(parked.values())
        on_the_wire = task.live - counted_out
        if not unsent and not on_the_wire:
            return 0
        task.updated_at = time.time()
        if not task.is_lost:
            task.state = _CANCELLED
            task.settled_at = task.updated_at
            self._count(_CANCELLED)
            self._dues.cancel(task.id)
        self.less_live(task, counted_out)
        if on_the_wire and not task.is_lost:
            self._keep_cancelled(task)
        return unsent + on_the_wire

    def give_up(self, share: Share, index: int) -> None:
        """Leave a subtask of a cancelled task that got no answer as it is: cancelled."""
        share.states[index] = CANCELLED
        share.cancelled_count += 1
        self.less_live(share.task, 1)

    def _take_back(self, task: Task) -> tuple[int, dict[str, int]]:
        """Mark what was not sent as cancelled; return how many that was, and node → how many of it parked."""
        cancelled = 0
        parked: dict[str, int] = {}
        for share in task.shares:
            states = share.states
            unsent = [index for index in range(len(states)) if states[index] in _UNSENT]
            queued = [index for index in unsent if share.states[index] == QUEUED]
            delayed = sum(share.states[index] == DELAYED for index in unsent)
            for index in unsent:
                share.states[index] = CANCELLED
            share.node.forget(share, queued)
            share.delayed_count -= delayed
            share.cancelled_count += len(unsent)
            cancelled += len(unsent)
            if delayed:
                parked[share.node.name] = parked.get(share.node.name, 0) + delayed
        return cancelled, parked

    def _keep_cancelled(self, task: Task) -> None:
        """Store that a task is cancelled of which something is on the wire; `over` stores the last counts.

        In a shared store it stays this engine's until then; who takes it over reads that in its progress.
        """
        if self._is_shared:
            self._savers.of(task.id).save_progress({task.id: progress_document(task)})
        else:
            task.version += 1
            self._save(task)

    # When it is over

    def over(self, task: Task) -> None:
        """Nothing of the task is on its way any more: settle it, unless it waits for delayed ones."""
        self.watchers.tell(task)
        if task.is_lost:
            self.drop(task)
            return
        state = documents.state_of(task, is_due=task.is_due)
        if state is not _RUNNING:
            self._settle(task, state)
        elif self._is_shared and not task.is_handed:
            task.version += 1
            self._save(task)

    def _over_but_rebound(self, task: Task) -> None:
        """All that clients count is over: say so. The task is kept, and stored when its rebound is over."""
        self.watchers.tell(task)
        state = documents.state_of(task, is_due=task.is_due)
        if task.is_lost or state is _RUNNING or state is task.state:
            return
        self._enter(task, state)
        report = self._report(task)
        if report is not None:
            self._savers.of(task.id).report(report)
        if self._is_shared:
            self._savers.of(task.id).save_progress({task.id: progress_document(task)})

    def settle_refused(self, task: Task, journal_key: JournalKey, reason: str) -> None:
        """Settle a task of the journal that the configuration does not allow any more."""
        self.journal_rows.enter(task, journal_key)
        documents.add_error(task, "", "", reason)
        task.updated_at = time.time()
        self._settle(task, State.FAILED)

    def _settle(self, task: Task, state: State) -> None:
        self._enter(task, state)
        task.version += 1
        self._save(task)

    def _enter(self, task: Task, state: State) -> None:
        if task.state is not state:
            self._count(state)
            if state is _DONE:
                self._stats.task_s.observe(max(0.0, task.updated_at - task.created_at))
        task.state = state
        if state is _DONE:
            task.errors = ()  # they told why it took several attempts
        if state in FINAL_STATES:
            self._dues.cancel(task.id)
            if task.settled_at is None:
                task.settled_at = task.updated_at
                self._audit.settled(task)

    def _count(self, state: State) -> None:
        if state is _DONE:
            self._stats.tasks_done += 1
        elif state is State.FAILED:
            self._stats.tasks_failed += 1
        elif state is _CANCELLED:
            self._stats.tasks_cancelled += 1
        else:
            self._stats.tasks_partial += 1

    def _save(self, task: Task) -> None:
        document = _encode(documents.stored_document(task))
        report = None if task.state is _RUNNING else self._report(task)
        if self._is_shared:
            task.is_handed = True
        self._savers.of(task.id).save(task, document, task.version, report, task.parked)

    def _report(self, task: Task) -> Callback | None:
        """Return the callback that reports a new state, if the client asked for it."""
        if task.callback is None or task.reported is task.state:
            return None
        task.reported = task.state
        return Callback(0, task.id, task.callback, _encode(documents.document(task)).decode())

    # When it is stored

    def saved(self, task: Task, version: int) -> None:
        """A document is on disk: forget the task, unless a newer one is on its way or will be."""
        if task.version != version or task.live:
            return
        self._parking.written(task)
        self._remove(task)
        if task.start_at:
            self._savers.of(task.id).forget_begun(task.id)
        last_of = self.journal_rows.leave(task)
        if last_of is not None:
            self._savers.of(task.id).settle_journal(last_of)

    def lost(self, task_id: str) -> Task | None:
        """Leave a task to the engine that took it over, because this one was thought to be dead.

        Returns:
            The task, when some of it is on its way: what was not sent is to be taken back; when the rest is
            answered, the task is dropped.
        """
        task = self._regions.get(task_id)
        if task is None or not task.is_committed:
            return None
        task.is_lost = True
        if task.live:
            return task
        self.drop(task)
        return None

    def drop(self, task: Task) -> None:
        """Let a lost task go, and nothing of it in the store."""
        if self._regions.get(task.id) is not task:
            return  # it has been taken back, and is another one here by now
        self._remove(task)
        self.journal_rows.leave(task)

    def _remove(self, task: Task) -> None:
        self._regions.remove(task.id)
        if task.parked:
            self._parking.let_go(task)
        if self._touched is not None:
            self._touched.discard(task)
        self._load.made_room()
        self._dues.cancel(task.id)
        if task.live == 0:
            unlink(task)

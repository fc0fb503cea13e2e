"""Savers: the loop's side of the threads that write.

Group commit without a lock: while a saver writes one batch, the loop collects the next; when the saver
answers (one ``call_soon_threadsafe`` a batch) it gets all that has come together. So a batch grows with
the load, and a busy loop pays two GIL hand-offs a batch, not one a task.

Two kinds of records: *accepted tasks*, bounded, refused when the store fails, because their client can
be told; and everything the engine itself has to write (`OwnRecords`), never refused.

One task's records always go to the same saver, in order.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from engine.base.futures import settle_once
from engine.base.waiting_room import WaitingRoom
from engine.errors import BacklogFullError, StoreError
from engine.observe.meters import Histogram
from engine.saver.own_records import OwnRecords
from engine.saver.telling import tell_accepted, tell_refused, tell_written
from engine.saver.thread import SaverThread
from engine.saver.work import Pin, Work, take_accepted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.saver.sinks import Sinks
    from engine.store.store import Store
    from engine.tasks.records import CallbackKey, Committed, JournalKey
    from engine.tasks.task import Task

_OWN_RECORDS_DELAY_S: Final = 0.01
"""How long the engine's own records wait for company while accepted tasks are being written: their
statements would make every client wait."""
_OWN_RECORDS_MAX: Final = 20_000  #: that wait for company
_RETRY_S: Final = 0.5
_FORGET_AGAIN_S: Final = 0.1

T = TypeVar("T")


class Saver(OwnRecords):
    """One saver thread and its queue.

    Args:
        store: written by this saver's thread only.
        loop: the engine's loop; every method is called there.
        sinks: told what became of what was handed in.
        backlog_count: accepted tasks that may wait.
        push_timeout_s: how long a task waits for room before it is refused.
        has_peers: other processes may write to the same store.
        name: of the thread.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        sinks: Sinks,
        *,
        backlog_count: int,
        push_timeout_s: float,
        has_peers: bool = False,
        name: str = "saver-0",
    ) -> None:
        super().__init__(has_peers=has_peers)
        self.store = store
        self.error: StoreError | None = None
        self.failed_at = -1e9  #: loop's time of the last commit that failed, in whole or in part
        self.is_partial = False  #: it fails for some tasks only: a server of several is away
        self.commit_times = Histogram()  #: of batches; `register_gauges` has one for all savers
        self.start_times = Histogram()  #: until a batch's thread runs, as above
        self._loop = loop
        self._sinks = sinks
        self._backlog_count = backlog_count
        self._accepted: list[Task] = []
        self._overflow: WaitingRoom[Task] = WaitingRoom(loop, push_timeout_s, self._refuse_late)
        self._own = Work()
        self._own_since = 0.0
        self._in_thread: Work | None = None
        self._commit_since = 0.0
        self._is_scheduled = False
        self._retry_timer: asyncio.TimerHandle | None = None
        self._delay_timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Event | None = None
        self._committer = SaverThread(store, loop, self._committed, name)

    def __repr__(self) -> str:
        return f"<Saver {self._committer.name} [{len(self)} records waiting]>"

    def __len__(self) -> int:
        """Return how many records wait to be written."""
        waiting = len(self._accepted) + len(self._overflow) + self._own.records
        return waiting + (len(self._in_thread.accepted) + self._in_thread.records if self._in_thread else 0)

    @property
    def commit_s(self) -> float:
        """How long the commit under way takes so far; 0 when there is none."""
        return self._loop.time() - self._commit_since if self._in_thread is not None else 0.0

    def start(self) -> None:
        """Start the thread."""
        self._committer.start()

    # Accepted tasks

    def push(self, task: Task, until: float | None = None) -> None:
        """Queue an accepted task; ``Sinks.accepted`` is called when it is saved or cannot be.

        Args:
            task: to be saved.
            until: the loop's time at which it gives up waiting for room, when it has waited before; None: it
                may wait for ``push_timeout_s`` from now.
        """
        if len(self._accepted) < self._backlog_count:
            self._accepted.append(task)
            self._schedule()
        else:
            self._overflow.add(task, until)

    def _refuse_late(self, task: Task) -> None:
        self._refuse(task, BacklogFullError("saver_queue", retry_after_s=1))

    def _refuse(self, task: Task, error: Exception) -> None:
        self._sinks.accepted(task, 0, error)

    # The engine's own records

    def _own_work(self, records: int = 1) -> Work:
        if not self._own.records:
            self._own_since = self._loop.time()
            self._schedule()
        self._own.records += records
        return self._own

    def keys_going(self) -> list[JournalKey | CallbackKey]:
        """Return the journal rows and callbacks that are over, which the store has still."""
        works = [self._own] + ([self._in_thread] if self._in_thread is not None else [])
        return [key for work in works for key in (*work.batch.settled_journal, *work.batch.callbacks_over)]

    async def flushed(self, limit_s: float | None = None) -> None:
        """Wait until everything that was queued before has been written.

        Raises:
            StoreError: why the store fails; or it takes longer than *limit_s*.
        """
        written: asyncio.Future[None] = self._loop.create_future()
        self.after_all(partial(settle_once, written, None))
        await self._in_time(written, limit_s)

    async def pinned(self, known: Callable[[], T], limit_s: float) -> tuple[Pin, T]:
        """Return how rows of delay queues are counted at one moment, and what *known* returns at that moment.

        At that moment all that was told as written is in the count, and nothing that is still queued: so
        the two can be compared.

        Raises:
            StoreError: why the store cannot count or fails; or it takes longer than *limit_s*.
        """
        pinned: asyncio.Future[tuple[Pin, T]] = self._loop.create_future()
        self._own_work().on_pinned.append(lambda pin: settle_once(pinned, (pin, known())))
        return await self._in_time(pinned, limit_s)

    async def _in_time(self, future: asyncio.Future[T], limit_s: float | None) -> T:
        try:
            return await asyncio.wait_for(future, limit_s)
        except TimeoutError:
            raise self.error or StoreError("the store did not write in time") from None

    # To the thread and back

    def _schedule(self) -> None:
        """Send once this turn of the loop is over, so that all of its records share a batch."""
        if self._retry_timer is not None and not self._own.records:
            self._retry_timer.cancel()  # a client is the better probe
            self._retry_timer = None
        if not self._is_scheduled and self._in_thread is None and self._retry_timer is None:
            self._is_scheduled = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_scheduled = False
        if self._in_thread is not None or self._retry_timer is not None:
            return
        work = self._next_work()
        if work is not None:
            self._in_thread = work
            self._commit_since = self._loop.time()
            self._committer.send(work)

    def _next_work(self) -> Work | None:
        work = Work()
        if self._own.records:
            waited_s = self._loop.time() - self._own_since
            if (
                not self._accepted
                or waited_s >= _OWN_RECORDS_DELAY_S
                or self._own.records >= _OWN_RECORDS_MAX
            ):
                work, self._own = self._own.split()
            elif self._delay_timer is None:
                self._delay_timer = self._loop.call_later(_OWN_RECORDS_DELAY_S - waited_s, self._delayed)
        work.accept(take_accepted(self._accepted))
        while self._overflow and len(self._accepted) < self._backlog_count:
            self._accepted.append(self._overflow.take()[0])
        return work if work.accepted or work.records else None

    def _delayed(self) -> None:
        self._delay_timer = None
        self._schedule()

    def _committed(self, work: Work, outcome: Committed | StoreError) -> None:
        self.start_times.observe(work.begun_at - work.sent_at)
        self.commit_times.observe(work.ended_at - work.begun_at)
        if isinstance(outcome, StoreError):
            self._tell_on(self._failed(work, outcome))
        else:
            self._tell_on(self._written(work, outcome))

    def _tell_on(self, telling: Iterator[None]) -> None:
        """Tell the next part of what became of a batch; after the last the next batch goes to the thread."""
        is_over = True
        try:
            for _ in telling:
                is_over = False
                self._loop.call_soon(self._tell_on, telling)
                return
        finally:
            if is_over:
                self._in_thread = None
        self._go_on()

    def _written(self, work: Work, outcome: Committed) -> Iterator[None]:
        if outcome.own_error is None and not outcome.refused:
            self._works_again()
        if self._rows is not None:
            self._rows.update(outcome.journal)
        yield from tell_accepted(self._sinks, work, outcome)
        if outcome.callbacks:
            self._sinks.callbacks(outcome.callbacks)
        if work.forgotten:  # there may be more: a busy engine settles more in a minute than one round takes
            self._loop.call_later(_FORGET_AGAIN_S, self.forget, work.forget_before)
        if outcome.settled_late:
            self._sinks.late(outcome.settled_late)
        if outcome.rows_left:
            self._sinks.rows_left(outcome.rows_left)
        if outcome.own_error is None and not outcome.refused:
            yield from tell_written(self._sinks, work, outcome.lost)
        else:
            yield from self._failed_part(work, outcome)

    # Failures

    def _works_again(self) -> None:
        self.is_partial = False
        if self.error is not None:
            self.error = None
            self._sinks.state(None)

    def _failed_part(self, work: Work, outcome: Committed) -> Iterator[None]:
        """A store of several servers could write some of the batch only."""
        error = outcome.own_error or next(iter(outcome.refused.values()))
        self.is_partial = True
        unwritten = work.take_unwritten(outcome.left, outcome.stuck)
        yield from tell_written(self._sinks, work, outcome.lost)
        self._note_failure(error)
        self._keep(unwritten)
        self._own_since = self._loop.time() + _RETRY_S  # till then clients need not carry it along

    def _failed(self, work: Work, error: StoreError) -> Iterator[None]:
        """Refuse the clients' tasks, keep our own records and try those again."""
        self.is_partial = False
        self._note_failure(error)
        yield from tell_refused(self._sinks, work.accepted, error)
        self._keep(work)

    def _note_failure(self, error: StoreError) -> None:
        is_new = self.error is None
        self.error = error
        self.failed_at = self._loop.time()
        if is_new:
            self._sinks.state(error)

    def _keep(self, work: Work) -> None:
        work.drop_probe()
        if work.records:
            self._own = work.followed_by(self._own)
        if not self._accepted:
            self._retry_timer = self._loop.call_later(_RETRY_S * random.uniform(0.7, 1.3), self._retry)  # noqa: S311 - jitter

    def _retry(self) -> None:
        """Try again; with nothing to write find out whether writing works: clients may wait for it."""
        self._retry_timer = None
        if self.error is not None and not self._own.records and not self._accepted:
            self._own_work().batch.is_probe = True
        self._schedule()

    def _go_on(self) -> None:
        if self._accepted or self._own.records:
            if self._accepted and self._retry_timer is not None:
                self._retry_timer.cancel()
                self._retry_timer = None
            if self._retry_timer is None:
                self._send()
        if self._idle is not None and not len(self):
            self._idle.set()

    # Stopping

    async def drain(self, timeout_s: float) -> bool:
        """Wait until everything is written. Returns False when that took longer than *timeout_s*."""
        self._idle = asyncio.Event()
        if not len(self):
            return True
        self._schedule()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def stop(self) -> None:
        """End the thread after the batch that it is writing."""
        for timer in (self._retry_timer, self._delay_timer):
            if timer is not None:
                timer.cancel()
        self._overflow.close()
        self._committer.stop()

"""Savers: the threads that write, and the loop's side of them.

Group commit without a lock: while a saver writes one batch, the loop collects the next; when the saver
answers (one ``call_soon_threadsafe`` a batch) it gets all that has come together. So a batch grows with
the load, and a busy loop pays two GIL hand-offs a batch, not one a task.

Two kinds of records: *accepted tasks*, bounded, refused when the store fails, because their client can
be told; and everything the engine itself has to write, never refused: it stays here and is
tried again until it is written.

One task's records always go to the same saver, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from engine.base.futures import settle_once
from engine.base.memory import trim_memory
from engine.errors import BacklogFullError, StoreError
from engine.tasks.records import (
    Accepted,
    Batch,
    Callback,
    CallbackKey,
    Committed,
    Delivered,
    JournalKey,
    Parked,
)
from engine.tasks.shards import shard_of

if TYPE_CHECKING:
    from engine.store.store import Store
    from engine.tasks.task import Task

_OWN_RECORDS_DELAY_S: Final = 0.01
"""How long the engine's own records wait for company while accepted tasks are being written: their
statements would make every client wait."""
_RETRY_S: Final = 0.5
_BATCH_DOCUMENTS_MAX: Final = 4000
_FORGET_AGAIN_S: Final = 0.1
_FORGET_ROWS: Final = 5000
_BATCH_TASKS_MAX: Final = 5000
_BATCH_BYTES_MAX: Final = 32 * 1024 * 1024
_BATCH_RECORDS_MAX: Final = 20_000


T = TypeVar("T")

Pin = Callable[[str], int]
"""Counts a node's rows as they were between two commits; see `Store.pin`."""


class Work:
    """One batch and who waits for it."""

    def __init__(self) -> None:
        self.batch = Batch()
        self.accepted: list[Task] = []
        self.saved: list[tuple[Task, int]] = []  #: tasks and the version of their document
        self.then: list[Callable[[], None]] = []
        self.on_pinned: list[Callable[[Pin], None]] = []
        self.pins: list[Pin] = []
        self.forget_before = 0.0
        self.forgotten = 0
        self.is_trim = False
        self.records = 0


class Saver:
    """One saver thread and its queue.

    Args:
        store: written by this thread only.
        loop: the engine's loop; every method but the thread's own is called there.
        backlog_count: accepted tasks that may wait.
        push_timeout_s: how long a task waits for room before it is refused.
        on_accepted: told of each accepted task: journal row and None, or 0 and the error.
        on_lost: told of the id of each task that is another engine's by now; nothing of it was written.
        on_known: told of an accepted task whose id is stored already: digest (hex) and document.
        on_saved: told of each saved document: the task and its version.
        on_callbacks: given callbacks that were written.
        on_state: told when the store begins to fail (the error) and when it works again (None).
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        *,
        backlog_count: int,
        push_timeout_s: float,
        on_accepted: Callable[[Task, JournalKey, Exception | None], None],
        on_known: Callable[[Task, str, bytes], None],
        on_saved: Callable[[Task, int], None],
        on_callbacks: Callable[[list[Callback]], None],
        on_late: Callable[[list[str]], None],
        on_state: Callable[[StoreError | None], None],
        on_lost: Callable[[str], None] | None = None,
        name: str = "saver-0",
    ) -> None:
        self.store = store
        self._loop = loop
        self._backlog_count = backlog_count
        self._push_timeout_s = push_timeout_s
        self._on_accepted = on_accepted
        self._on_known = on_known
        self._on_saved = on_saved
        self._on_callbacks = on_callbacks
        self._on_late = on_late
        self._on_state = on_state
        self._on_lost = on_lost
        self._accepted: list[Task] = []
        self._overflow: deque[tuple[float, Task]] = deque()
        self._overflow_timer: asyncio.TimerHandle | None = None
        self._own = Work()
        self._own_since = 0.0
        self._in_thread: Work | None = None
        self._is_scheduled = False
        self._retry_timer: asyncio.TimerHandle | None = None
        self._delay_timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Event | None = None
        self.error: StoreError | None = None
        self.failed_at = -1e9  #: loop's time of the last commit that failed, in whole or in part
        self._commit_since = 0.0
        self.is_partial = False  #: it fails for some tasks only: a server of several is away
        self.own_rows: set[JournalKey] | None = None
        """Journal rows that are worked here, where other processes may write to the same store; else None."""
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __repr__(self) -> str:
        return f"<Saver {self._thread.name} [{len(self)} records waiting]>"

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
        self._thread.start()

    # Accepted tasks

    def push(self, task: Task) -> None:
        """Queue an accepted task; ``on_accepted`` is called when it is saved or cannot be."""
        if len(self._accepted) < self._backlog_count:
            self._accepted.append(task)
            self._schedule()
            return
        self._overflow.append((self._loop.time() + self._push_timeout_s, task))
        if self._overflow_timer is None:
            self._overflow_timer = self._loop.call_later(self._push_timeout_s, self._expire)

    def _expire(self) -> None:
        """Refuse what found no room in time."""
        self._overflow_timer = None
        now = self._loop.time()
        while self._overflow and self._overflow[0][0] <= now:
            _, task = self._overflow.popleft()
            self._on_accepted(task, 0, BacklogFullError("saver_queue", retry_after_s=1))
        if self._overflow:
            self._overflow_timer = self._loop.call_at(self._overflow[0][0], self._expire)

    # The engine's own records

    def save(
        self,
        task: Task,
        document: bytes,
        version: int,
        callback: Callback | None = None,
        parked: list[Parked] | None = None,
    ) -> None:
        """Write a task's document, the callback that reports it, and the rows it leaves, together."""
        own = self._own_work(1 if parked is None else 1 + len(parked))
        own.batch.documents[task.id] = document
        own.saved.append((task, version))
        if parked is not None:
            own.batch.parked += parked
        if callback is not None:
            own.batch.callbacks.append(callback)

    def report(self, callback: Callback) -> None:
        """Write a callback on its own."""
        self._own_work().batch.callbacks.append(callback)

    def save_progress(self, documents: dict[str, bytes]) -> None:
        """Write how far tasks have come that go on; a shared store shows that to other engines."""
        self._own_work(len(documents)).batch.progress.update(documents)

    def cancel_stored(self, task_id: str, at: float) -> None:
        """Cancel the rest of a task that is not in memory, with its delay-queue rows and its callback."""
        self._own_work().batch.cancelled[task_id] = at

    def park(self, parked: list[Parked], then: Callable[[], None]) -> None:
        """Add rows to delay queues."""
        own = self._own_work(len(parked))
        own.batch.parked += parked
        own.then.append(then)

    def deliver(self, delivered: list[Delivered], then: Callable[[], None]) -> None:
        """Drop delivered rows, fold them into stored documents and let their children go."""
        own = self._own_work(len(delivered))
        own.batch.delivered += delivered
        own.then.append(then)

    def unpark_task(self, task_id: str, then: Callable[[], None]) -> None:
        """Drop every delay-queue row of a cancelled task."""
        own = self._own_work()
        own.batch.unparked_tasks.append(task_id)
        own.then.append(then)

    def drop_orphans(self, task_ids: list[str]) -> None:
        """Drop the delay-queue rows of tasks that are worked again from the start."""
        self._own_work().batch.orphans += task_ids

    def settle_journal(self, key: JournalKey) -> None:
        """Drop a journal row: all of its tasks are stored as documents."""
        self._own_work().batch.settled_journal.append(key)
        if self.own_rows is not None:
            self.own_rows.discard(key)

    def keys_going(self) -> list[JournalKey | CallbackKey]:
        """Return the journal rows and callbacks that are over, which the store has still."""
        works = [self._own] + ([self._in_thread] if self._in_thread is not None else [])
        return [key for work in works for key in (*work.batch.settled_journal, *work.batch.callbacks_over)]

    def callback_over(self, key: CallbackKey) -> None:
        """Drop a callback that was delivered or given up."""
        self._own_work().batch.callbacks_over.append(key)

    def after_all(self, then: Callable[[], None]) -> None:
        """Call *then* when everything that was queued before has been written."""
        self._own_work().then.append(then)

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

    def trim(self) -> None:
        """Hand memory back to the system: the store's cache, and what is free. The thread does it."""
        self._own_work().is_trim = True

    def forget(self, before_at: float) -> None:
        """Delete final tasks last updated before *before_at*, a bounded number of them."""
        self._own_work().forget_before = before_at

    def _own_work(self, records: int = 1) -> Work:
        if not self._own.records:
            self._own_since = self._loop.time()
            self._schedule()
        self._own.records += records
        return self._own

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
            self._queue.put(work)

    def _next_work(self) -> Work | None:
        work = Work()
        if self._own.records:
            waited_s = self._loop.time() - self._own_since
            if (
                not self._accepted
                or waited_s >= _OWN_RECORDS_DELAY_S
                or self._own.records >= _BATCH_RECORDS_MAX
            ):
                work = self._take_own()
            elif self._delay_timer is None:
                self._delay_timer = self._loop.call_later(_OWN_RECORDS_DELAY_S - waited_s, self._delayed)
        self._take_accepted(work)
        return work if work.accepted or work.records else None

    def _take_own(self) -> Work:
        """Return the engine's own records, but of many documents only some.

        70,000 tasks that settle at once would make one commit of a second, and every client would wait for
        it. Documents go first, with their callbacks, and the rest with the last of them: a row may only go
        after the document that says so.
        """
        own = self._own
        if len(own.batch.documents) <= _BATCH_DOCUMENTS_MAX:
            self._own = Work()
            return own
        work = Work()
        for task_id in list(islice(own.batch.documents, _BATCH_DOCUMENTS_MAX)):
            work.batch.documents[task_id] = own.batch.documents.pop(task_id)
        callbacks, own.batch.callbacks = own.batch.callbacks, []
        for callback in callbacks:  # with its document: a crash in between must not lose it
            batch = work.batch if callback.task_id in work.batch.documents else own.batch
            batch.callbacks.append(callback)
        if own.batch.parked:
            parked, own.batch.parked = own.batch.parked, []
            for row in parked:
                batch = work.batch if row.task_id in work.batch.documents else own.batch
                batch.parked.append(row)
        work.saved, own.saved = own.saved, []
        for task, version in work.saved:
            if task.id in own.batch.documents:
                own.saved.append((task, version))
        work.saved = [pair for pair in work.saved if pair[0].id in work.batch.documents]
        work.records = len(work.batch.documents) + len(work.batch.parked)
        own.records = max(1, own.records - work.records)
        return work

    def _delayed(self) -> None:
        self._delay_timer = None
        self._schedule()

    def _take_accepted(self, work: Work) -> None:
        taken = self._accepted[:_BATCH_TASKS_MAX]
        body_bytes = 0
        for count, task in enumerate(taken):
            body_bytes += len(task.body)
            if body_bytes > _BATCH_BYTES_MAX and count:
                del taken[count:]
                break
        del self._accepted[: len(taken)]
        work.accepted = taken
        while self._overflow and len(self._accepted) < self._backlog_count:
            self._accepted.append(self._overflow.popleft()[1])
        work.batch.accepted = [
            Accepted(task.id, task.created_at, task.due_s, task.digest, task.body, task.token)
            for task in taken
        ]

    def _run(self) -> None:
        """Write batches until None comes. The thread's whole life."""
        while (work := self._queue.get()) is not None:
            outcome: Committed | StoreError
            try:
                outcome = self.store.commit(work.batch)
                with contextlib.suppress(StoreError):  # the batch is written all the same
                    work.pins = [self.store.pin() for _ in work.on_pinned]
                if work.forget_before:
                    with contextlib.suppress(StoreError):  # the batch is written; this is asked for again
                        work.forgotten = self.store.forget(work.forget_before, _FORGET_ROWS)
            except StoreError as exc:
                outcome = exc
            except Exception as exc:  # noqa: BLE001 - a saver that dies would hang every client
                outcome = StoreError(f"unexpected error while saving: {exc!r}")
            if work.is_trim:
                self.store.shrink()
                trim_memory()
            try:
                self._loop.call_soon_threadsafe(self._committed, work, outcome)
            except RuntimeError:  # the loop is gone: a second SIGTERM
                return

    def _committed(self, work: Work, outcome: Committed | StoreError) -> None:
        self._in_thread = None
        if isinstance(outcome, StoreError):
            self._failed(work, outcome)
            return
        if outcome.own_error is None and not outcome.refused:
            self._works_again()
        if self.own_rows is not None:
            self.own_rows.update(outcome.journal)
        known, refused = outcome.known, outcome.refused
        for task, key in zip(work.accepted, outcome.journal, strict=True):
            if task.id in known:
                self._on_known(task, *known[task.id])
            elif refused and task.id in refused:
                self._on_accepted(task, 0, refused[task.id])
            else:
                self._on_accepted(task, key, None)
        if outcome.callbacks:
            self._on_callbacks(outcome.callbacks)
        if work.forgotten:  # there may be more: a busy engine settles more in a minute than one round takes
            self._loop.call_later(_FORGET_AGAIN_S, self.forget, work.forget_before)
        if outcome.settled_late:
            self._on_late(outcome.settled_late)
        if outcome.own_error is None and not refused:
            self._written(work, outcome.lost)
        else:
            self._failed_part(work, outcome)
        self._go_on()

    def _works_again(self) -> None:
        self.is_partial = False
        if self.error is not None:
            self.error = None
            self._on_state(None)

    def _written(self, work: Work, lost: set[str]) -> None:
        """Tell those who wait for the engine's own records."""
        for task, version in work.saved:
            if task.id not in lost:
                self._on_saved(task, version)
        if self._on_lost is not None:
            for task_id in lost:
                self._on_lost(task_id)
        for then in work.then:
            then()
        for on_pinned, pin in zip(work.on_pinned, work.pins, strict=False):
            on_pinned(pin)

    def _failed_part(self, work: Work, outcome: Committed) -> None:
        """A store of several servers could write some of the batch only."""
        error = outcome.own_error or next(iter(outcome.refused.values()))
        self.is_partial = True
        work.accepted = []  # they have been told
        left = outcome.left
        if left is None:
            self._written(work, outcome.lost)
            work.records = 0
            work.batch.is_probe = False
        else:
            later = Work()
            later.saved = [pair for pair in work.saved if pair[0].id in left.documents]
            later.then = work.then
            later.batch = left
            later.records = len(left.documents) + len(left.parked) + len(left.delivered) + len(left.cancelled)
            later.records += len(left.callbacks) + len(left.settled_journal) + len(left.unparked_tasks) + 1
            work.saved = [pair for pair in work.saved if pair[0].id not in left.documents]
            work.then = []
            self._written(work, outcome.lost)
            work = later
        self._note_failure(error)
        self._keep(work)
        self._own_since = self._loop.time() + _RETRY_S  # till then clients need not carry it along

    def _failed(self, work: Work, error: StoreError) -> None:
        """Refuse the clients' tasks, keep our own records and try those again."""
        self.is_partial = False
        self._note_failure(error)
        for task in work.accepted:
            self._on_accepted(task, 0, error)
        self._keep(work)
        self._go_on()

    def _note_failure(self, error: StoreError) -> None:
        is_new = self.error is None
        self.error = error
        self.failed_at = self._loop.time()
        if is_new:
            self._on_state(error)

    def _keep(self, work: Work) -> None:
        if work.batch.is_probe:
            work.batch.is_probe = False
            work.records -= 1
        if work.records:
            self._own = _merge(work, self._own)
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
        for timer in (self._retry_timer, self._delay_timer, self._overflow_timer):
            if timer is not None:
                timer.cancel()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(5)


def _merge(failed: Work, later: Work) -> Work:
    """Put a failed batch's own records back in front of those that came since."""
    batch, after = failed.batch, later.batch
    failed.accepted = []
    batch.accepted = []
    batch.documents = after.documents | {
        name: text for name, text in batch.documents.items() if name not in after.documents
    }  # what failed last: a server that is away must not hold up what is for others
    batch.progress.update(after.progress)
    batch.cancelled.update(after.cancelled)
    for part in (
        "settled_journal",
        "parked",
        "delivered",
        "unparked_tasks",
        "orphans",
        "callbacks",
        "callbacks_over",
    ):
        getattr(batch, part).extend(getattr(after, part))
    failed.saved += later.saved
    failed.then += later.then
    failed.on_pinned += later.on_pinned
    failed.records += later.records
    failed.is_trim |= later.is_trim
    failed.forget_before = max(failed.forget_before, later.forget_before)
    return failed


class SaverPool:
    """The savers; a task's saver is chosen by its id."""

    def __init__(self, savers: list[Saver]) -> None:
        self.savers = savers

    def __len__(self) -> int:
        return sum(map(len, self.savers))

    def of(self, task_id: str) -> Saver:
        """Return the saver of a task."""
        if len(self.savers) == 1:
            return self.savers[0]
        return self.savers[shard_of(task_id, len(self.savers))]

    async def flushed(self, limit_s: float | None = None) -> None:
        """Wait until everything that was queued before has been written by every saver.

        Raises:
            StoreError: see `Saver.flushed`.
        """
        await asyncio.gather(*(saver.flushed(limit_s) for saver in self.savers))

    @property
    def error(self) -> StoreError | None:
        """The error of a store that fails at the moment, or None."""
        return next((saver.error for saver in self.savers if saver.error is not None), None)

    @property
    def is_partial(self) -> bool:
        """Whether tasks are still saved, though not all of them."""
        return all(saver.error is None or saver.is_partial for saver in self.savers)

"""What the engine itself has to write: documents, rows of delay queues, callbacks, settled journal rows.

None of it is ever refused: what the store cannot write stays here and is tried again until it is written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from engine.tasks.records import Begun

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.saver.work import Work
    from engine.tasks.records import (
        Callback,
        CallbackKey,
        Delivered,
        Joined,
        JournalKey,
        Noted,
        Parked,
        ParkedRow,
        Pause,
        Sighting,
        Silence,
    )
    from engine.tasks.task import Task
    from engine.tasks.told import Told


class OwnRecords(ABC):
    """The engine's own records, each method adding some to the work that the next batch takes.

    Args:
        has_peers: other processes may write to the same store, so the journal rows that are worked here have
            to be told from theirs.
    """

    def __init__(self, *, has_peers: bool) -> None:
        self._rows: set[JournalKey] | None = set() if has_peers else None

    @abstractmethod
    def _own_work(self, records: int = 1) -> Work:
        """Return the work that is collected, and count *records* that come to it."""

    # Tasks

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

    def save_progress(self, documents: dict[str, bytes]) -> None:
        """Write how far tasks have come that go on; a shared store shows that to other engines."""
        self._own_work(len(documents)).batch.progress.update(documents)

    def cancel_stored(self, task_id: str, at: float) -> None:
        """Cancel the rest of a task that is not in memory, with its delay-queue rows and its callback."""
        self._own_work().batch.cancelled[task_id] = at

    def begin(self, begun: Begun, then: Callable[[], None]) -> None:
        """Write that a task which was accepted for later begins; *then* it may be sent."""
        own = self._own_work()
        own.batch.begun.append(begun)
        own.then.append((then, frozenset()))

    def forget_begun(self, task_id: str) -> None:
        """Drop that a task has begun: its document is stored."""
        self._own_work().batch.begun.append(Begun(task_id, 0.0, b"", b""))

    # Delay queues

    def park(self, parked: list[Parked], then: Callable[[], None]) -> None:
        """Add rows to delay queues."""
        own = self._own_work(len(parked))
        own.batch.parked += parked
        own.then.append((then, frozenset()))

    def deliver(self, delivered: list[Delivered], then: Callable[[], None]) -> None:
        """Drop delivered rows, fold them into stored documents and let their children go."""
        own = self._own_work(len(delivered))
        own.batch.delivered += delivered
        own.then.append((then, frozenset(one.row.task_id for one in delivered)))

    def unpark_task(self, task_id: str, then: Callable[[], None]) -> None:
        """Drop every delay-queue row of a cancelled task."""
        own = self._own_work()
        own.batch.unparked_tasks.append(task_id)
        own.then.append((then, frozenset([task_id])))

    def drop_orphans(self, task_ids: list[str]) -> None:
        """Drop the delay-queue rows of tasks that are worked again from the start."""
        self._own_work().batch.orphans += task_ids

    def join(self, joined: list[Joined]) -> None:
        """Put host-wide rows in the place of others."""
        self._own_work(len(joined)).batch.joined += joined

    def part(self, rows: list[ParkedRow]) -> None:
        """Put the rows that host-wide ones stand for in their place."""
        self._own_work(len(rows)).batch.parted += rows

    def note(self, noted: list[Noted]) -> None:
        """Tell stored tasks why their rows wait."""
        self._own_work(len(noted)).batch.noted += noted

    # The journal

    def settle_journal(self, key: JournalKey) -> None:
        """Drop a journal row: all of its tasks are stored as documents."""
        self._own_work().batch.settled_journal.append(key)
        if self._rows is not None:
            self._rows.discard(key)

    def add_row(self, key: JournalKey) -> None:
        """Note that a journal row which another process wrote is worked here from now on."""
        if self._rows is not None:
            self._rows.add(key)

    def has_row(self, key: JournalKey) -> bool:
        """Return whether a journal row is worked here; without peers it is not noted which are."""
        return self._rows is not None and key in self._rows

    # Nodes

    def see(self, sightings: list[Sighting]) -> None:
        """Write which nodes are configured, and which are not any more."""
        self._own_work(len(sightings)).batch.sightings += sightings

    def pause(self, pauses: list[Pause]) -> None:
        """Write which nodes are paused, and which are not any more."""
        self._own_work(len(pauses)).batch.pauses += pauses

    # Alerts

    def silence(self, silences: list[Silence]) -> None:
        """Write which alerts are silenced; see `Silence`."""
        self._own_work(len(silences)).batch.silences += silences

    # Callbacks

    def report(self, callback: Callback) -> None:
        """Write a callback on its own."""
        self._own_work().batch.callbacks.append(callback)

    def callback_over(self, key: CallbackKey) -> None:
        """Drop a callback that was delivered or given up."""
        self._own_work().batch.callbacks_over.append(key)

    def tell(self, task_id: str, told: Told, then: Callable[[], None]) -> None:
        """Keep with a stored task what became of its report."""
        own = self._own_work()
        own.batch.told.append((task_id, told))
        own.then.append((then, frozenset()))

    # Around the records

    def after_all(self, then: Callable[[], None]) -> None:
        """Call *then* when everything that was queued before has been written."""
        self._own_work().then.append((then, frozenset()))

    def trim(self) -> None:
        """Hand memory back to the system: the store's cache, and what is free. The thread does it."""
        self._own_work().is_trim = True

    def forget(self, before_at: float) -> None:
        """Delete final tasks last updated before *before_at*, a bounded number of them."""
        self._own_work().forget_before = before_at

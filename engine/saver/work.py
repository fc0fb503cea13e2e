"""What one batch holds, and who waits for it. Pure.

How too large a batch is split, and what goes back in front of the next one after a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

from engine.tasks.records import Accepted, Batch

if TYPE_CHECKING:
    from engine.tasks.plan import Plan
    from engine.tasks.task import Task

_DOCUMENTS_MAX: Final = 4000
_TASKS_MAX: Final = 5000
_BODY_BYTES_MAX: Final = 32 * 1024 * 1024
_LISTS: Final = (
    "settled_journal",
    "parked",
    "delivered",
    "unparked_tasks",
    "orphans",
    "callbacks",
    "callbacks_over",
    "told",
    "noted",
    "sightings",
    "pauses",
    "silences",
    "begun",
    "joined",
    "parted",
)
"""Parts of a batch that are lists of the engine's own records."""

Pin = Callable[[str], int]
"""Counts a node's rows as they were between two commits; see `Store.pin`."""


class Work:
    """One batch and who waits for it.

    Attributes:
        accepted: tasks whose clients wait; `Batch.accepted` holds their records.
        saved: tasks and the version of the document that is written of them.
        then: called when what tasks have in the batch is written, or when all of it is (no tasks).
        on_pinned: given how rows are counted after the batch; the thread makes a pin for each.
        forget_before: final tasks last updated before that are deleted; 0: none are.
        forgotten: how many the thread has deleted.
        is_trim: the thread hands memory back.
        records: how many of the engine's own records there are, accepted tasks aside.
        sent_at: when it was handed to its thread; monotonic seconds, as the next two.
        begun_at: when the thread ran.
        ended_at: when it was written, or could not be.
    """

    def __init__(self) -> None:
        self.batch = Batch()
        self.accepted: list[Task] = []
        self.saved: list[tuple[Task, int]] = []
        self.then: list[tuple[Callable[[], None], frozenset[str]]] = []
        self.on_pinned: list[Callable[[Pin], None]] = []
        self.pins: list[Pin] = []
        self.forget_before = 0.0
        self.forgotten = 0
        self.is_trim = False
        self.records = 0
        self.sent_at = self.begun_at = self.ended_at = 0.0

    def tasks_saved(self) -> list[Task]:
        """Return the tasks whose documents are written, each once."""
        if len(self.saved) == len(self.batch.documents):
            return [task for task, _ in self.saved]
        return list({task.id: task for task, _ in self.saved}.values())

    def accept(self, tasks: list[Task]) -> None:
        """Put accepted tasks into the batch."""
        self.accepted = tasks
        accepted = []
        plan: Plan | None = None
        key = b""
        for task in tasks:
            if task.plan is not plan:
                plan = task.plan
                key = b"" if plan is None else plan.key
                if plan is not None and key:
                    self.batch.plans[key] = plan.text
            accepted.append(
                Accepted(
                    task.id,
                    task.created_at,
                    task.due_s,
                    task.digest,
                    task.body,
                    task.token,
                    key,
                    task.rebound_asked_s,
                    task.by,
                    task.start_at or 0,
                    b"" if task.verify is None else task.verify.text,
                    task.retries,
                    task.rewind,
                    task.traceparent,
                )
            )
        self.batch.accepted = accepted

    def split(self) -> tuple[Work, Work]:
        """Return what the next batch takes of the engine's own records, and what stays for later batches.

        Only a work of many documents is split. 70,000 tasks that settle at once would make one commit of a
        second, and every client would wait for it. Documents go first, with their callbacks and rows; all
        other records go with the last of the documents, because a journal row may only be dropped after the
        documents of its tasks are written.
        """
        batch = self.batch
        if len(batch.documents) <= _DOCUMENTS_MAX:
            return self, Work()
        part = Work()
        documents = part.batch.documents
        for task_id in list(islice(batch.documents, _DOCUMENTS_MAX)):
            documents[task_id] = batch.documents.pop(task_id)
        callbacks, batch.callbacks = batch.callbacks, []
        for callback in callbacks:  # with its document: a crash in between must not lose it
            (part.batch if callback.task_id in documents else batch).callbacks.append(callback)
        rows, batch.parked = batch.parked, []
        for row in rows:
            (part.batch if row.task_id in documents else batch).parked.append(row)
        saved = self.saved
        self.saved = [pair for pair in saved if pair[0].id in batch.documents]
        part.saved = [pair for pair in saved if pair[0].id in documents]
        part.records = len(documents) + len(part.batch.parked)
        self.records = max(1, self.records - part.records)
        return part, self

    def take_unwritten(self, left: Batch | None, stuck: set[str]) -> Work:
        """Return the work that is left of one that was written in part; this one keeps what was written.

        Who waits for rows that cannot be read meanwhile goes on. Should they be read before this is written,
        they are found undone, and told again: `late_of` counts each once.

        Args:
            left: what the store says it has not written; None: nothing of the engine's own records.
            stuck: see `Committed.stuck`.
        """
        unwritten = Work()
        if left is None:
            return unwritten
        unwritten.saved = [pair for pair in self.saved if pair[0].id in left.documents]
        self.saved = [pair for pair in self.saved if pair[0].id not in left.documents]
        may_go_on = [bool(names) and names.isdisjoint(stuck) for _, names in self.then]
        unwritten.then = [pair for pair, goes_on in zip(self.then, may_go_on, strict=True) if not goes_on]
        self.then = [pair for pair, goes_on in zip(self.then, may_go_on, strict=True) if goes_on]
        unwritten.batch = left
        unwritten.records = 1 + sum(
            map(
                len,
                (
                    left.documents,
                    left.parked,
                    left.delivered,
                    left.cancelled,
                    left.callbacks,
                    left.told,
                    left.settled_journal,
                    left.unparked_tasks,
                    left.noted,
                    left.sightings,
                    left.pauses,
                    left.silences,
                    left.begun,
                    left.joined,
                    left.parted,
                ),
            )
        )
        return unwritten

    def drop_probe(self) -> None:
        """Take the sign that only tests whether writing works out of the batch."""
        if self.batch.is_probe:
            self.batch.is_probe = False
            self.records -= 1

    def followed_by(self, later: Work) -> Work:
        """Return this work, which failed, with the records that came since behind its own.

        Its accepted tasks are dropped: their clients have been told.
        """
        batch, after = self.batch, later.batch
        self.accepted = []
        batch.accepted = []
        batch.documents = after.documents | {
            task_id: text for task_id, text in batch.documents.items() if task_id not in after.documents
        }  # what failed last: a server that is away must not hold up what is for others
        batch.progress.update(after.progress)
        batch.cancelled.update(after.cancelled)
        for part in _LISTS:
            getattr(batch, part).extend(getattr(after, part))
        self.saved += later.saved
        self.then += later.then
        self.on_pinned += later.on_pinned
        self.records += later.records
        self.is_trim |= later.is_trim
        self.forget_before = max(self.forget_before, later.forget_before)
        return self


def take_accepted(waiting: list[Task]) -> list[Task]:
    """Take the tasks that fit into one batch, and at least one, from the start of *waiting*."""
    taken = waiting[:_TASKS_MAX]
    body_bytes = 0
    for count, task in enumerate(taken):
        body_bytes += len(task.body)
        if body_bytes > _BODY_BYTES_MAX and count:
            del taken[count:]
            break
    del waiting[: len(taken)]
    return taken

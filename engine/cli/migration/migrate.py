"""Moving an engine's tasks from one store to another: ``purgeline migrate --from URL --to URL``.

The source is only read and stays as it is. No engine may run on either side.

*Restartable.* What is written twice is the same as what is written once: a document replaces itself, a task
or callback that the target has is left out, and rows of delay queues are begun again where the order in
which they were written counts. A file in ``data_dir`` says which migration was begun, so a target that holds
anything else is refused.

At the end both sides are read, and what they hold is compared. Rows of delay queues whose task has no
document are not moved: such a task is in the journal, and the engine that takes it up works it from the
start.

The history is copied last (`engine.cli.migration.history`), and from its begin again after an interruption.

The rows of one node's delay queue are in memory at a time (about 0.5 KB each), and the ids of unfinished
tasks; everything else goes in pages.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from engine.base.durable import sync_folder
from engine.cli.migration.history import copy_history, has_history
from engine.cli.migration.side import PAGE, facts_of, settled_state
from engine.errors import StoreError
from engine.tasks.records import Batch, Callback, Parked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.cli.migration.side import Side

_MARK: Final = "migration.json"


class Holds(msgspec.Struct):
    """What a side holds, counted."""

    documents: int = 0  #: tasks that are settled, or wait only for unreachable nodes
    unfinished: int = 0  #: accepted tasks that will be worked
    delayed: dict[str, int] = {}  #: subtasks in each node's delay queue
    callbacks: int = 0
    history: int = 0  #: settled tasks of which it is known, as they were copied

    def shown(self) -> dict[str, int]:
        """Return the counts as a user is shown them."""
        return {
            "documents": self.documents,
            "unfinished": self.unfinished,
            "delayed": sum(self.delayed.values()),
            "callbacks": self.callbacks,
            "history": self.history,
        }

    def differences(self, other: Holds) -> list[str]:
        """Return a text for each count in which *other* differs."""
        differences = [
            f"{name}: {mine} and {theirs}"
            for name in ("documents", "unfinished", "callbacks")
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]
        for node in sorted(self.delayed.keys() | other.delayed.keys()):
            mine, theirs = self.delayed.get(node, 0), other.delayed.get(node, 0)
            if mine != theirs:
                differences.append(f"delayed of {node}: {mine} and {theirs}")
        return differences


class _Mark(msgspec.Struct):
    source: str
    target: str


def migrate(
    source: Side, target: Side, folder: Path, *, say: Callable[[str], object] = str
) -> tuple[Holds, Holds]:
    """Copy everything, and return what each side holds afterwards.

    Args:
        source: read only.
        target: empty, or what an earlier attempt has left.
        folder: where the mark of a begun migration is kept.
        say: told how far it is.

    Raises:
        StoreError: a side cannot be read or written, or the target holds something else.
    """
    with source.opened(), target.opened():
        _begin(source, target, folder)
        _documents(source, target, say)
        _unfinished(source, target, say)
        _delayed(source, target, say)
        _callbacks(source, target, say)
        target.write(Batch(pauses=source.pauses(), silences=source.silences()))
        count = copy_history(source, target, say)
        had, has = holds(source), holds(target)
        had.history = has.history = count
    if not had.differences(has):
        (folder / _MARK).unlink()
    return had, has


def holds(side: Side) -> Holds:
    """Count what an open side holds."""
    delayed = {node: len(side.rows(node)) for node in side.nodes()}
    return Holds(
        documents=sum(map(len, side.documents())),
        unfinished=sum(map(len, side.unfinished())),
        delayed={node: count for node, count in delayed.items() if count},
        callbacks=len(side.callbacks()),
    )


def _begin(source: Side, target: Side, folder: Path) -> None:
    mark = _Mark(source.url, target.url)
    path = folder / _MARK
    try:
        begun = msgspec.json.decode(path.read_bytes(), type=_Mark) if path.exists() else None
        if begun != mark and (holds(target).differences(Holds()) or has_history(target)):
            raise StoreError(
                f"{target.url} holds tasks already, and no migration from {source.url} to it was begun here; "
                "the target has to be empty"
            )
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(mark))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    except (OSError, msgspec.DecodeError) as exc:
        raise StoreError(f"{path}: cannot be read or written: {exc}") from exc


def _documents(source: Side, target: Side, say: Callable[[str], object]) -> None:
    """Copy the documents, the oldest first: a listing shows them in the order in which they came."""
    count = 0
    for page in source.documents():
        texts = page if target.is_shared else map(settled_state, page)
        target.write(Batch(documents={facts_of(text).task_id: text for text in texts}))
        count += len(page)
        say(f"documents: {count}")


def _unfinished(source: Side, target: Side, say: Callable[[str], object]) -> None:
    known = {record.id for records in target.unfinished() for record in records}
    count = 0
    waiting: Batch = Batch()
    for records in source.unfinished():
        missing = [record for record in records if record.id not in known]
        waiting.accepted += missing
        waiting.plans.update(source.plans(missing))
        count += len(records)
        if len(waiting.accepted) >= PAGE:
            target.write(waiting)
            waiting = Batch()
    target.write(waiting)
    say(f"unfinished tasks: {count}")


def _delayed(source: Side, target: Side, say: Callable[[str], object]) -> None:
    """Copy the delay queues, each in its order.

    A shared store wants all rows of a task that wait for parents at once: it keeps them by task.
    """
    target.drop_rows()
    behind: dict[str, list[Parked]] = {}
    for node in source.nodes():
        rows = source.rows(node)
        at_once = [row for row in rows if not (target.is_shared and row.after)]
        for place in range(0, len(at_once), PAGE):
            target.write(Batch(parked=at_once[place : place + PAGE]))
        for row in rows:
            if target.is_shared and row.after:
                behind.setdefault(row.task_id, []).append(row)
        say(f"delayed of {node}: {len(rows)}")
    for parked in behind.values():
        target.write(Batch(parked=parked))


def _callbacks(source: Side, target: Side, say: Callable[[str], object]) -> None:
    known = {(callback.task_id, callback.url, callback.body) for callback in target.callbacks()}
    callbacks = source.callbacks()
    missing = [
        Callback(0, callback.task_id, callback.url, callback.body)
        for callback in callbacks
        if (callback.task_id, callback.url, callback.body) not in known
    ]
    for place in range(0, len(missing), PAGE):
        target.write(Batch(callbacks=missing[place : place + PAGE]))
    say(f"callbacks: {len(callbacks)}")

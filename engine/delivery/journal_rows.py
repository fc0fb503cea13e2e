"""How many tasks of each journal row are at work: a row goes from the store when its last task is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from engine.tasks.records import JournalKey
    from engine.tasks.task import Task


class JournalRows:
    """Counts tasks in and out of their journal rows.

    Args:
        saver_of: tells the saver of a task's id; savers with a file each number their rows on their own.
    """

    def __init__(self, saver_of: Callable[[str], Hashable]) -> None:
        self._saver_of = saver_of
        self._counts: dict[tuple[Hashable, JournalKey], int] = {}

    def __repr__(self) -> str:
        return f"<JournalRows [{len(self._counts)} rows at work]>"

    def at_work(self) -> list[JournalKey]:
        """Return the rows of which tasks are at work."""
        return [key for _, key in self._counts]

    def has(self, key: JournalKey) -> bool:
        """Tell whether tasks of a row are at work."""
        return any(known == key for _, known in self._counts)

    def enter(self, task: Task, key: JournalKey) -> None:
        """Count a task in: it is worked, and row *key* holds it."""
        task.journal_key = key
        row = (self._saver_of(task.id), key)
        self._counts[row] = self._counts.get(row, 0) + 1

    def leave(self, task: Task) -> JournalKey | None:
        """Count a task out, if it is in a row. Returns the row when this was its last task."""
        key = task.journal_key
        if not key:
            return None
        task.journal_key = 0
        row = (self._saver_of(task.id), key)
        count = self._counts[row] - 1
        if count:
            self._counts[row] = count
            return None
        del self._counts[row]
        return key

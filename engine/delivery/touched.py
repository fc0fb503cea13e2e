"""Tasks that have made progress which other engines of the same store have not been told of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.tasks.progress import take_touched

if TYPE_CHECKING:
    from engine.tasks.task import Task


class Touched:
    """A set of tasks. `add` and `discard` are the set's own: one of them is called with each answer."""

    def __init__(self) -> None:
        self._tasks: set[Task] = set()
        self.add = self._tasks.add
        self.discard = self._tasks.discard

    def __len__(self) -> int:
        return len(self._tasks)

    def take(self, *, is_last: bool = False) -> dict[str, bytes]:
        """Return progress records of some tasks, or the last of all; see `progress.take_touched`."""
        return take_touched(self._tasks, is_last=is_last)

"""Tasks that are stored and wait for their expansion."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from engine.tasks.task import Task

_EXPAND_BUDGET: Final = 20_000
"""Subtasks expanded in one turn of the loop (≈ 10 ms), so that a large batch does not stop the intake."""
_TASK_COST: Final = 10  #: subtasks that a task itself counts for


class Inbox:
    """Expands tasks in their order, a bounded number of subtasks in each turn of the loop.

    Args:
        loop: of the engine.
        expand: expands a task, unless that has been done meanwhile; tells whether it did.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, expand: Callable[[Task], bool]) -> None:
        self._loop = loop
        self._expand = expand
        self._tasks: deque[Task] = deque()
        self._is_scheduled = False
        self._is_stopped = False

    def __len__(self) -> int:
        return len(self._tasks)

    def put(self, task: Task) -> None:
        """Have a task expanded, from the next turn of the loop on."""
        self._tasks.append(task)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._expand_some)

    def stop(self) -> None:
        """Expand nothing more after the turn under way."""
        self._is_stopped = True

    def _expand_some(self) -> None:
        budget = _EXPAND_BUDGET
        while self._tasks and budget > 0:
            task = self._tasks.popleft()
            if self._expand(task):
                budget -= task.total + _TASK_COST
        self._is_scheduled = bool(self._tasks) and not self._is_stopped
        if self._is_scheduled:
            self._loop.call_soon(self._expand_some)

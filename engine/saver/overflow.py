"""Accepted tasks that found a saver's backlog full: they wait a bounded time for room."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from engine.errors import BacklogFullError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from engine.tasks.task import Task


class Overflow:
    """The tasks that wait for room, the one that has waited longest first.

    Args:
        loop: the engine's loop.
        wait_s: how long a task waits before it is refused.
        on_refused: given each task that found no room in time, and the error for its client.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wait_s: float,
        on_refused: Callable[[Task, Exception], None],
    ) -> None:
        self._loop = loop
        self._wait_s = wait_s
        self._on_refused = on_refused
        self._tasks: deque[tuple[float, Task]] = deque()  # with the loop's time at which each is refused
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task) -> None:
        """Let a task wait."""
        self._tasks.append((self._loop.time() + self._wait_s, task))
        if self._timer is None:
            self._timer = self._loop.call_later(self._wait_s, self._expire)

    def take(self) -> Task:
        """Return the task that has waited longest: there is room for it now."""
        return self._tasks.popleft()[1]

    def close(self) -> None:
        """Refuse nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._tasks and self._tasks[0][0] <= now:
            _, task = self._tasks.popleft()
            self._on_refused(task, BacklogFullError("saver_queue", retry_after_s=1))
        if self._tasks:
            self._timer = self._loop.call_at(self._tasks[0][0], self._expire)

"""Room for tasks: how many subtasks and tasks the engine has at a time, and who waits for less.

When there is no room (``live_subtasks_max``), a task waits a moment for it: clients that send without
pause are slowed down to what the nodes can take, and only what finds no room in that time gets a 503.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.base.waiting_room import WaitingRoom
from engine.errors import BacklogFullError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sized

    from engine.tasks.task import Task


class LiveSubtasks(Protocol):
    """The count of subtasks that are neither settled nor in a delay queue; see `Load`."""

    live: int

    def reserve(self, count: int) -> None:
        """Count subtasks in."""

    def call_on_room(self, callback: Callable[[], None]) -> None:
        """Have *callback* called once when there is more room."""


class Room:
    """Takes tasks as long as there is room for them, and lets the others wait in their order.

    Args:
        loop: the engine's loop.
        load: the count of live subtasks; what a task needs is reserved when it is taken.
        regions: the tasks in memory, those that wait included.
        live_max: live subtasks (``live_subtasks_max``), and tasks in memory.
        wait_s: how long a task waits before it is refused (``saver_push_timeout_s``).
        waiting_max: tasks that may wait (``saver_backlog_count``).
        on_taken: given each task that there is room for, and until when it may go on waiting where it
            goes next: a task that has waited here does not begin to wait again.
        on_refused: given each task that found no room, and the error for its clients.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        load: LiveSubtasks,
        regions: Sized,
        *,
        live_max: int,
        wait_s: float,
        waiting_max: int,
        on_taken: Callable[[Task, float | None], None],
        on_refused: Callable[[Task, BacklogFullError], None],
    ) -> None:
        self._load = load
        self._regions = regions
        self._live_max = live_max
        self._waiting_max = waiting_max
        self._on_taken = on_taken
        self._on_refused = on_refused
        self._waiting: WaitingRoom[Task] = WaitingRoom(
            loop, wait_s, self._late, last_chance=self._take_waiting
        )
        self._queue = self._waiting.queue

    def __repr__(self) -> str:
        return f"<Room [{len(self._queue)} tasks waiting]>"

    @property
    def is_crowded(self) -> bool:
        """Whether tasks wait, or half of the room is taken: who can wait leaves the rest to others."""
        return bool(self._queue) or 2 * max(self._load.live, len(self._regions)) > self._live_max

    def admit(self, task: Task) -> None:
        """Take a task that is in its region, let it wait, or refuse it."""
        full = self._full(task, in_memory=len(self._regions) - 1 - len(self._queue))
        if not full and not self._queue:
            self._load.reserve(task.total)
            self._on_taken(task, None)
        elif len(self._queue) < self._waiting_max:
            self._waiting.add(task)
            self._load.call_on_room(self._take_waiting)
        else:
            self._refuse(task, full)

    def _full(self, task: Task, *, in_memory: int) -> str:
        """Return what is full, or nothing when there is room for *task* beside the tasks *in_memory*."""
        live = self._load.live
        if live and live + task.total > self._live_max:
            return "pushing_queue"
        if in_memory >= self._live_max:  # their rest waits for a node that is down
            return "tasks_in_cache"
        return ""

    def _full_for_waiting(self, task: Task) -> str:
        return self._full(task, in_memory=len(self._regions) - len(self._queue))

    def _take_waiting(self) -> None:
        """There may be room: take the tasks that waited longest."""
        while self._queue and not self._full_for_waiting(self._queue[0][1]):
            task, until = self._waiting.take()
            self._load.reserve(task.total)
            self._on_taken(task, until)
        if self._queue:
            self._load.call_on_room(self._take_waiting)

    def _late(self, task: Task) -> None:
        self._refuse(task, self._full_for_waiting(task))

    def _refuse(self, task: Task, full: str) -> None:
        self._on_refused(task, BacklogFullError(full or "pushing_queue", retry_after_s=1))

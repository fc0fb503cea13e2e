"""Tasks that are stored and begin later: at their ``start_at`` they are planned, and then sent.

The clock that counts is the wall clock, or that of a shared store; it is looked at every `_LOOK_S` at least,
as somebody may set it. That a task begins, and for which plan, is stored before anything of it is sent: so a
task begins once, whatever happens to clocks, and whoever takes it over works that plan.
"""

from __future__ import annotations

import heapq
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from engine.base.turns import SLICE_S
from engine.errors import BacklogFullError
from engine.tasks.progress import progress_document
from engine.tasks.records import Begun

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from engine.delivery.load import Load
    from engine.saver.pool import SaverPool
    from engine.tasks.task import Task

_LOOK_S: Final = 5.0
_RETRY_AFTER_S: Final = 60


class Schedule:
    """Owns the tasks that wait for their time; none of their subtasks is live until then.

    Args:
        loop: of the engine.
        load: counts live subtasks.
        savers: write that a task begins.
        is_shared: other engines work with the same store.
        begin: has a task sent, which is due in so many seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        load: Load,
        savers: SaverPool,
        *,
        is_shared: bool,
        begin: Callable[[Task, float], None],
    ) -> None:
        self.now: Callable[[], float] = time.time  #: UNIX time
        self.plan_again: Callable[[Task], None] = _as_accepted  #: plans a task by what is configured now
        self.subtasks_max = sys.maxsize  #: of tasks that wait, see `check`
        self._loop = loop
        self._load = load
        self._savers = savers
        self._is_shared = is_shared
        self._begin = begin
        self._waiting: dict[str, Task] = {}
        self._subtasks = 0
        self._times: list[tuple[float, str]] = []  # a heap; also of tasks that do not wait any more
        self._beginning: dict[str, Task] = {}  # that is being written
        self._handle: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"<Schedule [{len(self._waiting)} tasks]>"

    def __len__(self) -> int:
        return len(self._waiting)

    def check(self, task: Task) -> None:
        """Refuse a task for which there is no room: those that wait are in memory.

        Raises:
            BacklogFullError: there is none.
        """
        if self._subtasks + task.total > self.subtasks_max:
            raise BacklogFullError("the schedule", retry_after_s=_RETRY_AFTER_S)

    def add(self, task: Task) -> None:
        """Let a stored task wait for its time; the load has counted it."""
        self._load.release(task.total)
        self._waiting[task.id] = task
        self._subtasks += task.total
        heapq.heappush(self._times, (task.start_at, task.id))
        if self._times[0][1] == task.id:
            self._arm()

    def take_out(self, task: Task) -> None:
        """Have a task be as one that has just been stored: it is about to be cancelled."""
        if self._waiting.get(task.id) is task:
            self._leave(task)
            self._load.reserve(task.total)
        self._beginning.pop(task.id, None)
        task.is_scheduled = False

    def lost(self, task_id: str) -> None:
        """Forget a task that another engine has taken over."""
        task = self._waiting.get(task_id)
        if task is not None:
            self._leave(task)
        elif (task := self._beginning.pop(task_id, None)) is not None:
            self._load.release(task.total)

    def stop(self) -> None:
        """Begin nothing more; what waits is in the store."""
        self._is_stopped = True
        if self._handle is not None:
            self._handle.cancel()

    def _leave(self, task: Task) -> None:
        del self._waiting[task.id]
        self._subtasks -= task.total

    def _arm(self, wait_s: float | None = None) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._times and not self._is_stopped:
            left_s = max(0.0, self._times[0][0] - self.now()) if wait_s is None else wait_s
            self._handle = self._loop.call_later(min(left_s, _LOOK_S), self._look)

    def _look(self) -> None:
        """Begin with tasks whose time has come, for one slice of a turn."""
        until = time.monotonic() + SLICE_S
        while self._times and self._times[0][0] <= self.now():
            if time.monotonic() > until:
                self._arm(0)
                return
            at, task_id = heapq.heappop(self._times)
            task = self._waiting.get(task_id)
            if task is not None and task.start_at == at:
                self._start(task)
        self._arm()

    def _start(self, task: Task) -> None:
        self._leave(task)
        self.plan_again(task)
        self._load.reserve(task.total)
        self._beginning[task.id] = task
        saver = self._savers.of(task.id)
        if self._is_shared:  # an engine that has lost the task is told so before it sends anything
            saver.save_progress({task.id: progress_document(task)})
        plan = task.plan
        assert plan is not None
        saver.begin(Begun(task.id, task.created_at, plan.key, plan.text), partial(self._written, task))

    def _written(self, task: Task) -> None:
        if self._beginning.get(task.id) is task:
            del self._beginning[task.id]
            task.is_scheduled = False
            self._begin(task, task.due_at - self.now())


def _as_accepted(_: Task) -> None:
    """Leave a task its plan."""

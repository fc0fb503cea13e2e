"""The turns of one node's visits: so many a second, a second's worth at once, and not too many at a time.

What waits is bounded: whoever adds a job asks first what `room` there is until its visits would be too late.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from engine.base.background import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Job = Callable[[], Coroutine[None, None, None]]

AT_ONCE_MAX: Final = 32
WAITING_MAX: Final = 20_000  #: visits of one node


class VisitLane:
    """Runs jobs, each of some visits, when it is their turn; first come, first served.

    Args:
        rate_per_s: visits.
    """

    def __init__(self, rate_per_s: float) -> None:
        self._gap_s = 1 / rate_per_s
        self._ahead_s = max(1.0, self._gap_s) - self._gap_s
        self._next_at = 0.0  # when a lane that is never ahead would make its next visit
        self._jobs: deque[tuple[int, float, Job]] = deque()
        self._waiting_visits = 0
        self._running = 0
        self._background = Background()
        self._wake: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._jobs) + self._running

    def room(self, within_s: float) -> int:
        """Return how many more visits can be made within so many seconds."""
        begun_s = max(0.0, self._next_at - time.monotonic())
        in_time = int((within_s + self._ahead_s + self._gap_s - begun_s) / self._gap_s)
        return max(0, min(in_time, WAITING_MAX) - self._waiting_visits)

    def add(self, visits: int, until: float, job: Job) -> None:
        """Have a job run that makes so many visits at the least; it charges further ones itself.

        From *until* on (`time.monotonic`) it makes none, and does not wait for its turn.
        """
        if self._is_closed:
            return
        self._jobs.append((visits, until, job))
        self._waiting_visits += visits
        self._pump()

    def charge(self, visits: int = 1) -> None:
        """Count visits beyond those that were announced: the next jobs wait longer."""
        self._next_at = max(self._next_at, time.monotonic()) + visits * self._gap_s

    def close(self) -> None:
        """Forget what waits, stop what runs, and take nothing more."""
        self._is_closed = True
        self._jobs.clear()
        if self._wake is not None:
            self._wake.cancel()
        self._background.cancel()

    def _pump(self) -> None:
        while self._jobs and self._running < AT_ONCE_MAX:
            visits, until, job = self._jobs[0]
            now = time.monotonic()
            wait_s = min(self._next_at - self._ahead_s, until) - now
            if wait_s > 0:
                if self._wake is None:
                    self._wake = asyncio.get_running_loop().call_later(wait_s, self._woken)
                return
            self._jobs.popleft()
            self._waiting_visits -= visits
            if now < until:
                self.charge(visits)
            self._running += 1
            self._background.start(self._run(job))

    def _woken(self) -> None:
        self._wake = None
        self._pump()

    async def _run(self, job: Job) -> None:
        try:
            await job()
        finally:
            self._running -= 1
            self._pump()

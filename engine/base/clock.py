"""UNIX time that passes as the monotonic clock does: a wall clock that is set changes no waiting time."""

from __future__ import annotations

import time


class SteadyClock:
    """The wall clock as it was when this began, and what has passed since by the monotonic clock.

    Time in which the machine was suspended has not passed. Any thread may ask.
    """

    def __init__(self) -> None:
        self._ahead_s = time.time() - time.monotonic()

    def now(self) -> float:
        """Return UNIX time, in seconds."""
        return self._ahead_s + time.monotonic()

    def go_on_at(self, at: float) -> None:
        """Be no later than *at* from now on: the wall clock was set forward while an earlier one went on."""
        self._ahead_s = min(self._ahead_s, at - time.monotonic())

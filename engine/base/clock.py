"""UNIX time that passes as the monotonic clock does: a wall clock that is set changes no waiting time."""

from __future__ import annotations

import time
from typing import Final

_CATCH_UP: Final = 0.01  #: of the time that passes; clocks that nobody sets drift by less


class SteadyClock:
    """The wall clock as it was when this began, and what has passed since by the monotonic clock.

    Time in which the machine was suspended has not passed. Any thread may ask. An engine that shares its
    store with others has it follow the store's clock.
    """

    def __init__(self) -> None:
        self._ahead_s = time.time() - time.monotonic()
        self._followed_at: float | None = None

    def now(self) -> float:
        """Return UNIX time, in seconds."""
        return self._ahead_s + time.monotonic()

    def go_on_at(self, at: float) -> None:
        """Be no later than *at* from now on: the wall clock was set forward while an earlier one went on."""
        self._ahead_s = min(self._ahead_s, at - time.monotonic())

    def follow(self, at: float, when: float) -> None:
        """Go by another clock from now on; one that is set forward meanwhile is caught up with slowly.

        Args:
            at: UNIX time that it showed.
            when: the monotonic clock then.
        """
        ahead_s = at - when
        if self._followed_at is not None:
            ahead_s = min(ahead_s, self._ahead_s + _CATCH_UP * max(0.0, when - self._followed_at))
        self._ahead_s, self._followed_at = ahead_s, when

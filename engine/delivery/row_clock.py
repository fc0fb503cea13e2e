"""The time by which rows of delay queues wait.

With a store of its own an engine counts by a steady clock, which goes on over restarts (the file says where
it was): a wall clock that is set makes no row too old. Rows of a shared store bear the wall clock's time,
because other engines read it; a clock that is set forward while an engine runs makes them no older there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.base.clock import SteadyClock


class RowClock:
    """Tells when rows come, and how old they are; UNIX times.

    Args:
        steady: goes on whatever the wall clock is set to.
        is_shared: other engines work with the same store.
    """

    def __init__(self, steady: SteadyClock, *, is_shared: bool) -> None:
        self._steady = steady
        self._is_shared = is_shared

    def stamp(self) -> float:
        """Return when a row comes that comes now."""
        return time.time() if self._is_shared else self._steady.now()

    def now(self) -> float:
        """Return the time that the age of rows is counted to."""
        return min(time.time(), self._steady.now()) if self._is_shared else self._steady.now()

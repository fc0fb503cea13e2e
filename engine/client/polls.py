"""How often a task is looked at while it is waited for, and when that ends."""

from __future__ import annotations

import time

from engine.client.errors import StillRunningError

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.client.bodies import Document

SETTLED = frozenset({"done", "failed", "cancelled", "partial"})  #: states that end a wait
POLL_FIRST_S = 0.02
POLL_LAST_S = 1.0
POLL_GROWTH = 1.5


class Polls:
    """Looks at one task: soon after each other at first, then each second.

    Args:
        task_id: which.
        timeout_s: for all of them.
        now: monotonic seconds; for tests.
    """

    def __init__(self, task_id: str, timeout_s: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._task_id = task_id
        self._timeout_s = timeout_s
        self._now = now
        self._deadline = now() + timeout_s
        self._interval_s = POLL_FIRST_S
        self._state = "not known yet"

    def is_over(self, document: Document) -> bool:
        """Return whether the task is waited for no longer."""
        self._state = document["state"]
        return self._state in SETTLED

    def look_s(self) -> float:
        """Return the seconds that one look may take; the last one gets a whole second, too."""
        return self._deadline - self._now() + POLL_LAST_S

    def pause_s(self) -> float:
        """Return the seconds until the next look.

        Raises:
            StillRunningError: the time is over.
        """
        left_s = self._deadline - self._now()
        if left_s <= 0:
            raise StillRunningError(self._task_id, timeout_s=self._timeout_s, state=self._state)
        pause_s = min(self._interval_s, left_s)
        self._interval_s = min(self._interval_s * POLL_GROWTH, POLL_LAST_S)
        return pause_s

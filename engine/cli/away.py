"""An engine that goes away while a command waits for it is asked again for a while, and the user is told."""

from __future__ import annotations

import time

from engine.client.errors import RefusedError, UnreachableError

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

FACTOR: Final = 6  #: of the time-out of one answer: 60 s, in which a machine starts again
TOLD_FIRST_S: Final = 1.0  #: a connection that breaks once is nothing to tell
TOLD_EVERY_S: Final = 15.0


class Away:
    """How long an engine that answered before has not answered.

    Args:
        say: is given a line when it is away, every quarter of a minute then, and when it is back.
        bound_s: seconds for which it is asked again.
        now: monotonic seconds; for tests.
    """

    def __init__(
        self, say: Callable[[str], None], bound_s: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._bound_s = bound_s
        self._now = now
        self._answered_at: float | None = None  # None: never
        self._told_at: float | None = None  # None: it is not away, as far as the user knows

    def answered(self) -> None:
        """Note that the engine has answered."""
        now = self._now()
        if self._told_at is not None and self._answered_at is not None:
            self._say(f"the engine answers again, after {now - self._answered_at:.0f} s")
        self._answered_at, self._told_at = now, None

    def lost(self, error: UnreachableError | RefusedError) -> None:
        """Note that the engine has not answered, or is too busy to; return when it is to be asked again.

        Raises:
            UnreachableError: it never answered, or is away for too long.
            RefusedError: the same of one that is busy; or it refuses, and asking again changes nothing.
        """
        is_away = isinstance(error, UnreachableError) or error.is_busy
        if not is_away or self._answered_at is None:
            raise error
        now = self._now()
        away_s = now - self._answered_at
        if away_s >= self._bound_s:
            raise _for_so_long(error, away_s) from error
        is_due = away_s >= TOLD_FIRST_S if self._told_at is None else now - self._told_at >= TOLD_EVERY_S
        if is_due:
            self._told_at = now
            left_s = self._bound_s - away_s
            self._say(f"no answer for {away_s:.0f} s: {error}; it is asked again for {left_s:.0f} s")


def _for_so_long(error: UnreachableError | RefusedError, away_s: float) -> UnreachableError | RefusedError:
    """Return the error that ends a wait."""
    told = f"it was asked again for {away_s:.0f} s"
    if isinstance(error, UnreachableError):
        return UnreachableError(error.url, f"{error.reason}; {told}", sent=error.sent)
    return RefusedError(error.status, f"{error.detail}; {told}", retry_after_s=error.retry_after_s)

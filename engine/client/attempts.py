"""The attempts of one request: at each engine, then again after a pause, until the time is over.

Every request is safe to repeat: reads and cancels are, and a task carries an id chosen by the client, for
which the engine answers the task it already has.
"""

from __future__ import annotations

import os

from engine.base.tuples import NamedTuple
from engine.client.errors import RefusedError, UnreachableError, refusal_of

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.client.engines import Engines

PAUSE_FIRST_S = 0.2  #: before all engines are tried again, when none answered
PAUSE_MAX_S = 5.0
RETRY_AFTER_DEFAULT_S = 1.0
RETRY_AFTER_MAX_S = 30.0  #: an engine that asks for more is not waited for
BEHIND = frozenset({502, 504})  #: what a proxy answers whose engine does not
SPREAD = 0.25  #: jitter adds so much of a Retry-After at most, so that clients do not come back together


class Call(NamedTuple):
    """One request, as an operation wants it."""

    method: str
    path: str
    body: bytes | None = None
    content_type: str = "application/json"


class Answer(NamedTuple):
    """What one engine answered."""

    url: str
    status: int
    headers: Mapping[str, str]  #: by names in lower case
    content: bytes


class Patience(NamedTuple):
    """How long one request goes on."""

    total_s: float  #: for all attempts and pauses together
    rounds: int | None = (
        None  #: how often all engines are tried, when none answers; None: until the time is over
    )
    busy_rounds: int | None = None  #: the same, when one is busy


class Turn(NamedTuple):
    """What is to be done next: wait, then ask an engine."""

    place: int
    pause_s: float
    left_s: float  #: for this attempt


class Attempts:
    """Says for one request which engine is asked next, and when.

    Args:
        engines: whom it may be asked of.
        patience: when it is given up.
        notice: is told about each wait.
        draw: gives the jitter, from 0 to 1.
    """

    def __init__(
        self,
        engines: Engines,
        patience: Patience,
        *,
        notice: Callable[[str], None] = lambda _text: None,
        draw: Callable[[], float] | None = None,
    ) -> None:
        self._engines = engines
        self._patience = patience
        self._notice = notice
        self._draw = draw or _jitter
        self._deadline = engines.now() + patience.total_s
        self._round = 1
        self._order = engines.order()
        self._lost: list[UnreachableError] = []
        self._busy: list[RefusedError] = []
        self._was_sent = False

    def next(self) -> Turn:
        """Return the next attempt.

        Raises:
            UnreachableError: no engine answered, and the time or the rounds are over.
            RefusedError: the same, and an engine is busy.
        """
        pause_s = 0.0 if self._order else self._pause_s()
        left_s = self._deadline - self._engines.now() - pause_s
        if left_s <= 0 and (self._lost or self._busy):
            raise self._error()
        if not self._order:
            self._round += 1
            self._order = self._engines.order()
            self._lost, self._busy = [], []
        return Turn(self._order.pop(0), pause_s, max(left_s, 0.001))

    def lost(self, place: int, error: UnreachableError) -> None:
        """Note that an engine did not answer."""
        self._was_sent |= error.sent
        self._engines.failed(place)
        self._lost.append(error)

    def accept(self, place: int, answer: Answer) -> bool:
        """Return whether *answer* is a success; False: another attempt is to be made.

        Raises:
            RefusedError: it is a refusal that no other attempt would change.
        """
        if 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP's successes
            self._engines.answered(place)
            return True
        error = refusal_of(answer.status, answer.headers, answer.content)
        if not error.is_busy:
            self._engines.answered(place)
            raise error
        self._engines.failed(place, retry_after_s=error.retry_after_s or 0.0)
        self._busy.append(error)
        return False

    def _pause_s(self) -> float:
        is_busy = any(error.status not in BEHIND for error in self._busy)
        rounds = self._patience.busy_rounds if is_busy else self._patience.rounds
        if rounds is not None and self._round >= rounds:
            raise self._error()
        if self._busy:
            asked_s = min(
                RETRY_AFTER_DEFAULT_S if error.retry_after_s is None else error.retry_after_s
                for error in self._busy
            )
            if asked_s > RETRY_AFTER_MAX_S:
                raise self._error()
            pause_s = asked_s * (1 + SPREAD * self._draw())
        else:
            from engine.base.backoff import backoff_s  # noqa: PLC0415 - random, which no start should wait for

            pause_s = backoff_s(self._round - 1, first_s=PAUSE_FIRST_S, max_s=PAUSE_MAX_S, draw=self._draw)
        attempt = f"attempt {self._round + 1}" + ("" if rounds is None else f" of {rounds}")
        self._notice(f"{self._error()}; {attempt} in {pause_s:.3g} s")
        return pause_s

    def _error(self) -> UnreachableError | RefusedError:
        """Return what is said of the engines of this round."""
        if self._busy and not self._lost and not self._was_sent:
            return min(self._busy, key=lambda error: error.retry_after_s or 0.0)
        if len(self._lost) == 1 and not self._busy:
            only = self._lost[0]
            return UnreachableError(only.url, only.reason, sent=self._was_sent)
        reasons = [f"{error.url}: {error.reason}" for error in self._lost] + [
            str(error) for error in self._busy
        ]
        return UnreachableError(self._engines.url, "; ".join(reasons), sent=self._was_sent)


def _jitter() -> float:
    return int.from_bytes(os.urandom(4), "big") / 2**32

"""Whether a node can be reached and does what it is asked, and what may be sent to it.

States of a node::

    READY ── 3 failures in a row ──▶ DOWN ── a probe is answered ──▶ RETURNING ─▶ CATCHING_UP ─▶ READY
      ▲                               ▲──────────── any failure ──────────┘───────────┘
    READY      subtasks go out as they come
    DOWN       subtasks go to the delay queue; one probe at a time, with backoff and jitter
    SICK       as DOWN, of a node that can be reached: it takes requests and does not answer them in time, or
               answers `WRONG_UNTIL_SICK` purges in a row with 5xx
    RETURNING  the delay queue is delivered, oldest first; new subtasks go out in between, while rows are read
               and written. If they joined it, a busy engine would never catch up: a row costs ten times
               a subtask that stays in memory
    CATCHING_UP  its last rows are on their way; new subtasks wait in memory behind them
    UNPROVEN   nothing shows that the node itself answers purges: they go out once, as they come, are not
               counted, and wait in the delay queue until a probe shows it; from any state but DOWN and SICK
    PAUSED     as DOWN, because an operator said so, from any state; ends as the operator says, in DOWN, and a
               probe tells how to go on
"""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING, Final

from engine.base.backoff import backoff_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.tasks.words import Operation

FAILURES_UNTIL_DOWN: Final = 3
WRONG_UNTIL_SICK: Final = 20
"""Wrong answers in a row, of `_WRONG_TARGETS` targets at least: one target may be what is wrong itself. Of a
node that does half of what it is asked one run in a million is so long."""
_WRONG_TARGETS: Final = 3
_WRONG_KEPT: Final = 64
ERROR_KEPT_S: Final = 3600  #: what went wrong is shown so long after that, while the node is ready
_CONNECT_BASE_S: Final = 0.05
_CONNECT_MAX_S: Final = 5.0


class NodeState(enum.StrEnum):
    """Whether a node takes subtasks; see the module."""

    READY = "ready"
    DOWN = "down"
    SICK = "sick"
    RETURNING = "returning"
    CATCHING_UP = "catching_up"
    UNPROVEN = "unproven"
    PAUSED = "paused"


# A member of an enum is looked up in its class at each use: 40 ns, and 1 µs where the interpreter's cache of
# such look-ups has a collision; it was 6 % of a busy loop.
_READY: Final = NodeState.READY
_DOWN: Final = NodeState.DOWN
_SICK: Final = NodeState.SICK
_RETURNING: Final = NodeState.RETURNING
_UNPROVEN: Final = NodeState.UNPROVEN
_PAUSED: Final = NodeState.PAUSED


class Health:
    """The state of one node. Only this class changes it; the node acts on what its methods return.

    Args:
        now: a clock that never goes back, in seconds: the loop's.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.state = NodeState.READY
        self.since = time.time()  #: when it came into that state, UNIX time
        self.is_down = False  #: nothing may be sent: the node cannot be reached, is sick, or paused
        self.takes_new = True  #: subtasks that do not come from the delay queue may go out
        self.keeps_rows = False  #: the delay queue is not delivered: the node is down, or unproven
        self.pause_reason = ""  #: who paused the node, and when
        self.failures = 0  #: in a row
        self.last_error = ""
        self.last_error_at = 0.0  #: UNIX time
        self.returns = 0  #: times the node was ready again, with an empty delay queue
        self.has_been_wrong = False  #: it was sick, or answered wrongly, and has done nothing since
        self.sick_times = 0  #: times it became sick, and has done nothing since
        self._wrong_count = 0  # in a row
        self.wrong: set[tuple[Operation, str]] = set()  #: what was answered so, not all of it
        self._connect_at = 0.0
        self._away_since = 0.0
        self._is_delivering = False  # the delivery of the delay queue has begun

    def __repr__(self) -> str:
        return f"<Health {self.state} [{self.failures} failures in a row]>"

    def _enter(self, state: NodeState) -> None:
        if state is not self.state:
            self.since = time.time()
        self.state = state
        self.is_down = state is _DOWN or state is _SICK or state is _PAUSED
        self.keeps_rows = self.is_down or state is _UNPROVEN
        self.takes_new = (
            state is _READY or state is _UNPROVEN or (state is _RETURNING and self._is_delivering)
        )

    @property
    def is_returning(self) -> bool:
        """Whether the delay queue is being delivered, or is about to be."""
        return self.state is _RETURNING or self.state is NodeState.CATCHING_UP

    @property
    def survives_a_failure(self) -> bool:
        """Whether one failure more would not take a ready node down."""
        return self.failures < FAILURES_UNTIL_DOWN - 1

    def connect_wait_s(self) -> float:
        """Return how long to wait before the next connection is tried; 0 or less: not at all."""
        return self._connect_at - self._now()

    def note(self, reason: str) -> None:
        """Keep what went wrong last; operators are shown it."""
        self.last_error = reason
        self.last_error_at = time.time()

    def recent_error(self) -> tuple[str, float]:
        """Return what went wrong last, and when (UNIX time); nothing where that is over and long ago."""
        if self.state is _READY and time.time() - self.last_error_at > ERROR_KEPT_S:
            return "", 0.0
        return self.last_error, self.last_error_at

    def answered(self) -> None:
        """The node gave an answer, whatever it was: failures before it do not count any more."""
        self.failures = 0

    def failed(self, reason: str, *, is_sick: bool = False) -> bool:
        """Count a failure of the node itself. Returns True when this one takes the node down.

        Otherwise the next connection has to wait a moment, longer with each failure in a row.

        Args:
            reason: what went wrong, for operators.
            is_sick: the node could be reached, and gave no answer in time.
        """
        self.failures += 1
        self.note(reason)
        if self.is_down:
            return False
        if self.is_returning or self.failures >= FAILURES_UNTIL_DOWN:
            self._go_away(is_sick=is_sick)
            return True
        pause_s = backoff_s(self.failures, first_s=_CONNECT_BASE_S, max_s=_CONNECT_MAX_S)
        self._connect_at = self._now() + pause_s
        return False

    def go_down(self, reason: str) -> bool:
        """The node may not be sent anything, however it answers. Returns True when it was not down before."""
        self.note(reason)
        if self.is_down:
            return False
        self._go_away(is_sick=False)
        return True

    def answered_wrongly(self, operation: Operation, target: str, reason: str) -> bool:
        """Count an answer that did not do what was asked. Returns True when this one makes the node sick."""
        self.has_been_wrong = True
        self._wrong_count += 1
        if len(self.wrong) < _WRONG_KEPT:
            self.wrong.add((operation, target))
        if self.is_down or self._wrong_count < WRONG_UNTIL_SICK or len(self.wrong) < _WRONG_TARGETS:
            return False
        self.note(f"{reason}, {self._wrong_count} times in a row")
        self._go_away(is_sick=True)
        return True

    def works(self) -> None:
        """The node did what it was asked: wrong answers before it do not count any more."""
        self.has_been_wrong = False
        self.sick_times = 0
        self._forget_wrong()

    def _forget_wrong(self) -> None:
        self._wrong_count = 0
        self.wrong.clear()

    def _go_away(self, *, is_sick: bool) -> None:
        self._enter(_SICK if is_sick else _DOWN)
        self._away_since = self._away_since or self._now()
        if is_sick:
            self.has_been_wrong = True
            self.sick_times += 1

    def still_away(self, reason: str, state: NodeState) -> None:
        """A probe did not bring the node back: it is down, sick or unproven."""
        self.note(reason)
        if self.keeps_rows and self.state is not _PAUSED:
            self._enter(state)

    @property
    def away_reason(self) -> str:
        """Why what is for the node waits, while `is_down`."""
        if self.state is _PAUSED:
            return f"{self.pause_reason}; it is delivered when the node is resumed"
        what = "sick" if self.state is _SICK else "unreachable"
        return f"{what}: {self.last_error or 'it is being asked'}; it is delivered when the node is back"

    def pause(self, reason: str, since: float) -> None:
        """Nothing may be sent until `resume`; *since* is when an operator said so, UNIX time."""
        self.pause_reason = reason
        self._away_since = self._away_since or self._now()
        self._enter(_PAUSED)
        self.since = since

    def resume(self) -> bool:
        """A probe tells how to go on from here. Returns False when the node was not paused."""
        if self.state is not _PAUSED:
            return False
        self.pause_reason = ""
        self._enter(_DOWN)
        return True

    def unproven(self, reason: str) -> bool:
        """An answer did not show that the node gave it. Returns True when this makes the node unproven."""
        self.note(reason)
        if self.keeps_rows:
            return False
        self._away_since = self._away_since or self._now()
        self._enter(_UNPROVEN)
        return True

    def doubt(self) -> None:
        """Keep a node whose delay queue has rows from being ready until a probe is answered."""
        if self.state is _READY:
            self._enter(_DOWN)

    def answers_again(self) -> None:
        """A probe was answered: the delay queue may be delivered."""
        self.failures = 0
        self._connect_at = 0.0
        self._is_delivering = False
        self._forget_wrong()
        self._enter(_RETURNING)

    def begin_delivery(self) -> bool:
        """New subtasks may go out beside the delay queue's. Returns False when that was known."""
        if self._is_delivering:
            return False
        self._is_delivering = True
        self._enter(self.state)
        return True

    def catch_up(self) -> None:
        """The last rows of the delay queue are about to be sent; new subtasks wait behind them."""
        self._enter(NodeState.CATCHING_UP)

    def ready(self) -> float:
        """The delay queue is empty. Returns how long the node was away, in seconds; 0 when it was not."""
        self._enter(_READY)
        self.returns += 1
        away_s = self._now() - self._away_since if self._away_since else 0.0
        self._away_since = 0.0
        return away_s

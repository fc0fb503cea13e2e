"""What the engine may fetch through to an origin: a token bucket for each ``[[origin]]``, and pauses.

Prefetches take from it, and so do visits and reads of the origin by the engine itself. When the origin is in
trouble (5xx) or slow (its first byte), nothing more is fetched for a while, which doubles up to
`PAUSE_MAX_S`; then one fetch tries, and when that is well all goes on. A target that failed while the origin
answered others fails by itself: that it fails again says nothing of the origin. Pure: it is handed the time.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from engine.config.tables import OriginConfig

PAUSE_FIRST_S: Final = 1.0
PAUSE_MAX_S: Final = 60.0
SLOW_S: Final = 5.0  #: a first byte that takes longer
TRIAL_S: Final = 30.0  #: a trial whose end nobody told is over
_SERVER_ERRORS: Final = range(500, 600)
_AHEAD_S: Final = 1.0  #: of its rate that a bucket holds
_FAILING_MAX: Final = 64  #: targets that are known to fail by themselves


class OriginGuard:
    """One origin's bucket and pause.

    Args:
        config: of the origin.
        now: `time.monotonic`.
        share: of the rate that this process has; its workers divide it.
    """

    def __init__(self, config: OriginConfig, now: Callable[[], float], share: float = 1.0) -> None:
        self.host = config.host
        self._rate = config.prefetch_per_s * share
        self._room = max(1.0, self._rate * _AHEAD_S)
        self._now = now
        self._tokens = self._room
        self._filled_at = now()
        self._pause_s = 0.0
        self._until = -inf
        self._trial_until = -inf
        self._failed: dict[str, None] = {}  # targets, since all was well
        self._fail_alone: dict[str, None] = {}  # targets that failed while the origin answered others
        self.reason = ""  #: why it pauses; empty: it does not
        self.held_count = 0  #: times that something had to wait
        self.on_open: set[Callable[[], None]] = set()  #: told, once, to ask again: `wait_s` has changed

    def __repr__(self) -> str:
        return f"<OriginGuard {self.host} [{self._tokens:.1f} tokens, {self.reason or 'open'}]>"

    def wait_s(self) -> float:
        """Return seconds until the next fetch may go; 0: now."""
        now = self._now()
        if now < self._until:
            return self._until - now
        if self.reason and now < self._trial_until:
            return self._trial_until - now
        if not self._rate:
            return 0.0
        self._fill(now)
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._rate

    def take(self) -> bool:
        """Take the turn of one fetch; False: it has to wait."""
        if self.wait_s() > 0:
            self.held_count += 1
            return False
        if self._rate:
            self._tokens -= 1
        if self.reason:
            self._trial_until = self._now() + TRIAL_S
        return True

    def note(self, status: int, first_byte_s: float, target: str) -> None:
        """Take note of how the fetch of a target went; *status* 0: the origin itself gave no answer."""
        if status in _SERVER_ERRORS or not status:
            if target in self._fail_alone:
                self._end_trial()
                return
            is_news = target not in self._failed
            _put(self._failed, target)
            self._pause(f"answered {status}" if status else "gave no answer", grows=is_news)
            return
        self._fail_alone.pop(target, None)
        if first_byte_s > SLOW_S:
            self._pause(f"took {first_byte_s:.1f} s to its first byte")
        elif self.reason and self._now() >= self._until:  # one of before the pause says nothing
            self._open(target)

    def note_untold(self) -> None:
        """Take note that what `take` let through has ended, and shows nothing of the origin."""
        self._end_trial()

    def _open(self, target: str) -> None:
        """Let all go on: a target was answered well."""
        self.reason, self._pause_s = "", 0.0
        for failed in self._failed:
            if failed != target:
                _put(self._fail_alone, failed)
        self._failed.clear()
        self._end_trial()

    def _end_trial(self) -> None:
        """Let the next one go, if it had to wait for one that tried; see `take`."""
        self._trial_until = -inf
        if self._now() >= self._until:
            self._tell()

    def _tell(self) -> None:
        told, self.on_open = self.on_open, set()
        for tell in told:
            tell()

    @property
    def pauses_s(self) -> float:
        """Seconds for which nothing is fetched."""
        return max(0.0, self._until - self._now())

    def _pause(self, reason: str, *, grows: bool = True) -> None:
        """Pause, for longer than the last time if it *grows*: not for one target that fails again."""
        now = self._now()
        self.reason = reason
        if now < self._until:
            return  # of what was under way when it began
        self._pause_s = min(PAUSE_MAX_S, self._pause_s * (2 if grows else 1) or PAUSE_FIRST_S)
        self._until = now + self._pause_s
        self._trial_until = -inf
        self._tell()  # who waits for the end of a trial has another time to wait now

    def _fill(self, now: float) -> None:
        self._tokens = min(self._room, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now


def _put(targets: dict[str, None], target: str) -> None:
    """Keep a target among the latest."""
    targets.pop(target, None)
    targets[target] = None
    if len(targets) > _FAILING_MAX:
        del targets[next(iter(targets))]


class OriginGuards:
    """All of them, by host."""

    def __init__(self, origins: Sequence[OriginConfig], now: Callable[[], float], share: float = 1.0) -> None:
        self.all = [OriginGuard(origin, now, share) for origin in origins]
        self._by_rule = {guard.host: guard for guard in self.all}

    def of(self, host: str) -> OriginGuard | None:
        """Return the guard of a target's host; None: it has no ``[[origin]]``."""
        rule = rule_for(host, self._by_rule)
        return None if rule is None else self._by_rule[rule]


def rule_for(host: str, rules: Container[str]) -> str | None:
    """Return the most exact of *rules* that takes *host*, with any port: itself, ``*.…``, ``*``."""
    name = (
        host if host.endswith("]") else host.partition(":")[0] if host[:1] != "[" else host.rpartition(":")[0]
    )
    if name in rules:
        return name
    rest = name.partition(".")[2]
    while rest:
        if f"*.{rest}" in rules:
            return f"*.{rest}"
        rest = rest.partition(".")[2]
    return "*" if "*" in rules else None

"""Alerts: what an operator is told, as log lines and, where ``[alert]`` has a URL, as POSTs."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from loguru import logger

if TYPE_CHECKING:
    from engine.base.timer import Timer
    from engine.config.tables import AlertConfig
    from engine.notify.post import Poster
    from engine.observe.counters import Stats

Level = Literal["warning", "error", "resolved"]

ALERTS_WAITING_MAX = 100
ALERTS_KNOWN_MAX = 10_000  #: keys remembered to tell a repeated alert
ALERT_RATE_PER_S = 1.0
ALERT_BURST = 10.0
ALERT_ATTEMPTS_MAX = 8
_TIMER: Final = ("alert",)  #: a tuple, as the timer's other users have strings


class _Alert(msgspec.Struct):
    """The body of an alert."""

    key: str
    level: Level
    message: str
    facts: dict[str, str | int | float]
    time: float  #: UNIX seconds
    host: str
    repeated: int = 0  #: the same alert, not posted, since the last one
    suppressed: int = 0  #: other alerts that did not fit since the last one


class Alerts:
    """Posts alerts one at a time, at most `ALERT_RATE_PER_S`, each key's newest only.

    Args:
        config: where to; without a URL, alerts are log lines only.
        timer: for rate and retries.
        poster: shared with the callbacks.
        stats: counts ``alerts_sent``.
    """

    def __init__(self, config: AlertConfig, timer: Timer, poster: Poster, stats: Stats) -> None:
        self._config = config
        self._timer = timer
        self._poster = poster
        self._stats = stats
        self._host = socket.gethostname()
        self._waiting: dict[str, _Alert] = {}
        self._known: dict[str, tuple[str, float, int]] = {}  # key: level, when queued, times held back
        self._suppressed = 0
        self._attempt = 0
        self._left = ALERT_BURST
        self._filled_at = time.monotonic()
        self._sending: asyncio.Task[None] | None = None
        self._is_open = False

    def __len__(self) -> int:
        return len(self._waiting)

    def alert(self, key: str, level: Level, message: str, /, **facts: str | float) -> None:
        """Log *message*, and post it unless the same key and level was posted within ``repeat_s``.

        Args:
            key: what the alert is about, such as ``node/edge-1``; ``resolved`` ends it by the same key.
            level: ``warning``, ``error`` or ``resolved``.
            message: one sentence.
            facts: values to go with it.
        """
        logger.bind(**{**facts, "alert": key}).log(
            "INFO" if level == "resolved" else level.upper(), "{}", message
        )
        if not self._config.url:
            return
        now = time.monotonic()
        known_level, queued_at, repeated = self._known.get(key, ("", 0.0, 0))
        if known_level == level and now - queued_at < self._config.repeat_s:
            self._known[key] = (level, queued_at, repeated + 1)
            return
        if key not in self._waiting and len(self._waiting) >= ALERTS_WAITING_MAX:
            self._suppressed += 1
            return
        self._known.pop(key, None)
        self._known[key] = (level, now, 0)
        if len(self._known) > ALERTS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        repeated = repeated if known_level == level else 0
        self._waiting[key] = _Alert(key, level, message, facts, time.time(), self._host, repeated)
        self._pump()

    def start(self) -> None:
        """Begin to post."""
        self._is_open = True
        self._pump()

    def stop(self) -> set[asyncio.Task[None]]:
        """Post nothing more; return what is in flight."""
        self._is_open = False
        self._timer.cancel(_TIMER)
        return {self._sending} if self._sending else set()

    def _pump(self) -> None:
        if not self._is_open or self._sending or not self._waiting or self._attempt:
            return
        now = time.monotonic()
        self._left = min(ALERT_BURST, self._left + (now - self._filled_at) * ALERT_RATE_PER_S)
        self._filled_at = now
        if self._left < 1:
            self._timer.add(_TIMER, (1 - self._left) / ALERT_RATE_PER_S, self._pump)
            return
        self._left -= 1
        self._post()

    def _post(self) -> None:
        self._sending = asyncio.get_running_loop().create_task(self._send())
        self._sending.add_done_callback(self._finish)

    def _finish(self, _: asyncio.Task[None]) -> None:
        self._sending = None
        self._pump()

    async def _send(self) -> None:
        alert = next(iter(self._waiting.values()))
        alert.suppressed = self._suppressed
        answer = await self._poster.post(
            self._config.url, msgspec.json.encode(alert), self._config.secret, {}
        )
        self._attempt += 1
        if not answer.is_final and self._attempt < ALERT_ATTEMPTS_MAX:
            if self._is_open:
                self._timer.add(_TIMER, answer.pause_s(self._attempt), self._post)
            return
        self._attempt = 0
        if self._waiting.get(alert.key) is alert:
            del self._waiting[alert.key]
        if answer.is_delivered:
            self._suppressed -= alert.suppressed
            self._stats.alerts_sent += 1
        else:
            logger.bind(alert=alert.key, reason=answer.reason).warning("alert not delivered")

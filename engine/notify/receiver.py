"""Who receives alerts: one at a time, at most `RATE_PER_S`, of each key the newest, again when it fails."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.notify.formats import is_moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.base.timer import Timer
    from engine.notify.deliveries import Deliver
    from engine.notify.formats import Alert
    from engine.notify.post import Answer
    from engine.observe.counters import Stats

WAITING_MAX = 100
RATE_PER_S = 1.0
BURST: Final = 10.0
ATTEMPTS_MAX: Final = 8
HEARD_MAX: Final = 10_000


class Receiver:
    """One receiver, and what waits for it.

    Args:
        name: of the receiver, for the log.
        deliver: see `Deliver`.
        timer: for rate and retries.
        stats: counts ``alerts_sent``.
        keeps: tells whether an alert that waited is silenced by now, so that it is not sent.

    Attributes:
        name: its name.
    """

    def __init__(
        self,
        name: str,
        deliver: Deliver,
        timer: Timer,
        stats: Stats,
        keeps: Callable[[Alert], bool],
    ) -> None:
        self.name = name
        self._deliver = deliver
        self._timer = timer
        self._stats = stats
        self._keeps = keeps
        self._timed = ("alert", name)  # a tuple, as the timer's other users have strings
        self._waiting: dict[str, Alert] = {}
        self._no_news: set[str] = set()  # keys that wait, and are sent only if they are among `_heard`
        self._heard: dict[str, None] = {}  # keys of what it was told is on, or may have been
        self._in_flight = ""
        self._suppressed = 0
        self._attempt = 0
        self._left = BURST
        self._filled_at = time.monotonic()
        self._sending: asyncio.Task[None] | None = None
        self._is_open = False

    def __len__(self) -> int:
        return len(self._waiting)

    def has_heard(self, key: str) -> bool:
        """Tell whether the receiver was told that an alert is on, or is being told now."""
        return key in self._heard or key == self._in_flight

    def put(self, alert: Alert, *, is_news: bool = True) -> bool:
        """Have an alert sent; False: too many wait.

        Args:
            alert: this receiver's copy.
            is_news: False: an end, which is sent only if the receiver was told of the begin.
        """
        if alert.key not in self._waiting and len(self._waiting) >= WAITING_MAX:
            self._suppressed += 1
            return False
        self._waiting[alert.key] = alert
        if is_news:
            self._no_news.discard(alert.key)
        else:
            self._no_news.add(alert.key)
        self._pump()
        return True

    def start(self) -> None:
        """Begin to send."""
        self._is_open = True
        self._pump()

    def stop(self) -> set[asyncio.Task[None]]:
        """Send nothing more; return what is in flight."""
        self._is_open = False
        self._timer.cancel(self._timed)
        return {self._sending} if self._sending else set()

    def _pump(self) -> None:
        if not self._is_open or self._sending or not self._waiting or self._attempt:
            return
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._filled_at) * RATE_PER_S)
        self._filled_at = now
        if self._left < 1:
            self._timer.add(self._timed, (1 - self._left) / RATE_PER_S, self._pump)
            return
        self._left -= 1
        self._send_next()

    def _send_next(self) -> None:
        self._sending = asyncio.get_running_loop().create_task(self._send())
        self._sending.add_done_callback(self._finish)

    def _finish(self, _: asyncio.Task[None]) -> None:
        self._sending = None
        self._pump()

    async def _send(self) -> None:
        alert = next(iter(self._waiting.values()))
        if self._keeps(alert) or (alert.key in self._no_news and alert.key not in self._heard):
            self._attempt = 0
            del self._waiting[alert.key]
            self._no_news.discard(alert.key)
            return
        alert.suppressed = self._suppressed
        self._in_flight = alert.key
        try:
            answer = await self._deliver(alert)
        finally:
            self._in_flight = ""
        self._note(alert, answer)
        self._attempt += 1
        if not answer.is_final and self._attempt < ATTEMPTS_MAX:
            if self._is_open:
                self._timer.add(self._timed, answer.pause_s(self._attempt), self._send_next)
            return
        self._attempt = 0
        if self._waiting.get(alert.key) is alert:
            del self._waiting[alert.key]
            self._no_news.discard(alert.key)
        if answer.is_delivered:
            self._suppressed -= alert.suppressed
            self._stats.alerts_sent += 1
        else:
            logger.bind(alert=alert.key, reason=answer.reason, receiver=self.name).warning(
                "alert not delivered"
            )

    def _note(self, alert: Alert, answer: Answer) -> None:
        """Note what the receiver knows to be on; one whose answer was lost may have heard."""
        is_on = alert.level != "resolved" and not is_moment(alert.key)
        if is_on and (answer.is_delivered or not answer.is_final):
            self._heard[alert.key] = None
            if len(self._heard) > HEARD_MAX:
                del self._heard[next(iter(self._heard))]
        elif answer.is_delivered:
            self._heard.pop(alert.key, None)

"""Alerts: what an operator is told, as log lines and to the receivers of ``[alert]``."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Final

import msgspec
from loguru import logger

from engine.notify import formats
from engine.notify.deliveries import URL, deliveries
from engine.notify.formats import Alert, is_moment, moment
from engine.notify.receiver import Receiver
from engine.notify.silenced import Silenced

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.base.timer import Timer
    from engine.config.tables import AlertConfig
    from engine.notify.formats import Level
    from engine.notify.post import Poster
    from engine.observe.counters import Stats
    from engine.tasks.records import Silence

ALERTS_KNOWN_MAX = 10_000  #: keys remembered to tell a repeated alert
AGAIN_S: Final = 60.0  #: Alertmanager hears so often what goes on
_AGAIN: Final = ("alert", "again")


class _Known(msgspec.Struct):
    """What was said of a key last."""

    alert: Alert
    queued_at: float  #: the monotonic clock's
    repeated: int = 0


class Alerts:
    """Tells each receiver of what is new.

    Args:
        config: who receives them; without anybody, alerts are log lines only.
        timer: for rates and retries.
        poster: shared with the callbacks.
        stats: counts ``alerts_sent``.

    Attributes:
        silenced: what silences keep from being sent.
    """

    def __init__(self, config: AlertConfig, timer: Timer, poster: Poster, stats: Stats) -> None:
        self._config = config
        self._timer = timer
        self._poster = poster
        self._host = socket.gethostname()
        self._known: dict[str, _Known] = {}
        self._firing: dict[str, Alert] = {}  # what Alertmanager has to hear of again
        self.silenced = Silenced(timer, self._put_late)
        self._receivers = [
            Receiver(name, deliver, timer, stats, self._keeps)
            for name, deliver in deliveries(config, poster).items()
        ]
        self._repeating: asyncio.Task[None] | None = None
        self._is_open = False

    def __len__(self) -> int:
        return sum(map(len, self._receivers))

    def alert(self, key: str, level: Level, message: str, /, **facts: str | float) -> None:
        """Log *message*, and send it unless the same key and level was sent within ``repeat_s``.

        What is silenced is logged, with the silence, and not sent.

        Args:
            key: what the alert is about, such as ``node:edge-1``; ``resolved`` ends it by the same key.
            level: ``warning``, ``error`` or ``resolved``.
            message: one sentence.
            facts: values to go with it.
        """
        at = time.time()
        alert = Alert(key, level, message, facts, at, self._host, since=at)
        known = self._known.get(key)
        silence = self.silenced.take(alert, None if known is None else known.alert)
        named = {**facts, "alert": key} | ({} if silence is None else {"silenced": _said(silence)})
        logger.bind(**named).log("INFO" if level == "resolved" else level.upper(), "{}", message)
        if silence is not None:
            if level == "resolved":
                self._firing.pop(key, None)  # nothing is said of it, so it ends there by itself
            return
        if not self._receivers:
            return
        now = time.monotonic()
        if known is not None and known.alert.level == level and now - known.queued_at < self._config.repeat_s:
            known.repeated += 1
            return
        _compare(alert, known)
        self._put(alert)

    def silence(self, silences: Iterable[Silence]) -> None:
        """Do as *silences* say from now on."""
        told = [known.alert for known in self._known.values()]
        self.silenced.update(silences, told)

    def _put_late(self, alert: Alert, is_for_all: bool) -> None:
        """Have each receiver get an alert whose silence is over; an end not if nobody told it of a begin."""
        self._put(alert, is_news=is_for_all or alert.level != "resolved")

    def _put(self, alert: Alert, *, is_news: bool = True) -> None:
        """Have each receiver get an alert; see `Receiver.put`."""
        copies = [msgspec.structs.replace(alert) for _ in self._receivers]  # what did not fit differs
        pairs = zip(self._receivers, copies, strict=True)
        sent = [receiver.put(copy, is_news=is_news) for receiver, copy in pairs]
        if not any(sent):
            return
        self._known.pop(alert.key, None)
        self._known[alert.key] = _Known(alert, time.monotonic())
        if len(self._known) > ALERTS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._keep(alert)

    def _keeps(self, alert: Alert) -> bool:
        """Tell whether a silence has come before an alert was sent; it is as if it came now."""
        if not self.silenced.keeps(alert):
            return False
        if not any(one.name == URL and one.has_heard(alert.key) for one in self._receivers):
            self._firing.pop(alert.key, None)
        return True

    def start(self) -> None:
        """Begin to send."""
        self._is_open = True
        for receiver in self._receivers:
            receiver.start()
        self._keep_on()

    def stop(self) -> set[asyncio.Task[None]]:
        """Send nothing more; return what is in flight."""
        self._is_open = False
        self._timer.cancel(_AGAIN)
        self.silenced.close()
        tasks = {task for receiver in self._receivers for task in receiver.stop()}
        if self._repeating is not None and not self._repeating.done():
            tasks.add(self._repeating)
        return tasks

    # Alertmanager

    def _keep(self, alert: Alert) -> None:
        """Remember what Alertmanager has to hear of until it is over: it forgets what nobody repeats.

        It hears so of what it had been told before a silence, too: it would take it as over, and say so.
        """
        if self._config.format != "alertmanager":
            return
        self._firing.pop(alert.key, None)
        if alert.level == "resolved" or is_moment(alert.key):
            return
        self._firing[alert.key] = alert
        if len(self._firing) > ALERTS_KNOWN_MAX:
            del self._firing[next(iter(self._firing))]
        if len(self._firing) == 1:
            self._keep_on()

    def _keep_on(self) -> None:
        if self._is_open and self._firing:
            self._timer.add(_AGAIN, AGAIN_S, self._repeat)

    def _repeat(self) -> None:
        if self._firing and self._is_open:
            self._repeating = asyncio.get_running_loop().create_task(self._post_all())

    async def _post_all(self) -> None:
        """Say all that goes on once more; when that fails, the next time is soon enough."""
        body = formats.alertmanager(list(self._firing.values()), time.time())
        answer = await self._poster.post(self._config.url, body, self._config.secret, {})
        if not answer.is_delivered:
            logger.bind(reason=answer.reason).warning("alerts that go on were not said again")
        self._keep_on()


def _compare(alert: Alert, known: _Known | None) -> None:
    """Note what is new about an alert, beside what was said of its key last."""
    if known is None or known.alert.level == "resolved":
        alert.changed = "over" if alert.level == "resolved" else "new"
        return
    before = known.alert
    alert.since = before.since
    lasted = formats.span(alert.time - before.since)
    if alert.level == "resolved":
        alert.changed = f"over after {lasted}"
    elif before.level != alert.level:
        alert.changed = f"{before.level} before, {alert.level} now"
    else:
        alert.repeated = known.repeated
        again = f", said {known.repeated} more times" if known.repeated else ""
        other = f"; before: {before.message}" if before.message != alert.message else ""
        alert.changed = f"goes on for {lasted}{again}{other}"


def _said(silence: Silence) -> str:
    """Return what the log says of a silence."""
    return f"{silence.id}, by {silence.by} until {moment(silence.until)}: {silence.reason}"

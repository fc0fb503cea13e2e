"""Alerts: what an operator is told, as log lines and to the receivers of ``[alert]``."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Final

import msgspec
from loguru import logger

from engine.notify import formats
from engine.notify.formats import Alert
from engine.notify.receiver import Receiver

if TYPE_CHECKING:
    from engine.base.timer import Timer
    from engine.config.tables import AlertConfig
    from engine.notify.formats import Level
    from engine.notify.post import Answer, Poster
    from engine.observe.counters import Stats

ALERTS_KNOWN_MAX = 10_000  #: keys remembered to tell a repeated alert
AGAIN_S: Final = 60.0  #: Alertmanager hears so often what goes on
_AGAIN: Final = ("alert", "again")
_MOMENTS: Final = frozenset({"full", "htcp", "leader", "poison"})
"""Kinds of alerts that nothing resolves: they are about a moment."""
_MOMENTS_OF_STORE: Final = frozenset({"store:embedded", "store:emptied", "store:rows", "store:set-back"})


class _Known(msgspec.Struct):
    """What was said of a key last."""

    level: Level
    message: str
    since: float  #: UNIX seconds
    queued_at: float  #: the monotonic clock's
    repeated: int = 0


class Alerts:
    """Tells each receiver of what is new.

    Args:
        config: who receives them; without anybody, alerts are log lines only.
        timer: for rates and retries.
        poster: shared with the callbacks.
        stats: counts ``alerts_sent``.
    """

    def __init__(self, config: AlertConfig, timer: Timer, poster: Poster, stats: Stats) -> None:
        self._config = config
        self._timer = timer
        self._poster = poster
        self._host = socket.gethostname()
        self._known: dict[str, _Known] = {}
        self._firing: dict[str, Alert] = {}  # what Alertmanager has to hear of again
        self._receivers: list[Receiver] = []
        if config.url:
            self._receivers.append(Receiver("url", self._post, timer, stats))
        if config.mail_to:
            from engine.notify.mail import Mailer  # noqa: PLC0415 - most engines send none, and start without it

            self._receivers.append(Receiver("mail", Mailer(config).send, timer, stats))
        self._repeating: asyncio.Task[None] | None = None
        self._is_open = False

    def __len__(self) -> int:
        return sum(map(len, self._receivers))

    def alert(self, key: str, level: Level, message: str, /, **facts: str | float) -> None:
        """Log *message*, and send it unless the same key and level was sent within ``repeat_s``.

        Args:
            key: what the alert is about, such as ``node:edge-1``; ``resolved`` ends it by the same key.
            level: ``warning``, ``error`` or ``resolved``.
            message: one sentence.
            facts: values to go with it.
        """
        logger.bind(**{**facts, "alert": key}).log(
            "INFO" if level == "resolved" else level.upper(), "{}", message
        )
        if not self._receivers:
            return
        now = time.monotonic()
        known = self._known.get(key)
        if known is not None and known.level == level and now - known.queued_at < self._config.repeat_s:
            known.repeated += 1
            return
        alert = self._alert(key, level, message, facts, known)
        sent = [receiver.put(alert_for) for receiver, alert_for in self._copies(alert)]
        if not any(sent):
            return
        self._known.pop(key, None)
        since = alert.time if level == "resolved" else alert.since
        self._known[key] = _Known(level, message, since, now)
        if len(self._known) > ALERTS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._keep(alert)

    def _copies(self, alert: Alert) -> list[tuple[Receiver, Alert]]:
        """Return an alert for each receiver: what did not fit differs from one to the other."""
        return [(receiver, msgspec.structs.replace(alert)) for receiver in self._receivers]

    def _alert(
        self, key: str, level: Level, message: str, facts: dict[str, str | float], known: _Known | None
    ) -> Alert:
        now = time.time()
        goes_on = known is not None and known.level != "resolved"
        alert = Alert(key, level, message, facts, now, self._host, since=now)
        if known is None or not goes_on:
            alert.changed = "over" if level == "resolved" else "new"
            return alert
        alert.since = known.since
        lasted = formats.span(now - known.since)
        if level == "resolved":
            alert.changed = f"over after {lasted}"
        elif known.level != level:
            alert.changed = f"{known.level} before, {level} now"
        else:
            alert.repeated = known.repeated
            again = f", said {known.repeated} more times" if known.repeated else ""
            other = f"; before: {known.message}" if known.message != message else ""
            alert.changed = f"goes on for {lasted}{again}{other}"
        return alert

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
        tasks = {task for receiver in self._receivers for task in receiver.stop()}
        if self._repeating is not None and not self._repeating.done():
            tasks.add(self._repeating)
        return tasks

    # The webhook

    async def _post(self, alert: Alert) -> Answer:
        if self._config.format == "alertmanager":
            body = formats.alertmanager([alert], time.time())
        else:
            body = formats.slack(alert) if self._config.format == "slack" else formats.own(alert)
        return await self._poster.post(self._config.url, body, self._config.secret, {})

    def _keep(self, alert: Alert) -> None:
        """Remember what Alertmanager has to hear of until it is over: it forgets what nobody repeats."""
        if self._config.format != "alertmanager":
            return
        self._firing.pop(alert.key, None)
        is_moment = alert.key.partition(":")[0] in _MOMENTS or alert.key in _MOMENTS_OF_STORE
        if alert.level == "resolved" or is_moment:
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

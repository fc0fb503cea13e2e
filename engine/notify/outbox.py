"""The outbox: what the engine says on its own, callbacks to clients and alerts to operators."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.notify.alerts import Alerts
from engine.notify.callbacks import Callbacks
from engine.notify.post import Poster
from engine.notify.rules import CallbackRules

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.base.timer import Timer
    from engine.config.tables import AlertConfig, CallbackConfig
    from engine.notify.callbacks import CallbackJob
    from engine.observe.counters import Stats


class Outbox:
    """Callbacks and alerts, sent over one session. Belongs to the loop's thread.

    Args:
        rules: hosts that callbacks may go to, and their secrets.
        alert: where alerts go.
        timer: for the retries.
        on_settled: told each callback once, with whether it was delivered; not for what `drain` leaves.
        stats: counts ``callbacks_sent``, ``callbacks_failed`` and ``alerts_sent``.
        attempts_max: attempts before a callback is given up.

    Attributes:
        allows: see `CallbackRules.allows`.
        alert: see `Alerts.alert`.
        silence: see `Alerts.silence`.
        silenced: see `Alerts.silenced`.
    """

    def __init__(
        self,
        rules: list[CallbackConfig],
        alert: AlertConfig,
        timer: Timer,
        *,
        on_settled: Callable[[CallbackJob, bool], None],
        stats: Stats,
        attempts_max: int = 8,
    ) -> None:
        self._poster = Poster()
        allowed = CallbackRules(rules)
        self._callbacks = Callbacks(
            allowed, timer, self._poster, on_settled=on_settled, stats=stats, attempts_max=attempts_max
        )
        self._alerts = Alerts(alert, timer, self._poster, stats)
        self.allows = allowed.allows
        self.alert = self._alerts.alert
        self.silence = self._alerts.silence
        self.silenced = self._alerts.silenced
        self.add = self._callbacks.add
        self.waiting = self._callbacks.waiting
        self.of_task = self._callbacks.of_task
        self.told_of = self._callbacks.told_of
        self.forget = self._callbacks.forget

    def __len__(self) -> int:
        """Return how many callbacks are not over."""
        return len(self._callbacks)

    @property
    def alerts_waiting(self) -> int:
        """Alerts that wait for their POST."""
        return len(self._alerts)

    async def start(self) -> None:
        """Begin to send; callbacks and alerts may have been added before."""
        self._poster.start()
        self._callbacks.start()
        self._alerts.start()

    async def drain(self, timeout_s: float) -> None:
        """Let what is in flight finish, for at most that many seconds; the rest stays unsettled."""
        running = self._callbacks.stop() | self._alerts.stop()
        if running:
            _, late = await asyncio.wait(running, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._poster.close()

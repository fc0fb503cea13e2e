"""How the queues of the statistics document are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.delivery.parts import Delivery
    from engine.intake.gate import Gate
    from engine.process.core import Core


def register_gauges(core: Core, delivery: Delivery, gate: Gate) -> None:
    """Say where each is read.

    Raises:
        KeyError: one of the document's has no source.
    """
    stats = core.stats
    stats.gauge("alert_queue", lambda: core.outbox.alerts_waiting)
    stats.gauge("input_task_queue", lambda: len(delivery.dispatch.inbox))
    stats.gauge("notify_queue", lambda: len(core.outbox))
    stats.gauge("pushing_queue", lambda: delivery.load.live)
    stats.gauge("reporting_queue", lambda: delivery.late.unfolded)
    stats.gauge("saver_queue", lambda: len(core.savers))
    stats.gauge("tasks_in_cache", lambda: len(core.regions))
    stats.gauge("timer_tasks", lambda: len(core.dues))
    stats.gauge("delayed", delivery.queues.total)
    stats.gauge("connections", lambda: len(gate.connections))
    stats.check()

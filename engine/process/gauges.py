"""How the queues of the statistics document are read."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.intake.client import HTTP

if TYPE_CHECKING:
    from engine.cluster.cluster import Cluster
    from engine.delivery.parts import Delivery
    from engine.intake.gate import Gate
    from engine.process.core import Core


def register_gauges(core: Core, delivery: Delivery, gate: Gate, cluster: Cluster | None) -> None:
    """Say where each is read, and have savers, port and cluster count what they measure.

    Raises:
        KeyError: one of the document's has no source.
    """
    stats = core.stats
    gate.count_in(stats.responses_of(HTTP))
    gate.lags = stats.loop_lag_s
    for saver in core.savers.savers:
        saver.commit_times, saver.start_times = stats.commit_s, stats.gil_wait_s
    stats.gauge("store_failing", lambda: core.savers.error is not None)
    if cluster is None:
        stats.slow_sources["store_bytes"] = partial(_bytes_of, Path(core.config.engine.data_dir))
    else:
        stats.redis_beat_s = cluster.beat_times
        stats.gauge("redis_up", lambda: cluster.is_seen)
        stats.gauge("redis_silence_seconds", lambda: cluster.silence_s)
        stats.gauge("redis_replicas", lambda: cluster.replica_count)
        stats.gauge("redis_used_memory_bytes", lambda: cluster.used_memory)
    stats.gauge("alert_queue", lambda: core.outbox.alerts_waiting)
    stats.gauge("input_task_queue", lambda: len(delivery.dispatch.inbox))
    stats.gauge("notify_queue", lambda: len(core.outbox))
    stats.gauge("pushing_queue", lambda: delivery.load.live)
    stats.gauge("reporting_queue", lambda: delivery.late.unfolded)
    stats.gauge("saver_queue", lambda: len(core.savers))
    stats.gauge("tasks_in_cache", lambda: len(core.regions))
    stats.gauge("timer_tasks", lambda: len(core.dues))
    stats.gauge("alerts_silenced", lambda: len(core.outbox.silenced))
    stats.gauge("delayed", delivery.queues.total)
    stats.gauge("connections", lambda: len(gate.connections))
    stats.check()


def _bytes_of(folder: Path) -> float:
    """Return how long the files of an embedded store are: all workers' and the history's, too."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # a WAL may go meanwhile
                total += entry.stat().st_size if ".db" in entry.name else 0
    return total

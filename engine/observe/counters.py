"""Counters, meters and histograms; the statistics document and the Prometheus page made of them.

The engine counts by plain ``stats.tasks_done += 1`` on the loop's thread, so nothing here locks.
Everything derived (rates, cumulative buckets, text) is worked out when somebody asks.
Measured (CPython 3.11): `Meter.mark` and `Histogram.observe` 0.3 µs, a counter 0.1 µs.
"""

from __future__ import annotations

import math
import platform
import re
import time
from bisect import bisect_left
from collections.abc import Callable  # noqa: TC003 - msgspec resolves the annotations of `Stats`
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any, get_origin

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric

TICK_S = 5.0  #: go-metrics' tick
_ALPHAS = {f"{minutes}m": 1 - math.exp(-TICK_S / 60 / minutes) for minutes in (1, 5, 15)}

#: Upper bounds in seconds, inclusive: from an fsync to a task that ran into its due time.
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

#: Queue lengths of the statistics document; each needs a `Stats.gauge`.
GAUGES = {
    "alert_queue": "Alerts waiting to be posted",
    "input_task_queue": "Tasks stored and not yet expanded",
    "notify_queue": "Callbacks waiting or in flight",
    "pushing_queue": "Subtasks waiting or in flight",
    "reporting_queue": "Answers not yet folded into their task",
    "saver_queue": "Records waiting for a saver",
    "tasks_in_cache": "Tasks in the region map",
    "timer_tasks": "Running due timers",
}


class Meter:
    """A rate as go-metrics has it: EWMAs over 1, 5 and 15 minutes, ticked every 5 s.

    The first tick sets the rates to its own rate, the later ones move them. Ticks are caught up when
    somebody marks or looks, with the result a ticker would have had.

    Args:
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_is_ticked", "_next_tick", "_rates", "_start", "_uncounted", "count")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._next_tick = self._start + TICK_S
        self._rates = dict.fromkeys(_ALPHAS, 0.0)
        self._is_ticked = False
        self._uncounted = 0
        self.count = 0

    def mark(self, n: int = 1) -> None:
        """Count *n* events now."""
        if self._clock() >= self._next_tick:
            self._tick()
        self.count += n
        self._uncounted += n

    def snapshot(self) -> dict[str, float]:
        """Return events per second as ``1m``, ``5m``, ``15m`` and ``avg``, and ``count``."""
        now = self._clock()
        if now >= self._next_tick:
            self._tick()
        elapsed_s = now - self._start
        return {**self._rates, "avg": self.count / elapsed_s if elapsed_s > 0 else 0.0, "count": self.count}

    def _tick(self) -> None:
        ticks = 1 + int((self._clock() - self._next_tick) / TICK_S)
        instant = self._uncounted / TICK_S
        for name, alpha in _ALPHAS.items():
            rate = self._rates[name]
            rate = rate + alpha * (instant - rate) if self._is_ticked else instant
            self._rates[name] = rate * (1 - alpha) ** (ticks - 1)  # nothing came in the further ticks
        self._is_ticked = True
        self._uncounted = 0
        self._next_tick += ticks * TICK_S


class Histogram:
    """How many durations fell into each of `BUCKETS_S`, the last count being beyond them all."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, duration_s: float) -> None:
        """Count one duration, in seconds."""
        self.counts[bisect_left(BUCKETS_S, duration_s)] += 1
        self.sum_s += duration_s

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts by upper bound, as Prometheus wants them."""
        return list(zip([*map(repr, map(float, BUCKETS_S)), "+Inf"], accumulate(self.counts), strict=True))


class Stats(msgspec.Struct, eq=False):
    """What the engine counts; the annotated ints are the counters, with the help text Prometheus shows.

    Attributes:
        qps_boss: targets taken in.
        qps_proxy: requests answered by caches.
        accept_s: from a validated task to its 202.
        task_s: from accept to the task's settling.
        node_s: the oldest request on the wire, at each read of answers, by node; see `node_histogram`.
        sources: how each gauge is read; see `gauge`.
    """

    tasks_accepted: Annotated[int, "Tasks answered with 202"] = 0
    tasks_replayed: Annotated[int, "Tasks answered with 200, seen before"] = 0
    tasks_done: Annotated[int, "Tasks with every subtask acked"] = 0
    tasks_failed: Annotated[int, "Tasks that failed"] = 0
    tasks_cancelled: Annotated[int, "Tasks cancelled by a client"] = 0
    tasks_partial: Annotated[int, "Tasks with subtasks undelivered at their due time"] = 0
    requests: Annotated[int, "Requests of clients"] = 0
    requests_failed: Annotated[int, "Requests answered 5xx for an error of the engine or its store"] = 0
    requests_refused: Annotated[int, "Requests refused as the client's error"] = 0
    requests_limited: Annotated[int, "Requests over their token's rate"] = 0
    requests_unavailable: Annotated[int, "Requests answered with 503"] = 0
    subtasks_acked: Annotated[int, "Subtasks a cache did"] = 0
    subtasks_absent: Annotated[int, "Subtasks whose target was not cached"] = 0
    subtasks_refused: Annotated[int, "Subtasks a cache refused"] = 0
    subtasks_failed: Annotated[int, "Subtasks given up"] = 0
    subtasks_retried: Annotated[int, "Attempts after the first"] = 0
    subtasks_delayed: Annotated[int, "Subtasks put into a delay queue"] = 0
    subtasks_redelivered: Annotated[int, "Subtasks delivered out of a delay queue"] = 0
    coalesced: Annotated[int, "Subtasks settled by the request of another"] = 0
    prefetched_bytes: Annotated[int, "Bytes drained by prefetches"] = 0
    store_errors: Annotated[int, "Failed reads or writes of the store"] = 0
    log_lines_dropped: Annotated[int, "Log lines dropped, the writer being blocked or broken"] = 0
    callbacks_sent: Annotated[int, "Callbacks delivered"] = 0
    callbacks_failed: Annotated[int, "Callbacks given up"] = 0
    alerts_sent: Annotated[int, "Alerts delivered"] = 0
    qps_boss: Meter = msgspec.field(default_factory=Meter)
    qps_proxy: Meter = msgspec.field(default_factory=Meter)
    accept_s: Histogram = msgspec.field(default_factory=Histogram)
    task_s: Histogram = msgspec.field(default_factory=Histogram)
    node_s: dict[str, Histogram] = {}
    sources: dict[str, Callable[[], float]] = {}

    def node_histogram(self, node: str) -> Histogram:
        """Return the node's histogram, made at the first call; keep it, not its name."""
        return self.node_s.setdefault(node, Histogram())

    def gauge(self, name: str, fn: Callable[[], float]) -> None:
        """Say how to read the gauge *name*: one of `GAUGES`, or a further one for Prometheus only."""
        self.sources[name] = fn

    def check(self) -> None:
        """See at the start that the document is complete.

        Raises:
            KeyError: names the gauges nobody registered.
        """
        if missing := sorted(GAUGES.keys() - self.sources.keys()):
            raise KeyError(f"gauges without a source: {', '.join(missing)}")

    def document(self) -> dict[str, Any]:
        """Return the body of ``GET /v1/engine/stats``; ``timestamp`` is UNIX seconds.

        Raises:
            KeyError: a gauge has no source; `check` finds that at the start.
        """
        document: dict[str, Any] = {name: self.sources[name]() for name in GAUGES}
        document["qps_boss"] = self.qps_boss.snapshot()
        document["qps_proxy"] = self.qps_proxy.snapshot()
        document["timestamp"] = int(time.time())
        return document


class NodeSample(msgspec.Struct, frozen=True):
    """One node at the moment of a scrape."""

    node: str
    layer: str
    driver: str
    ready: Annotated[bool, "Whether the node takes subtasks"]
    waiting: Annotated[int, "Subtasks queued for the node"]
    in_flight: Annotated[int, "Subtasks on the wire to the node"]
    delayed: Annotated[int, "Subtasks in the node's delay queue"]
    oldest_delayed_s: Annotated[float, "Age of the oldest delayed subtask, 0 without one"]
    returns: Annotated[int, "Times the node was ready again after its delay queue was delivered"]


def _texts(kind: type[msgspec.Struct]) -> dict[str, str]:
    fields = msgspec.structs.fields(kind)
    return {field.name: field.type.__metadata__[0] for field in fields if get_origin(field.type) is Annotated}


COUNTERS = _texts(Stats)  #: name of each counter, and what it counts
_NODE_VALUES = _texts(NodeSample)
_NODE_COUNTERS = frozenset({"returns"})


class EngineCollector(Collector):
    """The Prometheus page: everything of a `Stats`, the nodes and this process.

    Args:
        stats: read at each scrape, on the caller's thread.
        version: of the engine.
        revision: commit it was built from.
        nodes: gives one sample per node.
    """

    def __init__(
        self, stats: Stats, version: str, revision: str, nodes: Callable[[], Iterable[NodeSample]]
    ) -> None:
        self._stats = stats
        self._build = [version, revision, platform.python_version()]
        self._nodes = nodes
        # Private: the default registry is global, and a second engine in one process would clash.
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """Return the page, in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; called by the registry."""
        yield _labelled("build_info", "What runs here", ["version", "revision", "python"], [(self._build, 1)])
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"purgeline_{name}", text, value=getattr(self._stats, name))
        boss, proxy = self._stats.qps_boss.count, self._stats.qps_proxy.count
        yield CounterMetricFamily("purgeline_targets", "Targets taken in (qps_boss)", value=boss)
        yield CounterMetricFamily("purgeline_answers", "Requests answered by caches (qps_proxy)", value=proxy)
        for name, read in self._stats.sources.items():
            yield GaugeMetricFamily(f"purgeline_{name}", GAUGES.get(name, name), value=read())
        yield from self._histograms()
        samples = [([node.node, node.layer, node.driver], node) for node in self._nodes()]
        for name, text in _NODE_VALUES.items():
            values = [(labels, getattr(node, name)) for labels, node in samples]
            metric = re.sub("_s$", "_seconds", name)
            kind = CounterMetricFamily if name in _NODE_COUNTERS else GaugeMetricFamily
            yield _labelled(f"node_{metric}", text, ["node", "layer", "driver"], values, kind)

    def _histograms(self) -> Iterator[Metric]:
        accept, task = self._stats.accept_s, self._stats.task_s
        for name, text, labels, histograms in (
            ("accept", "From a validated task to its 202", [], {"": accept}),
            ("task", "From accept to settling", [], {"": task}),
            ("node", "The oldest request on the wire, at each read of answers", ["node"], self._stats.node_s),
        ):
            family = HistogramMetricFamily(f"purgeline_{name}_seconds", text, labels=labels)
            for label, histogram in histograms.items():
                family.add_metric([label] if labels else [], histogram.buckets(), histogram.sum_s)
            yield family


def _labelled(
    name: str,
    text: str,
    labels: list[str],
    values: list[tuple[list[str], float]],
    kind: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily,
) -> Metric:
    family = kind(f"purgeline_{name}", text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family

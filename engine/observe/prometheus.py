"""The Prometheus page: counters, gauges, histograms, the nodes and this process.

`prometheus_client` brings two servers of HTTP. It is imported by the thread that makes the first page: a
start does without.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping  # noqa: TC003 - msgspec resolves the annotations
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from engine.observe.counters import COUNTERS, FURTHER_GAUGES, GAUGES, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from engine.observe.counters import Stats
    from engine.observe.meters import Histogram


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
    unproven: Annotated[bool, "Whether nothing shows that the node itself answers purges"] = False
    paused: Annotated[bool, "Whether an operator paused the node"] = False
    refusing: Annotated[bool, "Whether the node refuses something that waits for it"] = False
    acked: Annotated[int, "Requests the node did"] = 0
    absent: Annotated[int, "Requests the node did, having nothing of the target"] = 0
    refused: Annotated[int, "Requests the node refused"] = 0
    failed: Annotated[int, "Requests the node failed, and will fail"] = 0
    retried: Annotated[int, "Requests to the node that went wrong and were tried again"] = 0
    canary_stale: Annotated[bool | None, "Whether the last canary was purged and served on"] = None
    canary_timestamp_s: Annotated[float | None, "When the last canary was tried, UNIX time"] = None


class LeavesSample(msgspec.Struct, frozen=True):
    """The leaves below one node that is an engine, at the moment of a scrape."""

    region: str
    states: Mapping[str, int]
    delayed: int
    learned_at: float


LEAF_STATES: Final = (
    *("ready", "catching_up", "refusing", "unproven", "sick", "down", "paused", "gone", "unknown"),
)
"""Each has a sample, so that none stays when the last leaf has left it."""

REDIS_DOOR_GAUGES: Final = {
    "up": "Whether a worker reads it; 0 where one does not",
    "pending": "Entries that were delivered and are not acknowledged",
    "lag": "Entries that were not delivered yet",
    "oldest_pending_seconds": "Age of the oldest pending entry, 0 without one",
}
"""What is told of each stream of a door, and whether its channels are listened to."""

_NODE_VALUES = texts(NodeSample)
_NODE_COUNTERS = frozenset({"returns", "acked", "absent", "refused", "failed", "retried"})
_GAUGE_TEXTS = GAUGES | FURTHER_GAUGES


class EngineCollector:
    """Makes Prometheus pages: everything of a `Stats`, the nodes and this process.

    Args:
        stats: read at each scrape, on the caller's thread.
        version: of the engine.
        revision: commit it was built from.
        nodes: gives one sample per node.
        leaves: gives one per node that is an engine.
    """

    def __init__(
        self,
        stats: Stats,
        version: str,
        revision: str,
        nodes: Callable[[], Iterable[NodeSample]],
        leaves: Callable[[], Iterable[LeavesSample]] = tuple,
    ) -> None:
        self._stats = stats
        self._build = [version, revision, platform.python_version()]
        self._nodes = nodes
        self._leaves = leaves

    def read(self) -> Scrape:
        """Return what a page tells, as it is now. That of 1,000 nodes is read in some 10 ms."""
        return Scrape(self._build, self._stats, list(self._nodes()), list(self._leaves()))


class Scrape:
    """What one page tells. It changes no more, so any thread may make the page: of 1,000 nodes that is long.

    Args:
        build: version, revision, version of Python.
        stats: read now.
        nodes: a sample of each.
        leaves: a sample of each that is an engine.
    """

    def __init__(
        self, build: list[str], stats: Stats, nodes: list[NodeSample], leaves: list[LeavesSample]
    ) -> None:
        self._build = build
        self._counters = [(name, text, float(getattr(stats, name))) for name, text in COUNTERS.items()]
        self._counters += [
            ("targets", "Targets taken in (qps_boss)", stats.qps_boss.count),
            ("answers", "Requests answered by caches (qps_proxy)", stats.qps_proxy.count),
        ]
        self._gauges = [
            (name, _GAUGE_TEXTS[name], float(value))
            for name, read in stats.sources.items()
            if (value := read()) is not None
        ]
        self._slow_sources = list(stats.slow_sources.items())
        self._histograms = _histograms_of(stats)
        self._stale = [(list(labels), float(count)) for labels, count in stats.canary_stale.items()]
        self._canaries = [(list(labels), float(count)) for labels, count in stats.canaries.items()]
        self._responses = [
            ([door, str(status)], float(count))
            for door, counts in stats.responses.items()
            for status, count in counts.items()
        ]
        self._datagrams = [([outcome], float(count)) for outcome, count in stats.datagrams.items()]
        self._samples = nodes
        self._leaves = leaves
        self._redis_entries = [(list(labels), float(count)) for labels, count in stats.redis_entries.items()]
        self._redis_doors = [(list(labels), dict(values)) for labels, values in stats.redis_doors.items()]

    def page(self) -> bytes:
        """Return the page, in Prometheus' text format 0.0.4."""
        from prometheus_client import generate_latest  # noqa: PLC0415 - see above

        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; `generate_latest` takes this for a registry."""
        from prometheus_client import ProcessCollector  # noqa: PLC0415 - as above
        from prometheus_client.core import (  # noqa: PLC0415 - as above
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        yield from ProcessCollector(registry=None).collect()
        yield _labelled("build_info", "What runs here", ["version", "revision", "python"], [(self._build, 1)])
        for name, text, value in self._counters:
            yield CounterMetricFamily(f"purgeline_{name}", text, value=value)
        for name, text, value in self._gauges:
            yield GaugeMetricFamily(f"purgeline_{name}", text, value=value)
        for name, read in self._slow_sources:
            yield GaugeMetricFamily(f"purgeline_{name}", _GAUGE_TEXTS[name], value=read())
        for name, text, labels, histograms in self._histograms:
            family = HistogramMetricFamily(f"purgeline_{name}_seconds", text, labels=labels)
            for label_values, histogram in histograms:
                family.add_metric(label_values, histogram.buckets(), histogram.sum_s)
            yield family
        text = "Canaries whose purge was acked and that were served on"
        yield _labelled("canary_stale", text, ["node", "kind"], self._stale, is_counter=True)
        text = "Canaries by what they showed"
        yield _labelled("canaries", text, ["node", "state"], self._canaries, is_counter=True)
        text = "Answers to requests, by the door that they came in by"
        yield _labelled("responses", text, ["door", "status"], self._responses, is_counter=True)
        text = "Datagrams that doors took, by what became of them"
        yield _labelled("datagrams", text, ["outcome"], self._datagrams, is_counter=True)
        yield from self._of_redis_doors()
        samples = [([node.node, node.layer, node.driver], node) for node in self._samples]
        for name, text in _NODE_VALUES.items():
            values = [
                (labels, value) for labels, node in samples if (value := getattr(node, name)) is not None
            ]
            metric = re.sub("_s$", "_seconds", name)
            is_counter = name in _NODE_COUNTERS
            labels = ["node", "layer", "driver"]
            yield _labelled(f"node_{metric}", text, labels, values, is_counter=is_counter)
        yield from self._of_leaves()

    def _of_leaves(self) -> Iterator[Metric]:
        """Yield what nodes that are engines tell of theirs; nothing where there are none."""
        if not self._leaves:
            return
        text = "Nodes below a node that is an engine, by state, as it told last"
        counts = [
            ([each.region, state], float(each.states.get(state, 0)))
            for each in self._leaves
            for state in LEAF_STATES
        ]
        yield _labelled("leaves", text, ["region", "state"], counts)
        delayed = [([each.region], float(each.delayed)) for each in self._leaves]
        yield _labelled("leaves_delayed", "Subtasks in the delay queues of these", ["region"], delayed)
        learned = [([each.region], each.learned_at) for each in self._leaves]
        text = "When a node that is an engine told of its leaves, UNIX time, 0 before it has"
        yield _labelled("leaves_learned_timestamp_seconds", text, ["region"], learned)

    def _of_redis_doors(self) -> Iterator[Metric]:
        """Yield what doors that read a Redis tell; nothing where there is none."""
        if not self._redis_doors:
            return
        place = ["redis", "source"]
        text = "What became of entries of streams, and of messages on channels"
        entries = self._redis_entries
        yield _labelled("redis_door_entries", text, [*place, "outcome"], entries, is_counter=True)
        for name, text in REDIS_DOOR_GAUGES.items():
            values = [(labels, each[name]) for labels, each in self._redis_doors if name in each]
            yield _labelled(f"redis_door_{name}", text, place, values)


def _histograms_of(stats: Stats) -> list[tuple[str, str, list[str], list[tuple[list[str], Histogram]]]]:
    """Return name, text, labels, and by the labels' values the histograms as they are now."""
    gil_text = "From handing a batch to its saver's thread until it runs: its wait for the GIL and a CPU"
    canary_text = "From the purge of a canary to the first visit that got the new one"
    by_label: list[tuple[str, str, list[str], Mapping[tuple[str, ...], Histogram]]] = [
        ("accept", "From a validated task to its 202", [], {(): stats.accept_s}),
        ("task", "From accept to settling", [], {(): stats.task_s}),
        ("node", "The oldest request on the wire, at each read of answers", ["node"], _by(stats.node_s)),
        ("fresh", "From a task's POST until visitors of a layer get it", ["layer"], _by(stats.fresh_s)),
        ("canary_fresh", canary_text, ["node", "kind"], stats.canary_fresh_s),
        ("commit", "How long a saver took to write a batch", [], {(): stats.commit_s}),
        ("gil_wait", gil_text, [], {(): stats.gil_wait_s}),
        ("loop_lag", "How late a timer of the event loop was, once a second", [], {(): stats.loop_lag_s}),
    ]
    if stats.redis_beat_s is not None:
        text = "How long Redis took to answer an engine's beat"
        by_label.append(("redis_beat", text, [], {(): stats.redis_beat_s}))
    return [
        (name, text, labels, [(list(values), histogram.copy()) for values, histogram in histograms.items()])
        for name, text, labels, histograms in by_label
    ]


def _by(histograms: Mapping[str, Histogram]) -> dict[tuple[str, ...], Histogram]:
    """Return histograms by the values of their labels, of which there is one."""
    return {(label,): histogram for label, histogram in histograms.items()}


def _labelled(
    name: str,
    text: str,
    labels: list[str],
    values: list[tuple[list[str], float]],
    *,
    is_counter: bool = False,
) -> Metric:
    """Return a family with these values, of counters or of gauges."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 - as above

    kind = CounterMetricFamily if is_counter else GaugeMetricFamily
    family = kind(f"purgeline_{name}", text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family

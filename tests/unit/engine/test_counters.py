"""Counters, meters, the statistics document and the Prometheus page."""

from __future__ import annotations

import math
import platform
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.observe.counters import COUNTERS, GAUGES, EngineCollector, Histogram, Meter, NodeSample, Stats

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_meter_follows_go_metrics() -> None:
    """go-metrics' own numbers: 3 events in the first tick, then a minute of silence at a time."""
    clock = Clock()
    meter = Meter(clock)
    meter.mark(3)
    clock.now += 5
    assert meter.snapshot()["1m"] == pytest.approx(0.6)
    expected = [0.22072766470286553, 0.08120117, 0.02987224, 0.01098938]
    for rate in expected:
        clock.now += 60
        assert meter.snapshot()["1m"] == pytest.approx(rate, rel=1e-6)


def test_meter_5m_and_15m_follow_go_metrics() -> None:
    """After one minute of silence, as in go-metrics' ewma_test.go."""
    clock = Clock()
    meter = Meter(clock)
    meter.mark(3)
    clock.now += 65
    assert meter.snapshot()["5m"] == pytest.approx(0.49123845184678905)
    assert meter.snapshot()["15m"] == pytest.approx(0.5613041910189706)


def test_meter_caught_up_lazily_is_meter_ticked_on_time() -> None:
    """Whether somebody looks at every tick or only at the end makes no difference."""
    clock = Clock()
    watched, lazy = Meter(clock), Meter(clock)
    for step in range(200):
        for meter in (watched, lazy):
            meter.mark(step % 7)
        clock.now += 1.3 if step % 50 else 40
        watched.snapshot()
    expected = watched.snapshot()
    assert lazy.snapshot() == pytest.approx(expected)
    assert expected["count"] == sum(step % 7 for step in range(200))


def test_meter_average_and_a_fresh_meter() -> None:
    """The average is over the meter's life; without any life it is 0, not a division by zero."""
    clock = Clock()
    meter = Meter(clock)
    assert meter.snapshot() == {"1m": 0.0, "5m": 0.0, "15m": 0.0, "avg": 0.0, "count": 0}
    meter.mark(10)
    clock.now += 4
    assert meter.snapshot() == {"1m": 0.0, "5m": 0.0, "15m": 0.0, "avg": 2.5, "count": 10}


def test_meter_silent_for_a_year_costs_nothing() -> None:
    """Catching up is one step, however long nobody asked."""
    clock = Clock()
    meter = Meter(clock)
    meter.mark()
    clock.now += 365 * 86400
    start = time.perf_counter()
    assert meter.snapshot()["15m"] == pytest.approx(0)
    assert time.perf_counter() - start < 1


def test_histogram_bounds_are_inclusive_and_cumulative() -> None:
    """As Prometheus' ``le``: a value equal to a bound counts into it."""
    histogram = Histogram()
    for duration in (0.001, 0.0011, 1000.0):
        histogram.observe(duration)
    buckets = dict(histogram.buckets())
    assert buckets["0.001"] == 1
    assert buckets["0.0025"] == 2
    assert buckets["300.0"] == 2
    assert buckets["+Inf"] == 3
    assert math.isclose(histogram.sum_s, 1000.0021)


def test_counters_start_at_zero_and_nothing_else_fits() -> None:
    """A misspelt counter is an error, not a new attribute."""
    stats = Stats()
    assert len(COUNTERS) == 25
    assert all(getattr(stats, name) == 0 and text for name, text in COUNTERS.items())
    stats.tasks_done += 2
    assert stats.tasks_done == 2
    assert Stats().tasks_done == 0
    with pytest.raises(AttributeError):
        stats.task_done = 1  # type: ignore[attr-defined]


def with_gauges(stats: Stats) -> Stats:
    for number, name in enumerate(GAUGES):
        stats.gauge(name, lambda number=number: number)  # type: ignore[misc]
    return stats


def test_document_has_exactly_the_keys_of_the_design() -> None:
    """Other tools rely on these names."""
    stats = with_gauges(Stats())
    stats.gauge("connections", lambda: 5)
    stats.check()
    document = stats.document()
    assert set(document) == {
        "alert_queue", "input_task_queue", "notify_queue", "pushing_queue", "reporting_queue", "saver_queue",
        "tasks_in_cache", "timer_tasks", "timestamp", "qps_boss", "qps_proxy",
    }  # fmt: skip
    assert set(document["qps_boss"]) == {"1m", "5m", "15m", "avg", "count"}
    assert abs(document["timestamp"] - time.time()) < 5
    assert document["timer_tasks"] == 7


def test_missing_gauge_is_an_error_not_a_zero() -> None:
    """`check` names every missing one at the start; the document would not invent a 0 either."""
    stats = Stats()
    stats.gauge("saver_queue", lambda: 0)
    with pytest.raises(KeyError, match=r"alert_queue.*timer_tasks"):
        stats.check()
    with pytest.raises(KeyError):
        stats.document()


def scrape(page: bytes) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(page.decode())}


def test_page_parses_and_holds_everything() -> None:
    """Prometheus' own parser reads the page back."""
    stats = with_gauges(Stats())
    stats.gauge("connections", lambda: 5)
    stats.tasks_accepted += 3
    stats.qps_boss.mark(12)
    stats.accept_s.observe(0.002)
    stats.node_histogram("edge-1").observe(0.2)
    nodes = [NodeSample('ed"ge\n1', "edge", "varnish", True, 1, 2, 3, 4.5, 6)]
    page = EngineCollector(stats, "1.4.2", "abc123", lambda: nodes).render()
    metrics = scrape(page)
    values = {sample.name: sample.value for family in metrics.values() for sample in family.samples}
    assert values["purgeline_tasks_accepted_total"] == 3
    assert values["purgeline_targets_total"] == 12
    assert values["purgeline_connections"] == 5
    assert values["purgeline_timer_tasks"] == 7
    assert values["purgeline_accept_seconds_count"] == 1
    assert values["purgeline_accept_seconds_sum"] == 0.002
    assert {f"purgeline_{name}" for name in COUNTERS} < set(metrics)
    assert metrics["purgeline_node_seconds"].samples[0].labels["node"] == "edge-1"
    build = metrics["purgeline_build_info"].samples[0].labels
    assert build == {"version": "1.4.2", "revision": "abc123", "python": platform.python_version()}
    assert values["process_open_fds"] > 0


def test_page_has_the_node_gauges() -> None:
    """One sample per node and gauge, odd names escaped; read anew at each scrape."""
    nodes = [NodeSample('ed"ge\n1', "edge", "varnish", True, 1, 2, 3, 4.5, 6)]
    collector = EngineCollector(with_gauges(Stats()), "1", "r", lambda: nodes)
    nodes.append(NodeSample("p", "parent", "ats", False, 0, 0, 0, 0, 0))
    metrics = scrape(collector.render())
    for name, value in {
        "ready": 1,
        "waiting": 1,
        "in_flight": 2,
        "delayed": 3,
        "oldest_delayed_seconds": 4.5,
        "returns": 6,
    }.items():
        first, second = metrics[f"purgeline_node_{name}"].samples
        assert first.labels == {"node": 'ed"ge\n1', "layer": "edge", "driver": "varnish"}
        assert (first.value, second.value) == (value, 0)


def test_two_engines_in_one_process_do_not_clash() -> None:
    """The registry is private, so a second collector registers too."""
    for _ in range(2):
        assert EngineCollector(with_gauges(Stats()), "1", "r", list).render()

"""The Prometheus page."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from engine.observe.counters import COUNTERS, GAUGES, Stats
from engine.observe.prometheus import EngineCollector, NodeSample

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def with_gauges(stats: Stats) -> Stats:
    for number, name in enumerate(GAUGES):
        stats.gauge(name, lambda number=number: number)  # type: ignore[misc]
    return stats


def scrape(page: bytes) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(page.decode())}


def test_page_parses_and_holds_everything() -> None:
    """Prometheus' own parser reads the page back."""
    stats = with_gauges(Stats())
    stats.gauge("connections", lambda: 5)
    stats.tasks_accepted += 3
    stats.qps_boss.mark(12)
    stats.datagrams["accepted"] = 4
    stats.accept_s.observe(0.002)
    stats.node_histogram("edge-1").observe(0.2)
    nodes = [NodeSample('ed"ge\n1', "edge", "varnish", True, 1, 2, 3, 4.5, 6)]
    page = EngineCollector(stats, "1.4.2", "abc123", lambda: nodes).read().page()
    metrics = scrape(page)
    values = {sample.name: sample.value for family in metrics.values() for sample in family.samples}
    assert values["purgeline_tasks_accepted_total"] == 3
    assert values["purgeline_targets_total"] == 12
    assert values["purgeline_connections"] == 5
    assert values["purgeline_datagrams_total"] == 4
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
    metrics = scrape(collector.read().page())
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
    """Nothing is registered globally."""
    for _ in range(2):
        assert EngineCollector(with_gauges(Stats()), "1", "r", list).read().page()

"""The Prometheus page."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from engine.observe.counters import COUNTERS, GAUGES, Stats
from engine.observe.meters import Histogram
from engine.observe.prometheus import EngineCollector, NodeSample
from tests import metric_docs

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


def test_answers_are_told_by_door_and_status_and_canaries_by_what_they_showed() -> None:
    stats = with_gauges(Stats())
    stats.responses_of("http")[202] += 3
    stats.responses_of("purge")[200] += 1
    stats.canaries["edge-1", "stale"] = 2
    metrics = scrape(EngineCollector(stats, "1", "r", list).read().page())
    shown = [(*each.labels.values(), each.value) for each in metrics["purgeline_responses"].samples]
    assert shown == [("http", "202", 3), ("purge", "200", 1)]
    [canary] = metrics["purgeline_canaries"].samples
    assert canary.labels == {"node": "edge-1", "state": "stale"}


def test_a_gauge_that_nobody_can_tell_is_left_out() -> None:
    stats = with_gauges(Stats(redis_beat_s=Histogram()))
    stats.gauge("redis_replicas", lambda: None)
    stats.gauge("redis_up", lambda: False)
    stats.slow_sources["store_bytes"] = lambda: 4096
    metrics = scrape(EngineCollector(stats, "1", "r", list).read().page())
    assert "purgeline_redis_replicas" not in metrics
    assert metrics["purgeline_redis_up"].samples[0].value == 0
    assert metrics["purgeline_store_bytes"].samples[0].value == 4096
    assert "purgeline_redis_beat_seconds" in metrics


def test_the_page_of_the_documentation_lists_what_there_is() -> None:
    """`python -m tests.metric_docs` writes it."""
    page = metric_docs.PAGE.read_text(encoding="utf-8")
    assert metric_docs.filled(page) == page


def test_every_metric_has_a_name_that_prometheus_expects() -> None:
    """What its linter asks for: counters end in ``_total``, and units are whole ones."""
    for family in metric_docs.families():
        assert not family.name.endswith(("_s", "_ms", "_s_total")), family.name
        assert family.documentation not in {"", family.name}, family.name

"""Statistics, nodes and metrics of several workers, shown as one."""

import pytest

from engine.observe import merged
from engine.observe.counters import Stats
from engine.observe.prometheus import EngineCollector, NodeSample


def document(count: int, *, at: int) -> dict[str, object]:
    return {
        "pushing_queue": count,
        "qps_boss": {"1m": 1.5, "5m": 1.0, "15m": 0.5, "avg": 2.0, "count": count},
        "timestamp": at,
    }


def test_statistics_add_up_and_the_latest_time_stands() -> None:
    total = merged.stats([document(3, at=20), document(4, at=10)])
    assert total == {
        "pushing_queue": 7,
        "qps_boss": {"1m": 3.0, "5m": 2.0, "15m": 1.0, "avg": 4.0, "count": 7},
        "timestamp": 20,
    }


def node(state: str, **changes: object) -> dict[str, object]:
    counts = {"waiting": 1, "in_flight": 2, "delayed": 3, "acked": 4, "refused": 5, "failed": 6}
    facts = {"oldest_delayed_s": 1.0, "last_error": "", "last_error_at": None}
    return {"name": "edge-1", "layer": "edge", "state": state, **counts, **facts, **changes}


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        (("ready", "ready"), "ready"),
        (("ready", "down"), "down"),
        (("ready", "sick"), "sick"),
        (("catching_up", "refusing"), "catching_up"),
    ],
)
def test_of_a_nodes_states_the_one_that_needs_looking_at_is_shown(
    states: tuple[str, str], shown: str
) -> None:
    (found,) = merged.nodes([[node(state, reason=f"why {state}")] for state in states])
    assert (found["state"], found["reason"]) == (shown, f"why {shown}")
    assert [found[key] for key in ("waiting", "in_flight", "delayed", "acked", "refused", "failed")] == [
        2, 4, 6, 8, 10, 12,
    ]  # fmt: skip


def test_a_worker_of_the_version_before_calls_catching_up_otherwise() -> None:
    (found,) = merged.nodes([[node("returning")], [node("ready")]])
    assert found["state"] == "catching_up"


def test_the_latest_error_of_a_node_is_shown_and_its_oldest_row() -> None:
    first = node("ready", last_error="old", last_error_at=5.0, oldest_delayed_s=9.0)
    (found,) = merged.nodes([[first], [node("ready", last_error="new", last_error_at=6.0)], [node("ready")]])
    assert (found["last_error"], found["last_error_at"], found["oldest_delayed_s"]) == ("new", 6.0, 9.0)


def page(acked: int, *, ready: bool, oldest_s: float) -> str:
    stats = Stats()
    stats.subtasks_acked = acked
    stats.accept_s.observe(0.002)
    for name in ("pushing_queue", "saver_queue"):
        stats.gauge(name, lambda: 1)
    sample = NodeSample("edge-1", "edge", "ats", ready, 1, 2, 3, oldest_s, 1)
    stats.datagrams_dropped = 9  # of the socket that both read from
    return EngineCollector(stats, "1.2", "abc", lambda: [sample]).read().page().decode()


def test_metrics_add_up_but_for_what_does_not() -> None:
    labels = '{driver="ats",layer="edge",node="edge-1"}'
    text = merged.metrics([page(2, ready=True, oldest_s=7), page(3, ready=False, oldest_s=5)]).decode()
    lines = text.splitlines()
    assert "purgeline_subtasks_acked_total 5.0" in lines
    assert "purgeline_pushing_queue 2.0" in lines
    assert "purgeline_datagrams_dropped_total 9.0" in lines
    assert "purgeline_accept_seconds_count 2.0" in lines
    assert 'purgeline_accept_seconds_bucket{le="0.0025"} 2.0' in lines
    assert f"purgeline_node_ready{labels} 0.0" in lines
    assert f"purgeline_node_waiting{labels} 2.0" in lines
    assert f"purgeline_node_returns_total{labels} 2.0" in lines
    assert f"purgeline_node_oldest_delayed_seconds{labels} 7.0" in lines
    (build,) = [line for line in lines if line.startswith("purgeline_build_info{")]
    assert build.endswith(" 1.0")
    assert text.count("# TYPE purgeline_subtasks_acked_total counter") == 1


@pytest.mark.parametrize(
    ("name", "values", "shown"),
    [
        ("purgeline_redis_up", (1, 0), 0),
        ("purgeline_redis_silence_seconds", (0.2, 7), 7),
        ("purgeline_store_failing", (0, 1), 1),
        ("purgeline_store_bytes", (4096, 4096), 4096),
        ('purgeline_node_canary_timestamp_seconds{node="a"}', (5, 17), 17),
        ('purgeline_node_refusing{node="a"}', (1, 1), 1),
        ('purgeline_node_refused_total{node="a"}', (1, 1), 2),
        ('purgeline_responses_total{door="http",status="202"}', (3, 4), 7),
        ('purgeline_loop_lag_seconds_bucket{le="1.0"}', (3, 4), 7),
    ],
)
def test_of_what_workers_see_alike_the_worst_is_shown_and_what_each_counts_is_added(
    name: str, values: tuple[float, float], shown: float
) -> None:
    family = name.partition("{")[0].removesuffix("_bucket")
    kind = "counter" if "_total" in name else "histogram" if "_bucket" in name else "gauge"
    pages = [f"# TYPE {family} {kind}\n{name} {value}\n" for value in values]
    assert f"{name} {float(shown)}\n" in merged.metrics(pages).decode()


def test_what_several_workers_hold_of_a_node_is_shown_once_a_host_and_operation() -> None:
    def held(host: str, subtasks: int, since: float) -> dict[str, object]:
        counts = {"refused": 1, "subtasks": subtasks, "since": since, "next_try_s": since}
        return {"host": host, "operation": "purge_url", "reason": "403", **counts}

    one = node("refusing", held=[held("a.com", 2, 5.0)])
    other = node("ready", held=[held("a.com", 3, 4.0), held("b.com", 1, 6.0)])
    (found,) = merged.nodes([[one], [other], [node("ready")]])
    shown = [(part["host"], part["subtasks"], part["refused"], part["since"]) for part in found["held"]]
    assert shown == [("a.com", 5, 2, 4.0), ("b.com", 1, 1, 6.0)]

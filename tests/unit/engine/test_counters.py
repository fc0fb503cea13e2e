"""Counters and the statistics document."""

from __future__ import annotations

import time

import pytest

from engine.observe.counters import COUNTERS, GAUGES, Stats


def test_counters_start_at_zero_and_nothing_else_fits() -> None:
    """A misspelt counter is an error, not a new attribute."""
    stats = Stats()
    assert len(COUNTERS) == 41
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

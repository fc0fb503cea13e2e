"""What savers report: alerts and counters."""

from __future__ import annotations

from engine.errors import StoreError
from engine.observe.counters import Stats
from engine.process.reports import StoreReports


def test_a_store_that_fails_is_an_alert_and_ends_when_it_works_again() -> None:
    alerts: list[tuple[str, ...]] = []
    stats = Stats()
    reports = StoreReports(stats, lambda *alert: alerts.append(alert))
    reports.store_state(StoreError("disk full"))
    reports.store_state(None)
    assert alerts == [
        ("store", "error", "new tasks are answered 503: disk full"),
        ("store", "resolved", "the store can be written again"),
    ]
    assert stats.store_errors == 1


def test_tasks_that_settle_in_the_store_are_counted_by_their_states() -> None:
    stats = Stats()
    reports = StoreReports(stats, lambda *_: None)
    reports.settled_late(["done", "failed", "done", "cancelled", "partial"])
    assert (stats.tasks_done, stats.tasks_failed, stats.tasks_cancelled) == (2, 1, 1)

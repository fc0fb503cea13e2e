"""What savers report: alerts and counters."""

from __future__ import annotations

from engine.errors import StoreError
from engine.observe.counters import Stats
from engine.process.reports import StoreReports
from tests.fakes.audit import Lines, audit_of


def test_a_store_that_fails_is_an_alert_and_ends_when_it_works_again() -> None:
    alerts: list[tuple[str, ...]] = []
    stats = Stats()
    reports = StoreReports(stats, audit_of(), lambda *alert: alerts.append(alert))
    reports.store_state(StoreError("disk full"))
    reports.store_state(None)
    assert alerts == [
        ("store", "error", "new tasks are answered 503: disk full"),
        ("store", "resolved", "the store can be written again"),
    ]
    assert stats.store_errors == 1


async def test_tasks_that_settle_in_the_store_are_counted_by_their_states_and_told() -> None:
    stats, lines = Stats(), Lines()
    audit = audit_of(lines)
    reports = StoreReports(stats, audit, lambda *_: None)
    states = ["done", "failed", "done", "cancelled", "partial"]
    reports.settled_late([{"task_id": state, "state": state, "by": {"token": "cms"}} for state in states])
    audit.flush()
    assert [(line.task_id, line.outcome, line.by) for line in lines.lines[:2]] == [
        ("done", "done", "cms"),
        ("failed", "failed", "cms"),
    ]
    assert (stats.tasks_done, stats.tasks_failed, stats.tasks_cancelled) == (2, 1, 1)

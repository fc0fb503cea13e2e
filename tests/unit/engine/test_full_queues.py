"""Full delay queues: told once, and which tasks would only add rows to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.config.tables import NodeConfig
from engine.delivery.full_queues import FullQueues, rows_max_here
from engine.errors import BacklogFullError
from engine.nodes.health import Health
from engine.nodes.holds import REFUSALS_BEFORE_HOLD, Holds
from engine.tasks.plan import Plan, Step
from engine.tasks.task import Task
from engine.tasks.words import Operation

PURGE = Operation.PURGE_URL


class Bench:
    """Two nodes that cannot be reached."""

    def __init__(self) -> None:
        self.alerts: list[tuple[str, str, str]] = []
        self.said = ""
        self.nodes: Any = {name: self.node() for name in ("edge-1", "edge-2")}
        self.full = FullQueues(self.nodes, 100, lambda *alert: self.alerts.append(alert))

    def node(self, *, wildcard: bool = False) -> Any:
        config = NodeConfig(name="edge-1", driver="nginx", url="http://e1", wildcard=wildcard)
        node = SimpleNamespace(config=config, health=Health(lambda: 0.0), holds=Holds(lambda: 0.0))
        node.health.doubt()
        return node

    def takes(self, *names: str, target: str = "http://a.com/x", operation: Operation = PURGE) -> bool:
        task = Task.internal([target], owner=None, task_id="t")
        task.plan = Plan(tuple(Step(name, "edge", operation, (), is_parent=False) for name in names))
        try:
            self.full.check(task)
        except BacklogFullError as exc:
            self.said = str(exc)
            return False
        return True


@pytest.mark.parametrize(("workers", "here"), [(1, 100), (3, 33), (200, 1)])
def test_workers_with_stores_of_their_own_share_the_rows_of_a_node(workers: int, here: int) -> None:
    assert rows_max_here(100, workers) == here


def test_a_full_queue_is_told_once_and_again_when_there_is_room() -> None:
    bench = Bench()
    for depth in (99, 100, 150, 95, 120, 89, 50):
        bench.full.note("edge-1", depth)
    assert [alert[:2] for alert in bench.alerts] == [
        ("delay:edge-1", "error"),
        ("delay:edge-1", "resolved"),
    ]
    assert "the delay queue of edge-1 is full: 100 rows (delay_rows_max: 100 here)" in bench.alerts[0][2]
    assert bench.full.names == set()


def test_only_a_task_that_goes_nowhere_else_is_refused() -> None:
    bench = Bench()
    assert bench.takes("edge-1")
    bench.full.note("edge-1", 100)
    assert not bench.takes("edge-1")
    assert bench.said == "the delay queue of edge-1 is full, retry in 60 s"
    assert bench.takes("edge-1", "edge-2")
    bench.full.note("edge-2", 100)
    assert not bench.takes("edge-1", "edge-2")


@pytest.mark.parametrize(("host", "takes"), [("a.com", False), ("b.com", True)])
def test_a_ready_node_with_a_full_queue_takes_what_it_does_not_hold(host: str, *, takes: bool) -> None:
    bench = Bench()
    node = bench.nodes["edge-1"]
    node.health.ready()
    for _ in range(REFUSALS_BEFORE_HOLD):
        node.holds.refused(PURGE, "http://a.com/", "answered 403")
    bench.full.note("edge-1", 100)
    assert bench.takes("edge-1", target=f"http://{host}/x") is takes


def test_where_a_host_can_be_purged_instead_tasks_are_taken_up_to_a_tenth_more() -> None:
    bench = Bench()
    told: list[str] = []
    bench.full.on_full = told.append
    bench.nodes["edge-1"] = bench.node(wildcard=True)
    bench.full.note("edge-1", 100)
    assert "replaced by purges of whole hosts" in bench.alerts[0][2]
    assert bench.takes("edge-1")
    assert not bench.takes("edge-1", operation=Operation.PREFETCH)
    for depth in (101, 101, 102, 109):
        bench.full.note("edge-1", depth)
    assert told == ["edge-1"] * 4, "again whenever it has grown"
    assert bench.takes("edge-1")
    bench.full.note("edge-1", 110)
    assert not bench.takes("edge-1")
    bench.full.note("edge-1", 95)
    assert bench.takes("edge-1"), "still full, with room again"
    assert bench.full.low == 90


def test_what_a_node_refuses_is_not_taken_for_its_full_queue() -> None:
    bench = Bench()
    node = bench.nodes["edge-1"] = bench.node(wildcard=True)
    for _ in range(REFUSALS_BEFORE_HOLD):
        node.holds.refused(PURGE, "http://a.com/", "answered 403")
    bench.full.note("edge-1", 100)
    assert not bench.takes("edge-1")
    assert bench.takes("edge-1", target="http://b.com/")

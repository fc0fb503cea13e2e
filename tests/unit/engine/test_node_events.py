"""What nodes tell: alerts for operators, and the delivery of a delay queue."""

from __future__ import annotations

from typing import Any

from engine.config.tables import NodeConfig
from engine.delivery.node_events import NodeEvents
from engine.observe.counters import Stats

NODE = NodeConfig(name="edge-1", driver="ats", url="http://127.0.0.1", layer="edge")


class World:
    """Notes alerts and deliveries."""

    def __init__(self) -> None:
        self.alerts: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        self.delivered: list[str] = []
        self.stats = Stats()
        world: Any = self
        self.offered: list[str] = []
        self.events = NodeEvents(world, world, self.stats, self._alert)

    def _alert(self, *alert: str, **facts: Any) -> None:
        self.alerts.append((alert, facts))

    def deliver(self, name: str) -> None:
        self.delivered.append(name)

    def offer(self, name: str) -> None:
        self.offered.append(name)

    def deliver_later(self, name: str, wait_s: float) -> None:
        self.delivered.append(f"{name} in {wait_s:g} s")


def test_a_refusal_is_counted_and_resolved_by_the_next_purge_that_is_taken() -> None:
    world = World()
    world.events.refused(NODE, "refused: answered 403")
    world.events.takes_purges_again(NODE)
    assert world.stats.subtasks_refused == 1
    assert [alert for alert, _ in world.alerts] == [
        ("refused:edge-1", "error", "edge-1 refused: answered 403"),
        ("refused:edge-1", "resolved", "edge-1 takes purges again"),
    ]


def test_a_node_that_goes_down_and_comes_back_says_so_with_its_facts() -> None:
    world = World()
    world.events.node_down(NODE, "closed", is_sick=False)
    world.events.node_returns(NODE)
    world.events.node_ready(NODE, 1.23456)
    facts = {"node": "edge-1", "layer": "edge"}
    assert world.alerts == [
        (("node:edge-1", "error", "edge-1 is unreachable: closed"), {"event": "node.down", **facts}),
        (
            ("node:edge-1", "resolved", "edge-1 is back and up to date"),
            {"event": "node.ready", "away_s": 1.235, **facts},
        ),
    ]
    assert world.delivered == ["edge-1"]


def test_a_postponed_request_has_the_delay_queue_looked_at_when_its_time_has_come() -> None:
    world = World()
    world.events.postponed(NODE, 2.5)
    assert (world.delivered, world.alerts) == (["edge-1 in 2.5 s"], [])


def test_a_sick_node_is_told_as_one_that_visitors_should_not_be_sent_to() -> None:
    world = World()
    world.events.node_down(NODE, "answered 503", is_sick=True)
    [(alert, facts)] = world.alerts
    assert alert == ("node:edge-1", "error", "edge-1 is sick: answered 503")
    assert facts["event"] == "node.down"


def test_a_node_that_becomes_unproven_says_so_and_is_offered_what_waits_for_it() -> None:
    world = World()
    world.events.node_unproven(NODE, "unproven: a server behind edge-1 answered 200")
    [(alert, facts)] = world.alerts
    assert alert == ("node:edge-1", "error", "edge-1 is unproven: a server behind edge-1 answered 200")
    assert facts == {"event": "node.unproven", "node": "edge-1", "layer": "edge"}
    assert world.offered == ["edge-1"]

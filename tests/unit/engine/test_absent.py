"""Nodes of a stored plan that cannot be sent what it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.delivery.absent import AbsentNode, PlanNodes
from engine.delivery.expansion import shares_of
from engine.tasks.plan import GONE, Plan, Step
from engine.tasks.task import Task
from engine.tasks.words import Operation
from tests.fakes.shares import NotingNode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.tasks.task import Share

PURGE = Operation.PURGE_URL
NODES: Any = {"e1": NotingNode("e1", "edge"), "e2": NotingNode("e2", "edge")}


def plan_of(**lacks: str) -> Plan:
    return Plan(
        tuple(Step(name, "edge", PURGE, (), False, "ats", lack) for name, lack in lacks.items()),
        is_stored=True,
    )


def test_a_plan_that_lacks_nothing_has_the_configured_nodes() -> None:
    nodes = PlanNodes(NODES, str)
    assert nodes.of(plan_of(e1="", e2=""), park=_no_park) is NODES


def test_what_is_for_a_node_that_is_gone_or_incapable_is_parked_with_the_reason() -> None:
    parked: list[tuple[str, list[int], str]] = []

    def park(share: Share, indexes: Sequence[int], reason: str) -> None:
        parked.append((share.node.name, list(indexes), reason))

    plan = plan_of(e1="", e2="incapable: it is a squid", e3=GONE)
    nodes = PlanNodes(NODES, lambda name: f"gone: {name}").of(plan, park)
    task = Task.internal(["http://a/1", "http://a/2"], owner=None, task_id="t")
    task.plan = plan
    present, incapable, gone = shares_of(task, nodes)
    assert present.node is NODES["e1"]
    assert (gone.node.name, gone.node.layer) == ("e3", "edge")
    incapable.node.add(incapable, [0, 1])
    gone.node.add_backlog(gone, [1])
    assert parked == [("e2", [0, 1], "incapable: it is a squid"), ("e3", [1], "gone: e3")]
    gone.node.forget(gone, [0])
    assert gone.node.postpone(PURGE, "http://a/1")
    assert repr(gone.node) == "<AbsentNode e3>"
    assert isinstance(gone.node, AbsentNode)


def _no_park(share: Share, indexes: Sequence[int], reason: str) -> None:
    raise AssertionError(reason)

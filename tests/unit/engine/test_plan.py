"""What a node of a plan is sent, and how many subtasks a task of it has."""

from __future__ import annotations

import pytest

from engine.config.tables import Driver, NodeConfig
from engine.nodes import drivers
from engine.tasks.plan import Plan, Step, subtask_count
from engine.tasks.words import Action, Kind, Operation

ALL = drivers.capabilities(NodeConfig(name="n", driver="varnish", url="http://127.0.0.1:1"))


def plan_of(*operations: frozenset[Operation]) -> Plan:
    """A parent, and edges that wait for it; one node alone is an edge."""
    last = len(operations) - 1
    return Plan(
        tuple(
            Step(f"n{place}", "l", can, (0,) if place else (), is_parent=place == 0 and last > 0)
            for place, can in enumerate(operations)
        )
    )


@pytest.mark.parametrize("kind", list(Kind))
def test_a_soft_purge_is_soft_at_the_last_layer_only(kind: Kind) -> None:
    plan = plan_of(ALL, ALL)
    parent, edge = plan.steps
    assert plan.operation_at(parent, Action.PURGE, kind, soft=True) is Operation[f"PURGE_{kind.name}"]
    expected = "SOFT" if kind in {Kind.URL, Kind.KEY} else "PURGE"  # a ban cannot be soft
    assert plan.operation_at(edge, Action.PURGE, kind, soft=True) is Operation[f"{expected}_{kind.name}"]
    assert plan.operation_at(edge, Action.PURGE, kind, soft=False) is Operation[f"PURGE_{kind.name}"]


@pytest.mark.parametrize("driver", ["ats", "nginx", "squid"])
def test_where_the_cache_has_no_soft_purge_it_is_hard(driver: Driver) -> None:
    plan = plan_of(drivers.capabilities(NodeConfig(name="n", driver=driver, url="http://127.0.0.1:1")))
    assert plan.operation_at(plan.steps[0], Action.PURGE, Kind.URL, soft=True) is Operation.PURGE_URL


def test_a_node_that_nobody_waits_for_may_be_soft() -> None:
    plan = plan_of(ALL)
    assert plan.operation_at(plan.steps[0], Action.PURGE, Kind.URL, soft=True) is Operation.SOFT_URL


def test_a_purge_that_fetches_again_counts_twice() -> None:
    plan = plan_of(ALL, ALL, ALL, ALL)
    assert subtask_count(plan, 3, Action.PURGE, prefetch=False) == 12
    assert subtask_count(plan, 3, Action.PURGE, prefetch=True) == 24
    assert subtask_count(plan, 3, Action.PREFETCH, prefetch=False) == 12

"""What a node of a plan is sent, how many subtasks its tasks have, and what is stored of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.config.load import parse
from engine.errors import RequestError, StoreError
from engine.intake.topology import Topology
from engine.tasks.plan import Plan, read_plan, storable, subtask_count
from engine.tasks.words import Kind, Operation

if TYPE_CHECKING:
    from engine.config.tables import Driver


def topology(*drivers: Driver, **tables: dict[str, Any]) -> Topology:
    """A parent, and edges that wait for it; one node alone is an edge."""
    nodes = [
        {
            "name": f"n{place}",
            "driver": driver,
            "url": "http://127.0.0.1:1",
            "layer": "parent" if place == 0 and len(drivers) > 1 else "edge",
            **tables.get(f"n{place}", {}),
        }
        for place, driver in enumerate(drivers)
    ]
    return Topology(parse({"layer": [{"name": "parent"}, {"name": "edge"}], "node": nodes}))


def operations(plan: Plan) -> list[Operation]:
    return [step.operation for step in plan.steps]


@pytest.mark.parametrize("kind", list(Kind))
def test_a_soft_purge_is_soft_at_the_last_layer_only(kind: Kind) -> None:
    hard = Operation[f"PURGE_{kind.name}"]
    softened = (
        Operation[f"SOFT_{kind.name}"] if kind in {Kind.URL, Kind.KEY} else hard
    )  # a ban cannot be soft
    two = topology("varnish", "varnish")
    assert operations(two.plan(kind=kind, soft=True)) == [hard, softened]
    assert operations(two.plan(kind=kind)) == [hard, hard]


@pytest.mark.parametrize("driver", ["ats", "nginx", "squid"])
def test_where_the_cache_has_no_soft_purge_it_is_hard(driver: Driver) -> None:
    assert operations(topology(driver).plan(soft=True)) == [Operation.PURGE_URL]


def test_a_node_that_nobody_waits_for_may_be_soft() -> None:
    assert operations(topology("varnish").plan(soft=True)) == [Operation.SOFT_URL]


def test_a_purge_that_fetches_again_counts_twice() -> None:
    plan = topology("varnish", "varnish", "varnish", "varnish").plan()
    assert subtask_count(plan, 3, "purge", prefetch=False) == 12
    assert subtask_count(plan, 3, "purge", prefetch=True) == 24
    assert subtask_count(plan, 3, "prefetch", prefetch=False) == 12


# As it is stored


def test_a_plan_is_the_same_when_it_is_read() -> None:
    one = topology("varnish", "squid", "varnish")
    plan = one.plan(kind="prefix", skip=True)
    assert plan.skipped
    read = read_plan(plan.key, plan.text)
    assert (read.steps, read.skipped, read.notes) == (plan.steps, plan.skipped, plan.notes)
    assert storable(read).key == plan.key
    assert read.is_stored
    assert not plan.is_stored


def test_a_plan_tells_which_nodes_of_an_engine_are_meant() -> None:
    """And one without such is stored as it was before there were any."""
    one = topology("engine", "varnish", n0={"evidence": "any"})
    plan = one.plan(nodes=["n0/edge-7", "n0/fr/edge-1", "n1"])
    assert [step.below for step in plan.steps] == [("edge-7", "fr/edge-1"), ()]
    assert read_plan(plan.key, plan.text).steps == plan.steps
    whole = one.plan(nodes=["n0/edge-7", "n0", "n1"])
    assert whole.key == one.plan().key
    assert [len(step) for step in msgspec.msgpack.decode(whole.text)[0]] == [5, 5]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("n9/edge-1", "'n9' is not configured"),
        ("n1/edge-1", "n1 is a cache, and has no nodes below it"),
        ("n0/", "names no node"),
    ],
)
def test_a_name_below_a_node_is_one_of_an_engine(name: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        topology("engine", "varnish", n0={"evidence": "any"}).plan(nodes=[name])


def test_plans_of_other_nodes_drivers_or_operations_have_other_keys() -> None:
    one, other = topology("varnish", "varnish"), topology("varnish", "ats")
    plans = [one.plan(), one.plan(nodes=["n1"]), one.plan(soft=True), one.plan(kind="host"), other.plan()]
    assert len({plan.key for plan in plans}) == len(plans)
    assert one.plan().key == topology("varnish", "varnish").plan().key, "in every process"


def test_what_is_no_plan_is_told() -> None:
    with pytest.raises(StoreError, match="a plan cannot be read"):
        read_plan(b"k", b"no plan")


# By another configuration


def test_a_stored_plan_keeps_its_nodes_and_says_what_they_lack() -> None:
    plan = topology("varnish", "varnish", "varnish").plan(kind="prefix")
    now = topology("varnish", "squid")
    stored = now.stored(plan.key, plan.text)
    assert [step.node for step in stored.steps] == ["n0", "n1", "n2"]
    assert [step.parents for step in stored.steps] == [(), (0,), (0,)]
    able, incapable, gone = (step.lacks for step in stored.steps)
    assert (able, gone) == ("", "gone")
    assert incapable.startswith("incapable: squid, as n1 is configured now, cannot purge by prefix;")
    assert now.stored(plan.key, plan.text) is stored, "it is read once"


def test_a_stored_purge_of_a_host_pattern_waits_where_the_cache_does_not_know_it() -> None:
    plan = topology("varnish").plan(kind="host", host_pattern=True)
    now = topology("nginx", n0={"wildcard": True})
    [pattern], [host] = (
        now.stored(plan.key, plan.text, host_pattern=is_one).steps for is_one in (True, False)
    )
    assert pattern.lacks.startswith("incapable: nginx")
    assert not host.lacks


def test_a_soft_purge_stays_with_a_cache_that_has_none_because_it_gets_a_hard_one() -> None:
    plan = topology("varnish").plan(soft=True)
    [step] = topology("nginx").stored(plan.key, plan.text).steps
    assert (step.operation, step.lacks) == (Operation.SOFT_URL, "")

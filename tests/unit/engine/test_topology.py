"""Which nodes a task goes to, in which order, and who waits for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.config.load import parse
from engine.errors import RequestError
from engine.intake.naming import Told, ToldLeaf
from engine.intake.topology import _PLANS_MAX, Topology
from engine.tasks.plan import Skipped
from engine.tasks.words import Action, Kind

if TYPE_CHECKING:
    from engine.tasks.plan import Plan

Row = tuple[str, str, list[str] | None]


def topology(*nodes: Row, layers: str = "origin parent edge", **extra: Any) -> Topology:
    """Nodes as (name, layer, parents); *extra* goes into every node's table."""
    table = {
        "layer": [{"name": name} for name in layers.split()],
        "node": [
            {
                "driver": "varnish",
                "url": "http://127.0.0.1:1",
                "name": name,
                "layer": layer,
                **({} if parents is None else {"parents": parents}),
                **extra,
            }
            for name, layer, parents in nodes
        ],
    }
    return Topology(parse(table))


def waits(plan: Plan) -> dict[str, set[str]]:
    """For each node the names of those it waits for."""
    names = [step.node for step in plan.steps]
    return {step.node: {names[index] for index in step.parents} for step in plan.steps}


TWO = (("e1", "edge", None), ("e2", "edge", None), ("p1", "parent", None), ("p2", "parent", None))
THREE = (*TWO, ("o", "origin", None))


def test_layers_are_worked_in_the_order_of_the_file_whatever_the_order_of_the_nodes() -> None:
    plan = topology(*THREE).plan()
    assert [step.node for step in plan.steps] == ["o", "p1", "p2", "e1", "e2"]
    assert [step.layer for step in plan.steps] == ["origin", "parent", "parent", "edge", "edge"]


def test_a_node_without_parents_waits_for_the_whole_layer_before_it() -> None:
    assert waits(topology(*THREE).plan()) == {
        "o": set(), "p1": {"o"}, "p2": {"o"}, "e1": {"p1", "p2"}, "e2": {"p1", "p2"},
    }  # fmt: skip


def test_a_node_waits_for_its_own_parents_only() -> None:
    nodes: tuple[Row, ...] = (
        ("p1", "parent", None),
        ("p2", "parent", None),
        ("e1", "edge", ["p2"]),
        ("e2", "edge", []),
    )
    assert waits(topology(*nodes).plan()) == {"p1": set(), "p2": set(), "e1": {"p2"}, "e2": set()}


def test_an_empty_layer_is_passed_over() -> None:
    assert waits(topology(("o", "origin", None), ("e", "edge", None)).plan()) == {"o": set(), "e": {"o"}}


def test_when_a_layer_is_left_out_nodes_wait_for_the_nearest_ancestors_that_are_in() -> None:
    assert waits(topology(*THREE).plan(layers=["origin", "edge"])) == {"o": set(), "e1": {"o"}, "e2": {"o"}}
    assert waits(topology(*THREE).plan(layers=["edge"])) == {"e1": set(), "e2": set()}


def test_of_two_parents_the_one_left_out_is_replaced_by_its_own_parents() -> None:
    nodes: tuple[Row, ...] = (
        ("o1", "origin", None), ("o2", "origin", None),
        ("p1", "parent", ["o1"]), ("p2", "parent", ["o2"]), ("e", "edge", None),
    )  # fmt: skip
    plan = topology(*nodes).plan(nodes=["o1", "o2", "p1", "e"])
    assert waits(plan)["e"] == {"p1", "o2"}


def test_an_ancestor_behind_one_without_parents_is_not_waited_for() -> None:
    nodes: tuple[Row, ...] = (("o", "origin", None), ("p", "parent", []), ("e", "edge", None))
    assert waits(topology(*nodes).plan(layers=["origin", "edge"])) == {"o": set(), "e": set()}


def test_parents_stand_before_children() -> None:
    for step_number, step in enumerate(topology(*THREE).plan().steps):
        assert all(parent < step_number for parent in step.parents)


def test_only_who_is_waited_for_is_a_parent() -> None:
    plan = topology(*TWO).plan()
    assert {step.node: step.is_parent for step in plan.steps} == {
        "p1": True, "p2": True, "e1": False, "e2": False,
    }  # fmt: skip
    assert not any(step.is_parent for step in topology(*TWO).plan(layers=["parent"]).steps)


def test_without_layers_everything_is_edge() -> None:
    one = Topology(parse({"node": [{"name": "e", "driver": "ats", "url": "http://127.0.0.1:1"}]}))
    assert waits(one.plan(layers=["edge"])) == {"e": set()}


@pytest.mark.parametrize(
    ("layers", "nodes", "field", "text"),
    [
        (["edgy"], [], "layers", "layers: 'edgy' is not configured; did you mean 'edge'?"),
        (["edge", "zzz"], [], "layers", "layers: 'zzz' is not configured; known: origin, parent, edge"),
        ([], ["e11"], "nodes", "nodes: 'e11' is not configured; did you mean 'e1'?"),
        ([], [""], "nodes", "nodes: '' is not configured; known: p1, p2, e1, e2"),
        (["edge"], ["p1"], "nodes", "nodes: no node is in both layers and nodes"),
        (["origin"], [], "nodes", "so there is nothing to purge"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    layers: list[str], nodes: list[str], field: str, text: str
) -> None:
    with pytest.raises(RequestError) as caught:
        topology(*TWO).plan(layers, nodes)
    assert caught.value.status == 422
    assert caught.value.field == field
    assert text in caught.value.detail


def test_without_nodes_there_is_nothing_to_purge() -> None:
    with pytest.raises(RequestError, match=r"no \[\[node\]\] is configured"):
        Topology(parse({})).plan()


def test_plans_are_made_once_whatever_the_order_of_the_names() -> None:
    one = topology(*TWO)
    assert one.plan() is one.plan([], [])
    assert one.plan(nodes=["e1", "p1"]) is one.plan(nodes=("p1", "e1", "e1"))


def test_what_is_kept_does_not_grow_with_what_clients_ask() -> None:
    one = topology(*[(f"n{number}", "edge", None) for number in range(12)])
    for mask in range(1, 4096):
        one.plan(nodes=[f"n{bit}" for bit in range(12) if mask >> bit & 1])
    assert len(one._plans) <= _PLANS_MAX
    repeated = topology(*TWO)
    for count in range(1, 200):
        repeated.plan(layers=["edge"] * count)
    assert len(repeated._plans) == 1


def mixed(*drivers: str, **layers: str) -> Topology:
    """Nodes named by the first letter of their driver, each in its layer (default: edge)."""
    extra: dict[str, dict[str, object]] = {"varnish": {"key_mode": "none"}, "nginx": {"wildcard": True}}
    return Topology(
        parse(
            {
                "layer": [{"name": name} for name in ("origin", "parent", "edge")],
                "node": [
                    {
                        "name": driver[0],
                        "driver": driver,
                        "url": "http://127.0.0.1:1",
                        "layer": layers.get(driver, "edge"),
                        **extra.get(driver, {}),
                    }
                    for driver in drivers
                ],
            }
        )
    )


def test_a_kind_is_refused_by_the_names_of_the_nodes_that_cannot_do_it() -> None:
    one = mixed("varnish", "nginx", "squid")
    one.plan()
    one.plan(action=Action.PREFETCH)
    one.plan(nodes=["v", "n"], kind=Kind.PREFIX)
    for kind, names in (
        (Kind.PREFIX, "s (squid);"),
        (Kind.REGEX, "n (nginx), s (squid);"),
        (Kind.HOST, "s (squid);"),
        (Kind.KEY, "v (varnish), n (nginx), s (squid);"),
    ):
        with pytest.raises(RequestError) as caught:
            one.plan(kind=kind)
        assert f"purge by {kind} cannot be done by {names}" in caught.value.detail
        assert caught.value.field == "kind"
        assert ("on_incapable" in caught.value.detail) == (kind != Kind.KEY), "told where it would help"


def test_a_host_pattern_goes_to_varnish_alone() -> None:
    one = mixed("varnish", "nginx")
    assert len(one.plan(kind=Kind.HOST).steps) == 2
    with pytest.raises(RequestError, match=r"purge by host of a host pattern cannot be done by n \(nginx\);"):
        one.plan(kind=Kind.HOST, host_pattern=True)
    plan = one.plan(kind=Kind.HOST, host_pattern=True, skip=True)
    assert [step.node for step in plan.steps] == ["v"]
    assert plan.skipped == (Skipped("n", "nginx, as configured, cannot purge by host of a host pattern"),)


def test_nodes_that_cannot_do_it_are_skipped_where_the_task_says_so() -> None:
    plan = mixed("varnish", "nginx", "squid").plan(kind=Kind.REGEX, skip=True)
    assert [step.node for step in plan.steps] == ["v"]
    assert plan.skipped == (
        Skipped("n", "nginx, as configured, cannot purge by regex"),
        Skipped("s", "squid, as configured, cannot purge by regex"),
    )


def test_nothing_is_skipped_where_every_node_can_do_it() -> None:
    one = mixed("varnish", "nginx", "squid")
    assert one.plan(skip=True).skipped == ()
    assert len(one.plan(skip=True).steps) == 3


def test_what_no_node_can_do_is_refused_also_where_nodes_may_be_skipped() -> None:
    with pytest.raises(
        RequestError, match=r"cannot be done by v \(varnish\), n \(nginx\), s \(squid\);"
    ) as caught:
        mixed("varnish", "nginx", "squid").plan(kind=Kind.KEY, skip=True)
    assert caught.value.status == 422


def test_below_a_skipped_parent_nodes_wait_for_what_it_would_have_waited_for() -> None:
    plan = mixed("nginx", "squid", "varnish", nginx="origin", squid="parent").plan(
        kind=Kind.PREFIX, skip=True
    )
    assert waits(plan) == {"n": set(), "v": {"n"}}
    assert [step.is_parent for step in plan.steps] == [True, False]
    plan = mixed("squid", "varnish", squid="parent").plan(kind=Kind.PREFIX, skip=True)
    assert waits(plan) == {"v": set()}


def test_below_two_parents_of_which_one_is_skipped_nodes_wait_for_the_other() -> None:
    one = mixed("nginx", "squid", "varnish", nginx="parent", squid="parent")
    assert waits(one.plan(kind=Kind.PREFIX, skip=True)) == {"n": set(), "v": {"n"}}


def test_a_purge_that_is_soft_for_some_is_noted_for_the_others() -> None:
    plan = mixed("ats", "varnish", "nginx", nginx="parent").plan(kind=Kind.URL, soft=True)
    assert [(note.nodes, note.note) for note in plan.notes if "Vary" not in note.note] == [
        (("n",), "purged hard: a stale object of a parent would be fresh to its edges"),
        (("a",), "purged hard: ats, as configured, has no soft purge by url"),
    ]
    assert plan.skipped == ()
    assert mixed("varnish").plan(soft=True).notes == ()


def test_what_purges_of_a_traffic_server_take_along_or_leave_is_noted() -> None:
    """Rules mark stale as a soft purge does, whatever was asked for; a generation is that of a remap rule."""
    rules: dict[str, Any] = {"rules_file": "/r", "rules_state_file": "/s", "rules_url": "http://{host}"}
    generation: dict[str, Any] = {"generation_header": "X", "generation_secret": "s"}

    def notes(kind: Kind, *, soft: bool = False, **keys: Any) -> list[str]:
        plan = topology(("a", "edge", []), layers="edge", driver="ats", **keys).plan(kind=kind, soft=soft)
        return [note.note for note in plan.notes]

    for soft in (True, False):
        (stale,) = notes(Kind.PREFIX, soft=soft, **rules)
        assert "served on while the origin cannot be reached" in stale
    assert notes(Kind.PREFIX, **rules, rules_result="miss") == []
    assert "has no soft purge by prefix" in notes(Kind.PREFIX, soft=True, **rules, rules_result="miss")[0]
    for kind in (Kind.HOST, Kind.PREFIX, Kind.REGEX):
        (more,) = notes(kind, **generation)
        assert "that of other hosts, too" in more
    assert notes(Kind.URL, **rules, **generation) == []


def test_drivers_that_drop_one_variant_of_a_url_are_noted_together() -> None:
    one = mixed("varnish", "ats", "nginx", "squid")
    (note,) = one.plan().notes
    assert note.nodes == ("n", "s")
    assert "Vary" in note.note
    assert one.plan(action=Action.PREFETCH).notes == ()
    assert one.plan(nodes=["n"], kind=Kind.PREFIX).notes == ()


REGIONS = (("eu", "region", None), ("us", "region", None), ("shield", "top", None))


def regions() -> Topology:
    table = {
        "layer": [{"name": "top"}, {"name": "region"}],
        "node": [
            {
                "driver": "varnish" if layer == "top" else "engine",
                "url": "http://127.0.0.1:1",
                "name": name,
                "layer": layer,
                **({} if layer == "top" else {"public_keys": ["A" * 43]}),
            }
            for name, layer, _ in REGIONS
        ],
    }
    made = Topology(parse(table))
    made.names = KnownNames({"eu": EU, "us": US})
    return made


EU = Told(
    is_told=True,
    is_sure=True,
    nodes=frozenset({"edge-7", "edge-8", "shield-1"}),
    layers=frozenset({"edge", "shield"}),
    groups=frozenset({"canary"}),
    leaves=[
        ToldLeaf("edge-7", "edge", ["canary"]),
        ToldLeaf("edge-8", "edge", []),
        ToldLeaf("shield-1", "shield", []),
    ],
)
US = Told(
    is_told=True,
    is_sure=True,
    nodes=frozenset({"edge-1", "fr", "fr/edge-7"}),
    layers=frozenset({"edge", "country", "fr/edge"}),
    groups=frozenset({"fr/canary", "slow"}),
    leaves=[ToldLeaf("edge-1", "edge", ["slow"]), ToldLeaf("fr/edge-7", "edge", ["canary"])],
)


class KnownNames:
    """What engines below have told."""

    def __init__(self, told: dict[str, Told]) -> None:
        self.told = told
        self.changes = 0

    def below(self, region: str) -> Told:
        return self.told.get(region, Told())


@pytest.mark.parametrize(
    ("layers", "nodes", "below"),
    [
        (["edge"], [], {"eu": (":edge",), "us": (":edge", ":fr/edge")}),
        (["country"], [], {"us": (":country",)}),
        (["shield"], ["eu/edge-7", "us"], None),
        (["edge"], ["us/fr"], {"us": (":edge", ":fr/edge", "fr")}),
        (["eu/edge"], [], {"eu": (":edge",)}),
        (["eu/edge", "eu/shield", "us/fr/edge"], [], {"eu": (":edge", ":shield"), "us": (":fr/edge",)}),
        (["top", "eu/edge"], [], {"shield": (), "eu": (":edge",)}),
        (["region", "eu/edge"], [], {"eu": (), "us": ()}),  # all of eu are meant
        (["eu/edge"], ["eu/edge-7"], {"eu": (":edge", "edge-7")}),
        (["eu/edge"], ["eu", "us"], {"eu": (":edge",)}),
        ([], ["eu/edge-7"], {"eu": ("edge-7",)}),
    ],
)
def test_a_layer_below_a_node_is_named_by_the_way_to_it(
    layers: list[str], nodes: list[str], below: dict[str, tuple[str, ...]] | None
) -> None:
    if below is None:
        with pytest.raises(RequestError, match="no node is in both layers and nodes"):
            regions().plan(layers, nodes)
        return
    plan = regions().plan(layers, nodes)
    assert {step.node: step.below for step in plan.steps} == below
    assert plan.is_narrow is any(below.values())


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (["fr/edge"], "'fr' is not configured"),
        (["eu/"], "names no layer behind the /"),
        (["shield/edge"], "shield is a cache, and has no layers"),
        (["egde"], "'egde' is not configured; did you mean 'edge'"),
        (["eu/egde"], "'egde' is not configured below eu; did you mean 'edge'"),
        (["zzz"], "known: top, region, edge, shield, country"),
    ],
)
def test_a_layer_below_what_is_no_engine_is_refused(layers: list[str], said: str) -> None:
    with pytest.raises(RequestError) as raised:
        regions().plan(layers)
    assert said in raised.value.detail
    assert raised.value.field == "layers"


@pytest.mark.parametrize(
    ("groups", "others", "below"),
    [
        (["canary"], {}, {"eu": ("@canary",), "us": ("@fr/canary",)}),
        (["slow", "eu/canary"], {}, {"us": ("@slow",), "eu": ("@canary",)}),
        (
            ["canary"],
            {"layers": ["edge"]},
            {"eu": (":edge", "@canary"), "us": (":edge", ":fr/edge", "@fr/canary")},
        ),
        (["canary"], {"layers": ["shield", "us/fr/edge"]}, {"us": (":fr/edge", "@fr/canary")}),
        (["canary"], {"nodes": ["eu"]}, {"eu": ("@canary",)}),
    ],
)
def test_a_group_is_meant_wherever_it_is(
    groups: list[str], others: dict[str, Any], below: dict[str, tuple[str, ...]]
) -> None:
    assert {step.node: step.below for step in regions().plan(groups=groups, **others).steps} == below


def test_a_node_that_is_an_engine_is_meant_whole_where_it_is_in_a_group_itself() -> None:
    node = {"driver": "engine", "url": "http://127.0.0.1:1", "public_keys": ["A" * 43], "layer": "edge"}
    made = Topology(parse({"node": [{"name": "eu", "groups": ["canary", "europe"], **node}]}))
    made.names = KnownNames({"eu": EU})
    assert [step.below for step in made.plan(groups=["europe"]).steps] == [()]
    assert [step.below for step in made.plan(groups=["canary"]).steps] == [()]
    assert [step.below for step in made.plan(layers=["edge"]).steps] == [(":edge",)], (
        "eu has a layer so called"
    )


def test_groups_choose_nodes_of_an_engine_with_caches_alone() -> None:
    plain = {"driver": "varnish", "url": "http://127.0.0.1:1"}
    nodes = [
        {"name": f"e{number}", "groups": groups, **plain}
        for number, groups in enumerate((["a"], ["a", "b"], []))
    ]
    made = Topology(parse({"node": nodes}))
    chosen = [
        ([step.node for step in made.plan(groups=some).steps]) for some in (["a"], ["b"], ["a", "b"], [])
    ]
    assert chosen == [["e0", "e1"], ["e1"], ["e0", "e1"], ["e0", "e1", "e2"]]
    for groups, named, said in (
        (["c"], [], "groups: 'c' is not configured; known: a, b"),
        (["b"], ["e0"], "no node is in all of nodes, groups"),
        (["e0/a"], [], "groups: 'e0/a': e0 is a cache, and has no groups below it"),
    ):
        with pytest.raises(RequestError) as raised:
            made.plan(groups=groups, nodes=named)
        assert said in raised.value.detail


def test_a_name_that_an_engine_below_may_have_waits_until_that_has_told() -> None:
    made = regions()
    names = KnownNames({"eu": EU})
    made.names = names
    questions: list[dict[str, Any]] = [{"layers": ["shield"]}, {"groups": ["canary"]}, {"layers": ["nobody"]}]
    for asked in questions:
        with pytest.raises(RequestError, match=r"us has a \w+ '\w+' is not known yet") as raised:
            made.plan(**asked)
        assert (raised.value.status, raised.value.headers) == (503, {"Retry-After": "2"})
    assert [step.below for step in made.plan(layers=["region"]).steps] == [(), ()], (
        "it is in that layer itself"
    )
    assert [step.below for step in made.plan(["eu/shield"]).steps] == [(":shield",)]
    assert [step.below for step in made.plan(["us/edge"]).steps] == [(":edge",)], (
        "it decides when it is there"
    )
    handed = made.plan(["shield"], is_handed=True)
    assert [step.node for step in handed.steps] == ["eu"], "who handed it down named what it knows"
    names.told["us"], names.changes = US, 1
    assert {step.node for step in made.plan(groups=["canary"]).steps} == {"eu", "us"}


def test_a_leaf_that_is_surely_not_there_is_refused_and_one_that_may_be_is_not() -> None:
    made = regions()
    with pytest.raises(RequestError) as raised:
        made.plan(nodes=["eu/edge-9"])
    assert "'edge-9' is not configured below eu; did you mean 'edge-" in raised.value.detail
    made.names = KnownNames({"eu": EU._replace(is_sure=False), "us": US})
    assert [step.below for step in made.plan(nodes=["eu/edge-9"]).steps] == [("edge-9",)]

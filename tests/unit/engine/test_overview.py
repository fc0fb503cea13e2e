"""What an engine shows of itself, this worker's part and all of it."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from engine.api.overview import Overview
from engine.api.rewinding import Rewinding
from engine.base.slices import AT_ONCE
from engine.config.tables import NodeConfig
from engine.delivery.left_rows import LeftNode, LeftRows
from engine.nodes import drivers
from engine.nodes.health import NodeState
from engine.nodes.holds import Holds
from engine.observe.counters import GAUGES, Stats
from engine.tasks.words import Operation, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def node(state: NodeState = NodeState.READY, *, is_refusing: bool = False, needs_pages: bool = False) -> Any:
    holds = Holds(lambda: 0.0)
    if is_refusing:
        holds.refused(Operation.PURGE_PREFIX, "http://a.com/", "answered 403")
    return SimpleNamespace(
        name="e1",
        layer="edge",
        config=NodeConfig(name="e1", driver="nginx", url="http://e1"),
        state=state,
        holds=holds,
        waiting_count=1,
        in_flight=2,
        counting=SimpleNamespace(acked_count=3, absent_count=1),
        refused_count=4,
        failed_count=5,
        retried_count=9,
        coalesced=6,
        health=SimpleNamespace(
            last_error="gone",
            recent_error=lambda: ("gone", 7.0),
            returns=8,
            since=12.0,
            keeps_rows=state in {NodeState.DOWN, NodeState.SICK, NodeState.UNPROVEN},
        ),
        proving=SimpleNamespace(judge=SimpleNamespace(rests_on="mark", needs_pages=needs_pages)),
    )


class Proof:
    """What is said of verification."""

    def own(self) -> dict[str, int]:
        return {"looks_waiting": 1}

    def joined(self, parts: Sequence[dict[str, int]]) -> dict[str, int]:
        return {"looks_waiting": sum(part["looks_waiting"] for part in parts)}


class Left:
    """Rows that no configured node is going to take."""

    def __init__(self, nodes: Sequence[LeftNode] = (), rows: Sequence[LeftRows] = ()) -> None:
        self._nodes, self._rows = list(nodes), list(rows)

    async def nodes(self, elsewhere: set[str]) -> list[LeftNode]:
        return [node for node in self._nodes if node.name not in elsewhere]

    async def rows(self, _node: Any) -> list[LeftRows]:
        return self._rows


class Peers:
    """Another worker, whose part is the same as this one's; *count* of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.own: Overview

    def others(self) -> list[int]:
        return [0] * self._count

    async def ask_all(self, path: str) -> list[bytes]:
        parts = {
            "/worker/stats": lambda: msgspec.json.encode(self.own.own_stats()),
            "/worker/proof": lambda: msgspec.json.encode(self.own.own_proof()),
        }
        if path == "/worker/nodes":
            return [msgspec.json.encode(await self.own.own_nodes()) for _ in range(self._count)]
        if path == "/worker/metrics":
            return [await self.own.own_metrics() for _ in range(self._count)]
        return [parts[path]() for _ in range(self._count)]


async def at_once(make: Callable[..., bytes], *args: Any, **named: Any) -> bytes:
    return make(*args, **named)


def overview(
    nodes: Any = None,
    *,
    left: Any = None,
    peers: Any = None,
    cluster: Any = None,
    stats: Stats | None = None,
    rewinds: Any = None,
) -> Overview:
    delay: Any = SimpleNamespace(depth=lambda _: 9, oldest_s=lambda _: 1.23456)
    logs: Any = SimpleNamespace(dropped=11)
    made = Overview(
        stats or full_stats(),
        nodes or {"e1": node()},
        delay,
        logs,
        left=cast("Any", left or Left()),
        canary=lambda _: None,
        rewinding=Rewinding(rewinds or {}, None, peers=None, shared=None),  # type: ignore[arg-type]
        peers=peers,
        cluster=cluster,
        proof=cast("Any", Proof()),
        in_thread=at_once,
    )
    if peers is not None:
        peers.own = made
    return made


def full_stats() -> Stats:
    """Return counters with every gauge that the engine registers."""
    stats = Stats()
    for name in GAUGES:
        stats.gauge(name, lambda: 2)
    stats.tasks_done = 3
    return stats


async def test_a_node_is_shown_with_its_queue_and_its_last_error() -> None:
    (shown,) = await overview().own_nodes()
    assert shown == {
        "name": "e1",
        "layer": "edge",
        "groups": [],
        "driver": "nginx",
        "url": "http://e1",
        "state": "ready",
        "reason": "",
        "since": 12.0,
        "waiting": 1,
        "in_flight": 2,
        "delayed": 9,
        "oldest_delayed_s": 1.235,
        "acked": 3,
        "absent": 1,
        "refused": 4,
        "failed": 5,
        "evidence": "mark",
        "held": [],
        "canary": None,
        "last_error": "gone",
        "last_error_at": 7.0,
        "notes": [drivers.ONE_VARIANT_NOTE, "soft purges are done as hard ones"],
        "rewind": "",
    }


@pytest.mark.parametrize(
    ("one", "shown", "reason"),
    [
        (node(NodeState.DOWN), "down", "gone"),
        (node(NodeState.DOWN, is_refusing=True), "down", "gone"),
        (node(NodeState.SICK), "sick", "gone"),
        (node(NodeState.RETURNING), "catching_up", ""),
        (node(NodeState.CATCHING_UP), "catching_up", ""),
        (node(is_refusing=True), "refusing", "answered 403"),
    ],
)
async def test_a_state_says_what_an_operator_needs_to_know(one: Any, shown: str, reason: str) -> None:
    (document,) = await overview({"e1": one}).own_nodes()
    assert (document["state"], document["reason"]) == (shown, reason)


async def test_what_is_held_is_shown_with_its_host_and_operation() -> None:
    (document,) = await overview({"e1": node(is_refusing=True)}).own_nodes()
    [held] = document["held"]
    assert (held["host"], held["operation"], held["refused"]) == ("a.com", "purge_prefix", 1)
    assert document["since"] == held["since"] > 12


@pytest.mark.parametrize(("is_shared", "subtasks"), [(False, 10), (True, 5)])
async def test_what_a_node_cannot_do_is_shown_as_held_and_counted_once(
    *, is_shared: bool, subtasks: int
) -> None:
    rows = LeftRows(int(Operation.PURGE_PREFIX), "a.com", 5, 100.0, "incapable: nginx")
    cluster = SimpleNamespace(configured=set) if is_shared else None
    (document,) = await overview(left=Left(rows=[rows]), peers=Peers(1), cluster=cluster).all_nodes()
    [held] = document["held"]
    assert (held["host"], held["operation"], held["subtasks"]) == ("a.com", "purge_prefix", subtasks)
    assert (held["reason"], held["since"], held["refused"]) == ("incapable: nginx", 100.0, 0)
    assert document["state"] == "ready"


async def test_a_node_that_is_gone_is_shown_as_long_as_it_has_rows() -> None:
    left = Left(nodes=[LeftNode("old", "edge", "gone: not configured", 50.0)])
    configured, gone = await overview(left=left).own_nodes()
    assert list(gone) == list(configured)
    assert (gone["name"], gone["layer"], gone["state"], gone["reason"]) == (
        *("old", "edge", "gone"),
        "gone: not configured",
    )
    assert (gone["since"], gone["delayed"], gone["oldest_delayed_s"]) == (50.0, 9, 1.235)
    cluster = SimpleNamespace(configured=lambda: {"old"})
    assert len(await overview(left=left, cluster=cluster).own_nodes()) == 1, "another engine has it"


async def test_a_node_tells_prometheus_what_became_of_its_requests_and_its_canary() -> None:
    shown = overview({"e1": node(is_refusing=True)})
    shown._canary = lambda _: {"state": "stale", "at": 17.5}
    page = (await shown.own_metrics()).decode()
    values = dict(re.findall(r'purgeline_node_(\w+)\{driver="nginx",layer="edge",node="e1"\} (.*)', page))
    expected = {
        "acked_total": 3, "absent_total": 1, "refused_total": 4, "failed_total": 5, "retried_total": 9,
        "refusing": 1, "canary_stale": 1, "canary_timestamp_seconds": 17.5,
    }  # fmt: skip
    assert {name: float(values[name]) for name in expected} == expected
    shown._canary = lambda _: None
    assert "canary_stale{" not in (await shown.own_metrics()).decode(), "there was no canary"


async def test_the_metrics_bring_counters_up_to_date_that_others_keep() -> None:
    stats = full_stats()
    page = (await overview(stats=stats).own_metrics()).decode()
    assert (stats.coalesced, stats.log_lines_dropped) == (6, 11)
    assert 'purgeline_node_delayed{driver="nginx",layer="edge",node="e1"} 9.0' in page


@pytest.mark.parametrize("others", [0, 2])
async def test_counts_of_all_workers_add_up(others: int) -> None:
    shown = overview(peers=Peers(others))
    assert (await shown.all_stats())["tasks_in_cache"] == 2 * (1 + others)
    assert (await shown.all_nodes())[0]["acked"] == 3 * (1 + others)
    assert f"purgeline_tasks_done_total {3.0 * (1 + others)}" in (await shown.all_metrics()).decode()


async def test_queues_that_workers_share_are_counted_once() -> None:
    class Cluster:
        def configured(self) -> set[str]:
            return set()

        async def document(self) -> dict[str, Any]:
            return {"mode": "cluster"}

    alone, shared = overview(peers=Peers(1)), overview(peers=Peers(1), cluster=Cluster())
    assert (await alone.all_nodes())[0]["delayed"] == 18
    assert (await shared.all_nodes())[0]["delayed"] == 9
    assert await shared.cluster_document() == {"mode": "cluster"}
    assert await alone.cluster_document() == {"mode": "embedded", "leader": None, "engines": []}


def test_the_version_says_how_long_the_process_serves() -> None:
    document = overview().version_document()
    names = {"version", "revision", "built_at", "python", "compiled", "loop", "pid", "uptime_s"}
    assert set(document) == names
    assert document["uptime_s"] >= 0


def test_unproven_nodes_are_named_with_the_reason_and_those_that_no_probe_can_prove() -> None:
    nodes = {"e1": node(NodeState.UNPROVEN), "e2": node(), "e3": node(needs_pages=True)}
    assert overview(nodes).own_unproven() == {"e1": "gone"}
    assert overview(nodes).own_needing_pages() == [nodes["e3"].name]


async def test_a_node_that_is_rewound_is_catching_up_and_says_what_is_left() -> None:
    plan = SimpleNamespace(steps=[SimpleNamespace(node="e1")])

    def part(created_at: float, state: State, targets: int) -> Any:
        return SimpleNamespace(
            id=f"t-{created_at}",
            rewind="rewind-1",
            created_at=created_at,
            state=state,
            targets=["x"] * targets,
            plan=plan,
            is_lost=False,
            is_committed=True,
        )

    parts = [part(5.0, State.DONE, 1), part(6.0, State.RUNNING, 2), part(6.5, State.ACCEPTED, 3)]
    rewinds = dict(enumerate(parts))
    [shown] = await overview(rewinds=rewinds).own_nodes()
    assert (shown["state"], shown["since"], shown["rewind"]) == ("catching_up", 6.0, "rewind-1")
    assert shown["reason"] == "rewind-1: 5 targets are to be sent once more"
    down = {"e1": node(NodeState.DOWN)}
    [shown] = await overview(down, rewinds=rewinds).own_nodes()
    assert (shown["state"], shown["rewind"]) == ("down", "rewind-1")


async def test_thousands_of_nodes_are_shown_in_many_turns_of_the_loop() -> None:
    """They were made ready in one, and nothing else went on meanwhile."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    shown = await overview({f"e{number}": node() for number in range(10 * AT_ONCE)}).own_nodes()
    counting.cancel()
    assert len(shown) == 10 * AT_ONCE
    assert turns >= 9

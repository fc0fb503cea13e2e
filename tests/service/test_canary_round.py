"""One round of canaries, on scripted caches: what each kind of cache shows, and what is held against whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.config.tables import CanaryConfig
from engine.nodes.canary import Canary, visit
from engine.proof import canary_round
from engine.proof.canary_round import Round, kinds_of
from engine.tasks.words import Kind
from tests.fakes.canary_cache import CanaryCache
from tests.fakes.node import Act, FakeNode, always, answer
from tests.rigs.delivery_rig import rig_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.proof.canary_results import Found
    from tests.fakes.node import Request
    from tests.rigs.delivery_rig import Rig

VALUE = "f" * 32 + "." + "0" * 32  #: of nobody


def own_canary() -> Canary:
    canary = Canary(CanaryConfig())
    canary.key = b"k" * 32
    return canary


async def found_in(rig: Rig, *, timeout_s: float = 5, kind: Kind = Kind.URL) -> dict[str, Found]:
    """Run a round on all nodes of a rig."""
    entrances = {name: node.address for name, node in rig.nodes.items()}
    layers = [[node for node in rig.nodes.values() if node.layer == name] for name in ("parent", "edge")]
    return await Round(own_canary(), entrances, kind, timeout_s=timeout_s).run(layers)


def states(found: dict[str, Found]) -> dict[str, str]:
    return {name: str(one.state) for name, one in found.items()}


async def test_an_edge_is_purged_after_its_parent_serves_the_new_canary_and_each_once(tmp_path: Path) -> None:
    above = CanaryCache()
    below = CanaryCache(above)
    with FakeNode(above) as parent, FakeNode(below) as edge:
        async with rig_of(tmp_path, {"parent-1": parent, "edge-1": edge}) as rig:
            found = await found_in(rig)
            assert states(found) == {"parent-1": "fresh", "edge-1": "fresh"}
            assert all(0 < (one.fresh_s or 0) < 5 for one in found.values())
            assert [method for method, _ in above.seen] == ["GET", "GET", "PURGE", "GET"]
            assert [method for method, _ in below.seen] == ["GET", "GET", "PURGE", "GET"]
            purged = {request.method: request.at for request in edge.requests}["PURGE"]
            assert purged > max(request.at for request in parent.requests)
            assert len({path for _, path in above.seen + below.seen}) == 1


async def test_a_cache_that_acks_and_keeps_is_stale_and_its_edges_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary_round, "PATIENCE_S", 0.1)
    above = CanaryCache()
    above.lies = True
    with FakeNode(above) as parent, FakeNode(CanaryCache(above)) as edge:
        async with rig_of(tmp_path, {"parent-1": parent, "edge-1": edge}) as rig:
            found = await found_in(rig)
            assert states(found) == {"parent-1": "stale", "edge-1": "behind"}
            assert "parent-1 acked the purge of its canary (url)" in found["parent-1"].reason
            assert "parent-1" in found["edge-1"].reason
            assert [request.method for request in edge.requests] == ["GET", "GET"]


async def test_a_cache_that_drops_a_moment_after_its_answer_is_fresh_then(tmp_path: Path) -> None:
    cache = CanaryCache()
    cache.drop_after_s = 0.2
    with FakeNode(cache) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            found = (await found_in(rig))["edge-1"]
            assert (str(found.state), found.fresh_s is not None and found.fresh_s > 0.15) == ("fresh", True)


async def test_a_cache_that_keeps_no_canaries_is_told_apart(tmp_path: Path) -> None:
    cache = CanaryCache()
    cache.stores = False
    with FakeNode(cache) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            assert states(await found_in(rig)) == {"edge-1": "not_cached"}
            assert [method for method, _ in cache.seen] == ["GET", "GET"]  # nothing to purge


@pytest.mark.parametrize(
    "said",
    [
        answer(404, b"no such page"),
        answer(200, b"<html>a parked domain"),
        answer(200, VALUE.encode()),
        answer(302, b"", "Location: http://elsewhere.example.com/"),
    ],
    ids=["not-found", "another-page", "a-value-of-nobody", "redirect"],
)
async def test_a_canary_that_does_not_come_from_an_engine_is_not_routed(tmp_path: Path, said: bytes) -> None:
    cache = CanaryCache()
    cache.answers["GET"] = said
    with FakeNode(cache) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            assert states(await found_in(rig)) == {"edge-1": "not_routed"}
            assert [method for method, _ in cache.seen] == ["GET"]


@pytest.mark.parametrize(
    "said",
    [Act.HANG, answer(503, b""), b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, Act.RESET],
    ids=["hangs", "error", "for-ever", "resets"],
)
async def test_a_cache_without_an_end_of_its_answer_is_unreachable_and_holds_nobody_up(
    tmp_path: Path, said: bytes | Act
) -> None:
    ill = CanaryCache()
    ill.answers["GET"] = said
    with FakeNode(ill) as one, FakeNode(CanaryCache()) as two:
        async with rig_of(tmp_path, {"edge-1": one, "edge-2": two}) as rig:
            found = await found_in(rig, timeout_s=0.4)
            assert states(found) == {"edge-1": "unreachable", "edge-2": "fresh"}


@pytest.mark.parametrize("said", [answer(403), Act.HANG], ids=["refuses", "hangs"])
async def test_a_purge_that_is_not_acked_is_no_stale_cache(tmp_path: Path, said: bytes | Act) -> None:
    cache = CanaryCache()
    cache.answers["PURGE"] = said
    with FakeNode(cache) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            found = (await found_in(rig, timeout_s=0.4))["edge-1"]
            assert str(found.state) == "unpurged"
            assert ("403" if said is not Act.HANG else "0.4 s") in found.reason
            assert rig.queues.total() == 0  # nothing of a canary waits in a delay queue


async def test_a_node_that_goes_down_in_the_middle_is_unreachable_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    class Dying(CanaryCache):
        def __call__(self, request: Request) -> Iterator[bytes | Act]:
            yield from super().__call__(request)
            if request.method == "PURGE":
                self.answers["GET"] = Act.RESET

    with FakeNode(Dying()) as one, FakeNode(CanaryCache()) as two:
        async with rig_of(tmp_path, {"edge-1": one, "edge-2": two}) as rig:
            found = await found_in(rig)
            assert states(found) == {"edge-1": "unreachable", "edge-2": "fresh"}
            assert "after its purge" in found["edge-1"].reason


async def test_a_paused_node_is_not_visited(tmp_path: Path) -> None:
    cache = CanaryCache()
    with FakeNode(cache) as edge:
        async with rig_of(tmp_path, {"edge-1": edge}) as rig:
            rig.node("edge-1").health.pause("paused by ops", 0)
            found = (await found_in(rig))["edge-1"]
            assert (str(found.state), "paused by ops" in found.reason) == ("unreachable", True)
            assert cache.seen == []


async def test_a_parent_that_cannot_do_a_kind_is_purged_by_url_for_its_edges(tmp_path: Path) -> None:
    class Banning(CanaryCache):
        def __call__(self, request: Request) -> Iterator[bytes | Act]:
            if request.method == "BAN":
                self.kept.clear()
            yield from super().__call__(request)

    above = CanaryCache()
    below = Banning(above)
    with FakeNode(above) as parent, FakeNode(below) as edge:
        nodes = {"parent-1": parent, "edge-1": edge}
        async with rig_of(tmp_path, nodes, {"edge-1": {"driver": "varnish"}}) as rig:
            assert kinds_of(rig.node("parent-1")) == [Kind.URL]
            found = await found_in(rig, kind=Kind.HOST)
            assert states(found) == {"parent-1": "fresh", "edge-1": "fresh"}
            assert (above.seen[2][0], below.seen[2][0]) == ("PURGE", "BAN")


async def test_a_value_in_a_hostile_answer_is_no_canary(tmp_path: Path) -> None:
    """Whatever comes back, only what an engine of this store made counts, and only in the body of a 200."""
    canary = own_canary()
    value = canary.mint()
    for said in (
        answer(404, value.encode()),
        answer(200, b"", f"X-Said: {value}"),
        answer(200, value.replace(".", "\r\n").encode()),
        answer(200, b"\0" * 2048),
    ):
        with FakeNode(always(said)) as node:
            async with rig_of(tmp_path, {"edge-1": node}) as rig:
                seen = await visit(rig.node("edge-1").address, canary, canary.url("x"), value, timeout_s=5)
                assert (seen.value, seen.is_down) == ("", False)

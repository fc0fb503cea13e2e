"""A root whose link to its region is cut: no purge is acked for what the region did for another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.tree.words import TASKS
from tests.fakes.node import OK, Act, FakeNode, Request
from tests.rigs.cut_link import CutLink
from tests.rigs.engine_process import fake_table, layer_tables
from tests.rigs.supervised_engine import SupervisedEngine
from tests.rigs.tree import engine_in, region_table, wait_state
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.rigs.engine_process import EngineProcess

URL = "http://img.example.com/"


@pytest.fixture
def edges() -> Iterator[tuple[FakeNode, FakeNode]]:
    with FakeNode() as one, FakeNode() as two:
        yield one, two


@pytest.fixture
def region(tmp_path: Path, edges: tuple[FakeNode, FakeNode]) -> Iterator[EngineProcess]:
    tables = fake_table(edges[0].url, name="edge-1") + fake_table(edges[1].url, name="edge-2")
    with engine_in(tmp_path, tables, name="eu") as engine:
        yield engine


@pytest.mark.slow
def test_purges_behind_a_cut_link_reach_the_leaves_after_they_were_accepted(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """The region did the first one, and its answer was lost; those of both workers that came later count."""
    (tmp_path / "root").mkdir()
    with CutLink(region) as link:
        tables = region_table(region, name="eu", url=link.url)
        with SupervisedEngine(tmp_path / "root", tables, workers=2, name="root") as root:
            wait_state(root, "eu", "ready")
            link.cut_by = TASKS
            first = root.submit([URL + "1"], due_s=600)
            wait_until(lambda: all(URL + "1" in edge.urls for edge in edges), what="the first one")
            region.wait_for(first, "done")
            link.cut_by = ""
            later = [root.submit([URL + "1"], due_s=600) for _ in range(6)]
            for task in (first, *later):
                root.wait_for(task, "partial")
            before = [len(edge.urls) for edge in edges]
            link.is_cut = False
            for task in (first, *later):
                root.wait_for(task, "done", timeout_s=60)
            assert [len(edge.urls) > count for edge, count in zip(edges, before, strict=True)] == [True] * 2


@pytest.mark.slow
def test_a_purge_of_all_leaves_is_not_acked_by_one_of_a_single_leaf(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with CutLink(region) as link:
        tables = region_table(region, name="eu", url=link.url)
        with engine_in(tmp_path, tables, name="root") as root:
            edges[0].stop()
            narrow = root.submit([URL + "1"], nodes=["eu/edge-1"], due_s=600)
            root.wait_for(narrow, "partial")
            link.is_cut = True
            wide = root.submit([URL + "1"], due_s=600)
            root.wait_for(wide, "partial")
            edges[0].start()
            region.wait_for(narrow, "done")
            link.is_cut = False
            for task in (narrow, wide):
                root.wait_for(task, "done", timeout_s=60)
            assert edges[1].urls == [URL + "1"]


@pytest.mark.slow
@pytest.mark.parametrize("rebound_s", [0, 1])
def test_a_region_behind_a_shield_that_was_away_is_purged_again_after_it(
    tmp_path: Path, rebound_s: float
) -> None:
    """Until then its leaf may have fetched the old object from that."""
    order: list[str] = []

    def noting(name: str) -> FakeNode:
        def script(request: Request) -> Iterator[bytes | Act]:
            if request.url == URL + "1":
                order.append(name)
            yield OK

        return FakeNode(script)

    with noting("shield") as shield, noting("leaf") as leaf:
        tables = fake_table(leaf.url, name="edge-1")
        with engine_in(tmp_path, tables, name="eu") as eu:
            above = layer_tables("shield", "edge") + fake_table(shield.url, name="shield", layer="shield")
            with engine_in(tmp_path, above + region_table(eu, name="eu"), name="root") as root:
                shield.stop()
                task = root.submit([URL + "1"], rebound_s=rebound_s, due_s=600)
                root.wait_for(task, "partial")
                wait_until(lambda: "leaf" in order, what="the early purge")
                shield.start()
                root.wait_for(task, "done", timeout_s=60)
                assert order[-1] == "leaf"
                assert order.index("shield") > order.index("leaf")

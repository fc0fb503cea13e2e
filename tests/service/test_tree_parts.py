"""What a region gets in parts, later: narrow as its rows, cancelled with its task, told of, given up."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.fakes.node import FakeNode
from tests.rigs.engine_process import fake_table, layer_tables
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


def parts_of(region: EngineProcess, task: str) -> dict[str, str]:
    """Return the tasks that a region has of one of the root, with their states."""
    told = region.get("/v1/engine/tasks?limit=100")["tasks"]
    return {one["task_id"]: one["state"] for one in told if one["task_id"].startswith(task)}


def test_a_cancel_reaches_parts_of_which_the_root_knows_nothing_any_more(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """The region got its rows as a part, and the root was restarted after that."""
    edges[1].stop()
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        region.stop()
        task = root.submit([URL + "1", URL + "2"], due_s=600)
        root.wait_for(task, "partial")
        region.start()
        wait_until(lambda: "partial" in parts_of(region, task).values(), what="the part")
        [part] = parts_of(region, task)
        assert part.startswith(f"{task}~")
        root.kill()
        root.start()
        assert root.request("DELETE", f"/v1/engine/task/{task}")[0] == 200
        region.wait_for(part, "cancelled")
        edges[1].start()
        wait_state(region, "edge-2", "ready")
        assert edges[1].urls == []


def test_what_is_cancelled_in_the_region_itself_is_done_all_the_same(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """No client of the root wants less of it: the root tells what happened, and hands it down once more."""
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        edges[1].stop()
        task = root.submit([URL + "1"])
        root.wait_for(task, "partial")
        assert region.request("DELETE", f"/v1/engine/task/{task}")[0] == 200

        def why() -> bool:
            told = root.task(task)
            assert told["failed"] == 0
            return any("was cancelled there" in error["reason"] for error in told["errors"])

        wait_until(why, what="the reason")
        edges[1].start()
        root.wait_for(task, "done")
        assert edges[1].urls == [URL + "1"]


def test_what_comes_late_goes_to_the_leaves_that_its_tasks_are_for(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """It went to all leaves of a region that was away: a row knows no leaf."""
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        region.stop()
        narrow = root.submit([URL + "1", URL + "2"], nodes=["eu/edge-2"])
        wide = root.submit([URL + "2"])
        for task in (narrow, wide):
            root.wait_for(task, "partial")
        region.start()
        for task in (narrow, wide):
            root.wait_for(task, "done")
        assert set(edges[0].urls) == {URL + "2"}
        assert set(edges[1].urls) == {URL + "1", URL + "2"}


def test_leaves_that_are_left_out_are_named_at_the_root_early_and_late(tmp_path: Path) -> None:
    """The root said ``done``, and nothing of the leaf that cannot do it."""
    with FakeNode() as able, FakeNode() as unable:
        tables = fake_table(able.url, name="edge-1") + fake_table(unable.url, name="edge-2", driver="squid")
        with (
            engine_in(tmp_path, tables, name="eu", on_incapable="skip") as region,
            engine_in(tmp_path, region_table(region, name="eu"), name="root") as root,
        ):
            early = root.wait_for(root.submit([URL + "old/.*"], kind="regex"), "done")
            region.stop()
            late = root.submit([URL + "late/.*"], kind="regex")
            root.wait_for(late, "partial")
            region.start()
            for told in (early, root.wait_for(late, "done")):
                [skipped] = told["skipped"]
                assert skipped["name"] == "eu/edge-2"
                assert "cannot purge by regex" in skipped["reason"]


def test_what_a_region_holds_for_too_long_is_asked_for_before_it_fails(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """The text said that it had not been sent."""
    with engine_in(tmp_path, region_table(region, name="eu"), name="root", delay_ttl_s=4) as root:
        edges[1].stop()
        task = root.submit([URL + "1"])
        root.wait_for(task, "partial")
        failed = root.wait_for(task, "failed", timeout_s=60)
        assert failed["errors"][-1]["reason"].startswith("held below, or never taken: eu told of no end in ")


def test_a_layer_of_a_region_is_named_by_the_way_to_it_early_and_late(tmp_path: Path) -> None:
    with FakeNode() as shield, FakeNode() as leaf:
        tables = layer_tables("shield", "edge") + fake_table(shield.url, name="s-1", layer="shield")
        with (
            engine_in(tmp_path, tables + fake_table(leaf.url, name="edge-1"), name="eu") as region,
            engine_in(tmp_path, region_table(region, name="eu"), name="root") as root,
        ):
            root.wait_for(root.submit([URL + "1"], layers=["eu/shield"]), "done")
            region.stop()
            late = root.submit([URL + "2"], layers=["eu/shield"])
            root.wait_for(late, "partial")
            region.start()
            root.wait_for(late, "done")
        assert (shield.urls, leaf.urls) == ([URL + "1", URL + "2"], [])


def _refused(root: EngineProcess, **names: list[str]) -> str:
    status, _, problem = root.request("POST", "/v1/engine/task", {"targets": [URL + "x"], **names})
    assert status == 422, problem
    return str(json.loads(problem)["detail"])


def _is_taken(root: EngineProcess, body: object) -> bool:
    return root.request("POST", "/v1/engine/task", body)[0] == 202


def test_layers_and_groups_are_meant_in_every_region_and_unknown_names_are_refused(tmp_path: Path) -> None:
    with FakeNode() as shield, FakeNode() as leaf, FakeNode() as other:
        tables = layer_tables("shield", "edge") + fake_table(shield.url, name="s-1", layer="shield")
        tables += fake_table(leaf.url, name="edge-1", groups=["canary"])
        with (
            engine_in(tmp_path, tables, name="eu") as eu,
            engine_in(tmp_path, fake_table(other.url, name="edge-1"), name="us") as us,
            engine_in(
                tmp_path, region_table(eu, name="eu") + region_table(us, name="us"), name="root"
            ) as root,
        ):
            seen = (shield, leaf, other)
            for names, urls in (
                ({"layers": ["shield"]}, (["1"], [], [])),
                ({"layers": ["edge"]}, ([], ["2"], ["2"])),
                ({"groups": ["canary"]}, ([], ["3"], [])),
                ({"groups": ["eu/canary"], "layers": ["edge"]}, ([], ["4"], [])),
                ({}, (["5"], ["5"], ["5"])),
            ):
                target = next(url for told in urls for url in told)
                body = {"targets": [URL + target], "id": f"t-{target}", **names}
                wait_until(partial(_is_taken, root, body), what="names")
                root.wait_for(f"t-{target}", "done")
                assert [[url for url in edge.urls if url == URL + target] for edge in seen] == [
                    [URL + url for url in told] for told in urls
                ]
            wait_until(lambda: root.get("/v1/engine/nodes")["nodes"][0]["leaves"]["current"], what="leaves")
            assert "did you mean 'edge'" in _refused(root, layers=["egde"])
            assert "known: edge, shield" in _refused(root, layers=["nothing"])
            assert "'nothing' is not configured below eu; known: edge, shield" in _refused(
                root, layers=["eu/nothing"]
            )
            assert "'canary' is not configured below us; known: none" in _refused(root, groups=["us/canary"])
            assert "did you mean 'edge-1'" in _refused(root, nodes=["us/edge-2"])
            assert "no node is in all of layers, groups" in _refused(
                root, layers=["shield"], groups=["canary"]
            )
            rows = root.get("/v1/engine/nodes?leaves=1")["leaves"]
            assert {row["name"]: row["groups"] for row in rows if row["groups"]} == {"eu/edge-1": ["canary"]}

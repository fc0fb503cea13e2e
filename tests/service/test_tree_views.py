"""What an operator sees and does through a tree of real engines: nodes, tasks, why, history, pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from release.lab.caches import available, start_varnish
from release.lab.origin import Origin
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import fake_table, get_body, node_table
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


def _leaves(engine: EngineProcess, **states: int) -> dict[str, Any]:
    """Wait until the region's leaves are in these states; return what is told of them."""

    def told() -> dict[str, Any] | None:
        leaves: dict[str, Any] = engine.node("eu")["leaves"]
        return leaves if leaves["states"] == states else None

    found = wait_until(told, timeout_s=30, what=f"leaves that are {states}")
    assert found is not None
    return found


def test_the_root_shows_a_region_with_its_leaves_folded(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        well = _leaves(root, ready=2)
        assert (well["count"], well["worst"], well["current"], well["error"]) == (2, None, True, "")
        assert well["learned_at"] > 0
        edges[1].stop()
        root.submit([URL + "1"])
        bad = _leaves(root, ready=1, down=1)
        assert bad["worst"]["name"] == "eu/edge-2"
        assert bad["worst"]["reason"]
        rows = root.get("/v1/engine/nodes?leaves=1")["leaves"]
        assert [(row["name"], row["state"], row["region"]) for row in rows] == [
            ("eu/edge-1", "ready", "eu"),
            ("eu/edge-2", "down", "eu"),
        ]
        page = root.request("GET", "/metrics")[2].decode()
        assert 'purgeline_leaves{region="eu",state="down"} 1.0' in page
        region.kill()
        root.submit([URL + "2"])
        wait_state(root, "eu", "down")
        last = root.node("eu")["leaves"]
        assert (last["current"], last["states"]) == (False, {"ready": 1, "down": 1})
        assert not any(row["current"] for row in root.get("/v1/engine/nodes?leaves=1")["leaves"])


def test_leaves_of_a_task_their_history_and_their_pauses_are_asked_of_the_region(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        done = root.submit([URL + "1"])
        root.wait_for(done, "done")
        document = root.get(f"/v1/engine/task/{done}?leaves=1")
        [eu] = document["regions"]
        assert (eu["name"], eu["state"], eu["leaves"], eu["total"], eu["acked"]) == ("eu", "done", 2, 2, 2)
        assert [(leaf["name"], leaf["acked"]) for leaf in document["leaves"]] == [
            ("eu/edge-1", 1),
            ("eu/edge-2", 1),
        ]
        page = root.get("/v1/engine/history?node=eu/edge-1")
        assert [task["task_id"] for task in page["tasks"]] == [done]
        assert {node["name"] for node in page["tasks"][0]["nodes"]} == {"eu/edge-1", "eu/edge-2"}

        status, _, body = root.request("POST", "/v1/engine/nodes/eu%2Fedge-2/pause")
        assert status == 200, body
        assert region.node("edge-2")["state"] == "paused"
        assert "for anonymous at root" in region.log()
        held = root.submit([URL + "2"])
        reason = root.wait_for(held, "partial")["errors"][0]["reason"]
        assert "eu/edge-2" in reason
        root.request("POST", "/v1/engine/nodes/eu%2Fedge-2/resume")
        root.wait_for(held, "done")
        status, _, body = root.request("POST", "/v1/engine/nodes/asia%2Fedge-2/pause")
        assert (status, b"'asia' is no node of this engine that is an engine itself (eu)" in body) == (
            404,
            True,
        )
        status, _, body = root.request("POST", "/v1/engine/nodes/eu%2Fnone/pause")
        assert (status, b"eu: answered 404:" in body) == (404, True)

        region.kill()
        [eu] = root.get(f"/v1/engine/task/{done}?leaves=1")["regions"]
        assert eu["error"].startswith(f"http://127.0.0.1:{region.port} cannot be reached")
        why = root.get(f"/v1/engine/why?url={URL}1")
        assert why["conclusion"] == "unreachable"
        assert why["sentence"].startswith("nobody knows what the caches below eu serve")


@pytest.mark.real
@pytest.mark.skipif("varnish" not in available(), reason="Varnish is not installed")
def test_why_at_the_root_names_the_region_and_the_leaf_that_serves_the_old_page(tmp_path: Path) -> None:
    with Origin() as origin, start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache:
        tables = node_table(cache, name="edge-1")
        tables += f'[[origin]]\nhost = "img.example.com"\nurl = "{origin.url}"\n'
        with (
            engine_in(tmp_path, tables, name="eu") as eu,
            engine_in(tmp_path, region_table(eu, name="eu"), name="root") as root,
        ):
            get_body(cache, "/page")
            fresh = root.get(f"/v1/engine/why?url={URL}page")
            assert (fresh["conclusion"], [node["name"] for node in fresh["nodes"]]) == (
                "fresh",
                ["eu/edge-1"],
            )
            origin.version = "v2"
            old = root.get(f"/v1/engine/why?url={URL}page")
            assert old["conclusion"] == "never_purged"
            assert old["sentence"].startswith("eu/edge-1 still serves ")
            assert "no purge of the page on eu/edge-1; next: " in old["sentence"]
            assert old["regions"][0]["sentence"] == old["sentence"]
            root.wait_for(root.submit([URL + "page"]), "done")
            assert root.get(f"/v1/engine/why?url={URL}page")["conclusion"] == "not_cached"

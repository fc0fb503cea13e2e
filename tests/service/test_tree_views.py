"""What an operator sees and does through a tree of real engines: nodes, tasks, why, history, pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.node import FakeNode
from tests.rigs.engine_process import fake_table
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

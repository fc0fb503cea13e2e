"""A tree whose engines are of two versions: this one, and the last before groups (version 2 of the protocol).

A clone without that commit (``git clone --depth``) skips the tests: ``git fetch --unshallow`` brings it.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.node import FakeNode
from tests.model.fleet.rounds import checkout_of
from tests.rigs.engine_process import ROOT, EngineProcess, fake_table, layer_tables
from tests.rigs.tree import engine_in, region_table, wait_state
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://img.example.com/"
OLD = "b4582fa5"


def _has_old() -> bool:
    words = ["git", "cat-file", "-e", f"{OLD}^{{commit}}"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _has_old(), reason=f"{OLD} is not in this clone: git fetch --unshallow"),
]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout of the version before, with this one's environment."""
    folder = tmp_path_factory.mktemp("old")
    if not checkout_of(OLD, folder, installs=False):
        pytest.skip(f"{OLD} needs other packages than this version")
    return folder


def tables_of(shield: FakeNode, edge: FakeNode, **extra: Any) -> str:
    tables = layer_tables("shield", "edge") + fake_table(shield.url, name="s-1", layer="shield")
    return tables + fake_table(edge.url, name="edge-1", **extra)


def refused(root: EngineProcess, **names: list[str]) -> str:
    status, _, problem = root.request("POST", "/v1/engine/task", {"targets": [URL + "x"], **names})
    assert status == 422, problem
    return str(json.loads(problem)["detail"])


def test_an_older_region_below_this_root_is_purged_asked_cancelled_and_brought_up(
    tmp_path: Path, old: Path
) -> None:
    with FakeNode() as shield, FakeNode() as edge:
        region = engine_in(tmp_path, tables_of(shield, edge), name="eu", checkout=old)
        with region, engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
            wait_until(lambda: root.node("eu")["leaves"]["current"], what="its leaves")
            root.wait_for(root.submit([URL + "all"]), "done")
            root.wait_for(root.submit([URL + "layer"], layers=["shield"]), "done")
            root.wait_for(root.submit([URL + "leaf"], nodes=["eu/edge-1"]), "done")
            assert shield.urls == [URL + "all", URL + "layer"]
            assert edge.urls == [URL + "all", URL + "leaf"]
            assert "'canary' is not configured; known: none" in refused(root, groups=["canary"])
            edge.stop()
            held, taken_back = (root.submit([URL + name], due_s=600) for name in ("held", "taken"))
            for task in (held, taken_back):
                root.wait_for(task, "partial")
            assert root.request("DELETE", f"/v1/engine/task/{taken_back}")[0] == 200
            region.wait_for(taken_back, "cancelled")
            assert root.get(f"/v1/engine/why?url={URL}all")["nodes"]
            region.stop()
            region._checkout = ROOT
            region.configure(tables_of(shield, edge, groups=["canary"]))
            region.start()
            edge.start()
            root.wait_for(held, "done", timeout_s=60)
            wait_until(
                lambda: "canary" in str(root.get("/v1/engine/nodes?leaves=1")["leaves"]), what="its groups"
            )
            root.wait_for(root.submit([URL + "group"], groups=["canary"]), "done")
            assert URL + "group" in edge.urls
            assert URL + "group" not in shield.urls
            assert edge.urls.count(URL + "held") == 1


def test_this_version_below_an_older_root_is_purged_at_once_and_late(tmp_path: Path, old: Path) -> None:
    with FakeNode() as shield, FakeNode() as edge:
        region = engine_in(tmp_path, tables_of(shield, edge, groups=["canary"]), name="eu")
        with region:
            root = engine_in(tmp_path, region_table(region, name="eu"), name="root", checkout=old)
            with root:
                wait_until(lambda: root.node("eu")["leaves"]["current"], what="its leaves")
                root.wait_for(root.submit([URL + "all"]), "done")
                root.wait_for(root.submit([URL + "layer"], layers=["eu/edge"]), "done")
                region.stop()
                late = root.submit([URL + "late"], nodes=["eu/edge-1"])
                root.wait_for(late, "partial")
                root.stop()  # and what it has stored is read by this version
                root._checkout = ROOT
                root.start()
                region.start()
                root.wait_for(late, "done", timeout_s=60)
                wait_state(root, "eu", "ready")
                assert edge.urls == [URL + "all", URL + "layer", URL + "late"]
                assert shield.urls == [URL + "all"]

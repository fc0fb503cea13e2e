"""What an operator sees and does through a tree of real engines: nodes, tasks, why, history, pauses."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from engine.config.load import load
from engine.tree.inspection import inspect_engine
from release.lab.caches import available, start_varnish
from release.lab.origin import Origin
from tests.fakes.node import OK, FakeNode, always, answer
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


@pytest.mark.slow
def test_three_levels_are_seen_asked_and_ordered_from_the_root(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with (
        engine_in(tmp_path, region_table(region, name="fr"), name="mid") as mid,
        engine_in(tmp_path, region_table(mid, name="eu"), name="root") as root,
    ):
        _leaves(root, ready=2)
        edges[1].stop()
        task = root.submit([URL + "1"])
        reason = root.wait_for(task, "partial")["errors"][0]["reason"]
        assert reason.startswith("held below: eu/fr/edge-2: unreachable: ")
        assert _leaves(root, ready=1, down=1)["worst"]["name"] == "eu/fr/edge-2"
        rows = root.get(f"/v1/engine/task/{task}?leaves=1")["leaves"]
        assert [(row["name"], row["acked"], row["delayed"]) for row in rows] == [
            ("eu/fr/edge-1", 1, 0),
            ("eu/fr/edge-2", 0, 1),
        ]
        why = root.get(f"/v1/engine/why?url={URL}1")
        assert why["sentence"].startswith("eu/fr/edge-2 gave visitors no answer")
        assert root.request("POST", "/v1/engine/nodes/eu%2Ffr%2Fedge-1/pause")[0] == 200
        assert region.node("edge-1")["state"] == "paused"
        assert "for anonymous at root > mid" in region.log()
        page = root.get("/v1/engine/history?node=eu/fr/edge-2")
        assert [one["task_id"] for one in page["tasks"]] == [task]
        region.kill()
        assert root.get(f"/v1/engine/why?url={URL}1")["conclusion"] == "unreachable"


@pytest.mark.slow
def test_the_commands_of_docs_tree_do_what_the_page_says(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:

        def run(*words: str, code: int = 0) -> str:
            told = subprocess.run(
                [sys.executable, "-m", "engine", *words],
                env={**os.environ, "PURGELINE_URL": f"http://127.0.0.1:{root.port}"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert told.returncode == code, (words, told.stdout, told.stderr)
            return told.stdout

        _leaves(root, ready=2)
        task = root.submit([URL + "1"])
        root.wait_for(task, "done")
        assert "ready:2" in run("nodes")
        assert "\nleaf eu/edge-1 " in run("nodes", "--leaves")
        assert "2 ready" in run("nodes", "--human")
        assert "region eu done 2 2 2 0 0 0 " in run("status", task, "--leaves")
        assert "node eu/edge-1 " in run("why", f"{URL}1", code=1)
        assert task in run("history", f"{URL}1")
        assert "eu/edge-1 acked" in run("history", "--node", "eu/edge-1")
        assert "paused true" in run("pause", "eu")
        run("resume", "eu")
        assert "node eu/edge-1\npaused true" in run("pause", "eu/edge-1")
        run("resume", "eu/edge-1")
        assert "targets 1" in run("rewind", "--node", "eu/edge-1", "--since", "6h")
        assert "proven" in run("check-nodes", "--config", str(tmp_path / "root/engine.toml"))


@pytest.mark.slow
def test_tokens_see_their_own_sites_and_order_nothing_without_the_scope_on_both_sides(
    tmp_path: Path, edges: tuple[FakeNode, FakeNode]
) -> None:
    site = '[[site]]\nhost = "*.example.com"\n'
    below = site + fake_table(edges[0].url, name="edge-1") + _token("root", "secret", ["submit", "read"])
    above = site + _token("shop", "shop", ["submit", "read"], sites=["img.example.com"])
    above += _token("ops", "ops", ["submit", "read", "admin"])
    with engine_in(tmp_path, below, name="eu") as eu:
        ask = {"Authorization": "Bearer secret"}
        keys = [key["x"] for key in json.loads(eu.request("GET", "/v1/engine/keys", headers=ask)[2])["keys"]]
        tables = region_table(eu, name="eu", token="secret", public_keys=keys) + above
        with engine_in(tmp_path, tables, name="root") as root:
            ops, shop = {"Authorization": "Bearer ops"}, {"Authorization": "Bearer shop"}

            def get(path: str, headers: dict[str, str]) -> tuple[int, Any]:
                status, _, body = root.request("GET", path, headers=headers)
                return status, json.loads(body)

            body = {"targets": [URL + "1"]}
            others = json.loads(root.request("POST", "/v1/engine/task", body, ops)[2])["task_id"]
            wait_until(lambda: get(f"/v1/engine/task/{others}", ops)[1]["state"] == "done", what="the ack")
            assert get(f"/v1/engine/task/{others}?leaves=1", shop)[0] == 404
            assert len(get(f"/v1/engine/task/{others}?leaves=1", ops)[1]["leaves"]) == 1
            status, why = get(f"/v1/engine/why?url={URL}1", shop)
            assert (status, others in json.dumps(why)) == (200, False)
            assert get("/v1/engine/why?url=http://other.example.com/", shop)[0] == 422
            assert get("/v1/engine/history?node=eu/edge-1", shop)[0] == 403
            assert len(get("/v1/engine/history?node=eu/edge-1", ops)[1]["tasks"]) == 1
            pause = "/v1/engine/nodes/eu%2Fedge-1/pause"
            assert root.request("POST", pause, headers=shop)[0] == 403
            status, _, said = root.request("POST", pause, headers=ops)
            assert status == 502
            assert b"needs the scope admin there" in said
            assert (
                json.loads(eu.request("GET", "/v1/engine/nodes", headers=ask)[2])["nodes"][0]["state"]
                != "paused"
            )


def _token(name: str, secret: str, scopes: list[str], *, sites: list[str] | None = None) -> str:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    table = f"[[auth.tokens]]\nname = {json.dumps(name)}\nsha256 = {json.dumps(digest)}\n"
    table += f"scopes = {json.dumps(scopes)}\n"
    return table + (f"sites = {json.dumps(sites)}\n" if sites else "")


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
        config = load(tmp_path / "root/engine.toml")
        finding = asyncio.run(inspect_engine(config.node[0], config.engine))
        assert (finding.verdict, "the engine eu (" in finding.why) == ("proven", True)
        well = _leaves(root, ready=2)
        assert (well["count"], well["worst"], well["current"], well["error"]) == (2, None, True, "")
        assert well["learned_at"] > 0
        assert b"proven" in root.request("POST", "/v1/engine/nodes/eu/check")[2]
        assert b"eu/edge-1" in root.request("POST", "/v1/engine/nodes/eu%2Fedge-1/check")[2]
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
        assert asyncio.run(inspect_engine(config.node[0], config.engine)).verdict == "unreachable"
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


def test_what_failed_at_a_leaf_is_retried_at_the_root_and_for_that_leaf_alone(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """The region knows what went there; a retry of a task for one leaf went to all of them."""
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        edges[1].script = always(answer(400))
        own = region.submit([URL + "own"], nodes=["edge-2"])
        narrow = root.submit([URL + "narrow"], nodes=["eu/edge-2"])
        wide = root.submit([URL + "wide"])
        for engine, task in ((region, own), (root, narrow), (root, wide)):
            engine.wait_for(task, "failed")
        edges[1].script = always(OK)

        def retries(query: str = "", node: str = "eu/edge-2") -> dict[str, Any]:
            status, _, body = root.request("POST", f"/v1/engine/retries{query}", {"node": node})
            assert status == 200, body
            return dict(json.loads(body))

        def told() -> dict[str, Any] | None:
            said = retries("?dry_run=1")
            return said if len(said["tasks"]) == 2 else None

        wait_until(told, what="the region's history")
        said = retries()
        assert {one["retries"] for one in said["tasks"]} == {narrow, wide}
        assert [one["task_id"] for one in said["not_retried"]] == [own]
        assert "it was handed in at eu itself" in said["not_retried"][0]["reason"]
        for one in said["tasks"]:
            root.wait_for(one["task_id"], "done")
        assert edges[0].urls == [URL + "wide"] * 2, "what was for the other leaf alone did not come"
        assert retries(node="eu/edge-1")["tasks"] == []
        status, _, problem = root.request("POST", "/v1/engine/retries", {"node": "us/edge-1"})
        assert (status, b"'us' is no node of this engine" in problem) == (404, True)

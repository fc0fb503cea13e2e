"""A root and a region, both real engines: what is handed down, what comes back up, and what goes wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from release.lab.caches import available, start_varnish
from release.lab.origin import Origin
from tests.fakes.node import Act, FakeNode, always, answer
from tests.rigs.engine_process import fake_table, get_body, node_table
from tests.rigs.proof_rig import Cachelet
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


def test_a_purge_at_the_root_is_done_when_all_leaves_of_the_region_acked(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        task = root.submit([URL + "1", URL + "2"])
        done = root.wait_for(task, "done")
        assert (done["total"], done["counter"]) == (2, 2)
        assert [sorted(edge.urls) for edge in edges] == [[URL + "1", URL + "2"]] * 2
        assert root.node("eu")["evidence"] == "signature"
        below = region.task(task)
        assert (below["total"], below["state"]) == (4, "done")
        assert below["by"]["path"].startswith("root~")


def test_a_leaf_that_is_away_holds_the_regions_part_and_its_late_delivery_makes_the_task_done(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        edges[1].stop()
        task = root.submit([URL + "1"])
        held = root.wait_for(task, "partial")
        assert (held["counter"], held["delayed"]) == (0, 1)
        [error] = held["errors"]
        assert error["node"] == "eu"
        assert error["reason"].startswith("held below: eu/edge-2: unreachable:")
        assert root.node("eu")["state"] == "ready"
        other = root.submit([URL + "2"])  # one leaf that is away keeps nothing from the others
        root.wait_for(other, "partial")
        assert edges[0].urls == [URL + "1", URL + "2"]
        edges[1].start()
        assert root.wait_for(task, "done")["errors"] == []
        root.wait_for(other, "done")
        assert [sorted(edge.urls) for edge in edges] == [[URL + "1", URL + "2"]] * 2


@pytest.mark.slow
def test_a_region_that_is_killed_gets_what_came_meanwhile_when_it_is_back(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        region.kill()
        task = root.submit([URL + "1"])
        reason = root.wait_for(task, "partial")["errors"][0]["reason"]
        assert reason.startswith(f"unreachable: http://127.0.0.1:{region.port} cannot be reached: ")
        region.start()
        root.wait_for(task, "done")
        assert [edge.urls for edge in edges] == [[URL + "1"]] * 2
        wait_state(root, "eu", "ready")


@pytest.mark.slow
def test_a_root_that_is_killed_while_the_region_works_hands_nothing_down_twice(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        edges[1].stop()
        task = root.submit([URL + "1"], due_s=600)
        root.wait_for(task, "partial")
        root.kill()
        edges[1].start()
        region.wait_for(task, "done")
        root.start()
        assert root.wait_for(task, "done")["counter"] == 1
        assert [edge.urls for edge in edges] == [[URL + "1"]] * 2


def test_a_region_with_another_key_than_the_nodes_is_unproven(tmp_path: Path, region: EngineProcess) -> None:
    others = region_table(region, name="eu", public_keys=["A" * 43])
    with engine_in(tmp_path, others, name="root") as root:
        task = root.submit([URL + "1"])
        reason = root.wait_for(task, "partial")["errors"][0]["reason"]
        assert "none of its public_keys" in reason
        assert wait_state(root, "eu", "unproven")["evidence"] == "none"
        assert root.task(task)["counter"] == 0


@pytest.mark.slow
def test_engines_that_are_nodes_of_each_other_refuse_the_loop_and_say_its_path(tmp_path: Path) -> None:
    one, two = engine_in(tmp_path, "", name="one"), engine_in(tmp_path, "", name="two")
    for engine in (one, two):
        engine.start()
    tables = {engine: region_table(engine, name="other") for engine in (one, two)}
    for engine, other in ((one, two), (two, one)):
        engine.stop()
        engine.configure(tables[other])
    with one, two:
        task = one.submit([URL + "1"])

        def looped() -> str | None:
            return next((e["reason"] for e in one.task(task)["errors"] if "loop" in e["reason"]), None)

        reason = wait_until(looped, what="the loop being told")
        assert "loop: two > one > two:" in (reason or "") or "loop: one > two > one:" in (reason or "")
        assert one.task(task)["counter"] == 0


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif("varnish" not in available(), reason="Varnish is not installed")
def test_three_levels_purge_a_real_cache(tmp_path: Path) -> None:
    with Origin() as origin, start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache:
        tables = node_table(cache, name="edge-1")
        with (
            engine_in(tmp_path, tables, name="fr") as fr,
            engine_in(tmp_path, region_table(fr, name="fr"), name="eu") as eu,
            engine_in(tmp_path, region_table(eu, name="eu"), name="root") as root,
        ):
            old = get_body(cache, "/page")
            origin.version = "v2"
            assert get_body(cache, "/page") == old
            task = root.submit([URL + "page"])
            assert root.wait_for(task, "done")["counter"] == 1
            assert get_body(cache, "/page") != old
            path = fr.task(task)["by"]["path"].split(",")
            assert [entry.partition("~")[0] for entry in path] == ["root", "eu"]


def test_what_is_cancelled_at_the_root_is_cancelled_in_the_region(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """While it is on its way there, and when the region holds it and the root has rows of it alone."""
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        edges[1].script = always(Act.HANG)
        running = root.submit([URL + "1"])
        wait_until(lambda: edges[0].urls, what="the other leaf")
        assert root.request("DELETE", f"/v1/engine/task/{running}")[0] == 200
        region.wait_for(running, "cancelled")
        edges[1].stop()
        held = root.submit([URL + "2"])
        root.wait_for(held, "partial")
        assert root.request("DELETE", f"/v1/engine/task/{held}")[0] == 200
        region.wait_for(held, "cancelled")
        for task in (running, held):
            assert root.wait_for(task, "cancelled")["cancelled"] == 1


@pytest.mark.slow
def test_an_id_that_the_root_uses_again_is_another_task_of_the_region(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """The region remembers the first one for longer than the root, and has done it: that acks nothing now."""
    tables = region_table(region, name="eu")
    for times in (1, 2):
        with engine_in(tmp_path, tables, name=f"root-{times}") as root:  # one that has forgotten, the second
            time.sleep(1.2)  # clocks may be off by a second
            root.submit([URL + "1"], id="deploy-7", due_s=5)
            root.wait_for("deploy-7", "done")
            assert edges[0].urls == [URL + "1"] * times


def test_an_id_that_a_client_of_the_region_took_first_with_the_same_body_is_no_loop(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """The region answers that it knows the task, and tells nothing of it: it was not handed down."""
    line = {"id": "guess", "targets": [URL + "1"], "kind": "url", "due_s": 60, "confirm": True}
    assert region.request("POST", "/v1/engine/task", line)[0] == 202
    region.wait_for("guess", "done")
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        root.wait_for(root.submit([URL + "1"], id="guess"), "done")
        _, _, text = root.request("GET", "/metrics")
        counts = dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if line[:1] != "#")
        assert (counts["purgeline_tree_handed_total"], counts["purgeline_tree_lost_total"]) == ("3.0", "2.0")
    assert [edge.urls for edge in edges] == [[URL + "1"] * 2] * 2


def test_a_leaf_is_named_by_the_way_to_it(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        one = root.submit([URL + "1"], nodes=["eu/edge-2"])
        root.wait_for(one, "done")
        assert (edges[0].urls, edges[1].urls) == ([], [URL + "1"])
        for name, said in (
            ("us/edge-1", "'us' is not configured"),
            ("eu/", "names no node"),
            ("eu/edge-9", "'edge-9' is not configured below eu; did you mean 'edge-"),
        ):
            body = {"targets": [URL + "1"], "nodes": [name]}
            status, _, problem = root.request("POST", "/v1/engine/task", body)
            assert status == 422
            assert said.encode() in problem


def test_what_the_leaves_serve_after_the_ack_is_told_at_the_root(tmp_path: Path) -> None:
    """One of them acks, and keeps what it has: the task has failed, with its name."""
    with Origin() as origin, Cachelet(origin) as honest, Cachelet(origin) as lying:
        tables = f'[[origin]]\nhost = "*"\nurl = "{origin.url}"\n'
        tables += fake_table(honest.url, name="edge-1") + fake_table(lying.url, name="edge-2")
        with (
            engine_in(tmp_path, tables, name="eu") as eu,
            engine_in(tmp_path, region_table(eu, name="eu"), name="root") as root,
        ):
            fresh = root.wait_for(root.submit([URL + "page"], verify=True), "done")
            assert (fresh["verify"]["checked"], fresh["verify"]["verified"]) == (2, 2)
            assert fresh["nodes"][0]["verified_at"]
            lying.lies, lying.age_ahead_s, origin.version = -1, 300, "v2"
            stale = root.wait_for(root.submit([URL + "page"], verify=True), "failed")
            found = {key: stale["verify"][key] for key in ("checked", "verified", "stale")}
            assert found == {"checked": 2, "verified": 1, "stale": 1}
            assert (stale["counter"], stale["failed"], stale["nodes"][0]["stale"]) == (1, 0, 1)
            [error] = stale["errors"]
            assert (error["node"], error["target"]) == ("eu/edge-2", URL + "page")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "of a version before the tree. It has to speak the tree's protocol"),
        (401, "answered 401"),
        (403, "answered 403"),
    ],
)
def test_a_region_that_cannot_or_will_not_is_refusing_and_nothing_is_lost(
    tmp_path: Path, status: int, said: str
) -> None:
    """An engine of a version before; a token that was revoked."""
    with FakeNode(always(answer(status))) as old:
        tables = fake_table(old.url, name="eu", driver="engine")
        with engine_in(tmp_path, tables, name="root") as root:
            tasks = [root.submit([f"{URL}{number}" for number in range(20)]) for _ in range(3)]
            for task in tasks:
                reason = root.wait_for(task, "partial")["errors"][0]["reason"]
                assert reason.startswith("refused: ")
                assert said in reason
            assert root.node("eu")["state"] == "refusing"
            assert root.log().count("eu refused") < 20


@pytest.mark.slow
def test_more_than_may_be_on_its_way_goes_down_as_there_is_room(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """Four tasks of 10,000 URLs, each handed down whole."""
    with engine_in(tmp_path, region_table(region, name="eu"), name="root") as root:
        tasks = [root.submit([f"{URL}{task}/{n}" for n in range(10_000)], due_s=300) for task in range(4)]
        for task in tasks:
            assert root.wait_for(task, "done", timeout_s=120)["counter"] == 10_000
            assert region.task(task)["counter"] == 20_000
        assert [len(set(edge.urls)) for edge in edges] == [40_000, 40_000]

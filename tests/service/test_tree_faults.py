"""What goes wrong between a root and its region, with real engines: nothing is lost, nothing falsely done."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.node import OK, Act, FakeNode, always
from tests.fakes.proxy import Proxy
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.redis_servers import RedisServer
from tests.rigs.tree import GuardedEngine, engine_in, region_table, token_table, wait_known, wait_state
from tests.rigs.wall_clock import WallClock
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "http://img.example.com/"
HASTY: dict[str, Any] = {"connect_timeout_s": 0.5, "request_timeout_s": 1, "due_s": 2}
"""Of a root that a test waits for: it gives a region up soon."""


@pytest.fixture
def edges() -> Iterator[tuple[FakeNode, FakeNode]]:
    with FakeNode() as one, FakeNode() as two:
        yield one, two


@pytest.fixture
def tables(edges: tuple[FakeNode, FakeNode]) -> str:
    return fake_table(edges[0].url, name="edge-1") + fake_table(edges[1].url, name="edge-2")


@pytest.fixture
def region(tmp_path: Path, tables: str) -> Iterator[EngineProcess]:
    with engine_in(tmp_path, tables, name="eu") as engine:
        yield engine


@contextlib.contextmanager
def root_over(folder: Path, region: EngineProcess, **engine: Any) -> Iterator[tuple[EngineProcess, Proxy]]:
    """Give a root, and the network between it and its region."""
    with Proxy(region.port) as link:
        table = region_table(region, name="eu", url=f"http://127.0.0.1:{link.port}")
        with engine_in(folder, table, name="root", **{**HASTY, **engine}) as root:
            yield root, link


def check_numbers(task: dict[str, Any]) -> dict[str, Any]:
    """The parts of a task add up to at most its total, at every moment."""
    parts = [task[key] for key in ("counter", "failed", "delayed", "cancelled")]
    assert sum(parts) <= task["total"], task
    assert min(parts) >= 0, task
    return task


def _says(root: EngineProcess, text: str) -> dict[str, Any] | None:
    """Return the region's document as soon as its reason has *text* in it."""
    node = root.node("eu")
    return node if text in node["reason"] else None


def test_a_region_that_refuses_connections_gets_all_that_came_meanwhile_and_each_once(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with root_over(tmp_path, region) as (root, link):
        link.cut()
        held = [root.submit([f"{URL}{number}"]) for number in range(5)]
        for task in held:
            reason = check_numbers(root.wait_for(task, "partial"))["errors"][0]["reason"]
            assert "cannot be reached" in reason
        link.heal()
        for task in held:
            assert root.wait_for(task, "done")["counter"] == 1
        assert [sorted(edge.urls) for edge in edges] == [[f"{URL}{number}" for number in range(5)]] * 2


@pytest.mark.slow
def test_a_region_whose_packets_are_lost_under_load_gets_everything_when_they_pass_again(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """Nobody is told of it; what was on its way goes down again under its id, and is done once."""
    with root_over(tmp_path, region) as (root, link):
        tasks = []
        for number in range(60):
            tasks.append(root.submit([f"{URL}{number}"]))
            if number == 20:
                link.stall()
            if number > 20:
                time.sleep(0.1)
            check_numbers(root.task(tasks[-1]))
        assert root.wait_for(tasks[-1], "partial")["delayed"] == 1
        assert wait_state(root, "eu", "sick", "down")
        link.heal()
        for task in tasks:
            assert check_numbers(root.wait_for(task, "done", timeout_s=30))["counter"] == 1
        assert [sorted(edge.urls) for edge in edges] == [sorted(f"{URL}{number}" for number in range(60))] * 2


def test_a_region_that_takes_tasks_and_whose_answers_are_lost_does_them_once(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with root_over(tmp_path, region) as (root, link):
        link.lose_answers()
        task = root.submit([URL + "1"])
        wait_known(region, task)
        region.wait_for(task, "done")
        assert check_numbers(root.wait_for(task, "partial", "running"))["counter"] == 0
        link.heal()
        assert root.wait_for(task, "done")["counter"] == 1
        assert [edge.urls for edge in edges] == [[URL + "1"]] * 2


@pytest.mark.slow
def test_a_root_that_is_killed_between_hand_down_and_answer_hands_down_again_and_nothing_is_done_twice(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with root_over(tmp_path, region) as (root, link):
        link.lose_answers()
        count = 4  # requests that wait for answers at a time; one more may have to wait behind them
        tasks = [root.submit([f"{URL}{number}/{n}" for n in range(20)]) for number in range(count)]
        for task in tasks:
            wait_known(region, task)
        root.kill()
        link.heal()
        root.start()
        for task in tasks:
            assert check_numbers(root.wait_for(task, "done"))["counter"] == 20
        assert [len(edge.urls) for edge in edges] == [80, 80]


@pytest.mark.slow
@pytest.mark.redis
@pytest.mark.parametrize("way", ["kill", "stop"])
def test_a_region_without_its_redis_takes_nothing_and_goes_on_when_it_is_back(
    tmp_path: Path, tables: str, edges: tuple[FakeNode, FakeNode], way: str
) -> None:
    with (
        RedisServer(tmp_path) as redis,
        engine_in(tmp_path, f'[store]\nurl = "{redis.url}"\n' + tables, name="eu") as region,
        root_over(tmp_path, region) as (root, _),
    ):
        edges[1].script = always(Act.HANG)
        running = root.submit([URL + "running"])
        wait_until(lambda: edges[0].urls, what="the other leaf")
        getattr(redis, way)()
        edges[1].script = always(OK)
        edges[1].hang_up()
        task = root.submit([URL + "meanwhile"])
        assert check_numbers(root.wait_for(task, "partial"))["counter"] == 0
        redis.start()
        for one in (running, task):
            assert check_numbers(root.wait_for(one, "done", timeout_s=60))["counter"] == 1
        for edge in edges:
            assert {URL + "running", URL + "meanwhile"} == set(edge.urls)


@pytest.mark.slow
def test_a_leaf_that_is_added_gets_what_comes_then_and_one_that_is_removed_keeps_tasks_until_forgotten(
    tmp_path: Path, region: EngineProcess, tables: str, edges: tuple[FakeNode, FakeNode]
) -> None:
    with FakeNode() as third, root_over(tmp_path, region) as (root, _):
        root.wait_for(root.submit([URL + "1"]), "done")
        region.stop()
        region.configure(tables + fake_table(third.url, name="edge-3"))
        region.start()
        wait_state(root, "eu", "ready")
        root.wait_for(root.submit([URL + "2"]), "done", timeout_s=30)
        assert third.urls == [URL + "2"]
        third.stop()
        held = root.submit([URL + "3"])
        assert "eu/edge-3" in root.wait_for(held, "partial")["errors"][0]["reason"]
        region.stop()
        region.configure(tables)
        region.start()
        wait_state(root, "eu", "ready")
        root.wait_for(root.submit([URL + "4"]), "done", timeout_s=30)
        assert root.task(held)["delayed"] == 1  # it may come back
        assert region.request("DELETE", "/v1/engine/nodes/edge-3")[0] == 200
        assert region.wait_for(held, "failed")["failed"] == 1
        assert check_numbers(root.wait_for(held, "done", timeout_s=30))["counter"] == 1
        for edge in edges:  # the third one came once more, to the leaves that there are by then
            assert edge.urls == [f"{URL}{number}" for number in (1, 2, 3, 4, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("ahead_s", [-400 * 86_400, -90, 90, 400 * 86_400])
def test_clocks_that_are_apart_change_nothing(
    tmp_path: Path, tables: str, edges: tuple[FakeNode, FakeNode], ahead_s: int
) -> None:
    """The region's is wrong: what is done at once, held below, handed down late, and used again as an id."""
    clock = WallClock(tmp_path, ahead_s)
    with (
        engine_in(tmp_path, tables, name="eu", env=clock.env) as region,
        root_over(tmp_path, region) as (root, link),
    ):
        root.wait_for(root.submit([URL + "now"]), "done")
        edges[1].stop()
        held = root.submit([URL + "held"])
        root.wait_for(held, "partial")
        if abs(ahead_s) < 3600:
            clock.set(-ahead_s)  # it is set
        edges[1].start()
        root.wait_for(held, "done")
        link.cut()
        late = root.submit([URL + "late"])
        root.wait_for(late, "partial")
        clock.set(ahead_s)
        link.heal()
        assert check_numbers(root.wait_for(late, "done"))["counter"] == 1
        assert [edge.urls for edge in edges] == [[URL + name for name in ("now", "held", "late")]] * 2


@pytest.mark.slow
def test_a_token_that_is_revoked_in_mid_work_and_given_back_loses_nothing(
    tmp_path: Path, tables: str, edges: tuple[FakeNode, FakeNode]
) -> None:
    """What the region had taken it goes on with; the rest waits, with the reason, for the token."""
    good, other = token_table("secret"), token_table("another")
    with engine_in(tmp_path, good + tables, name="eu", kind=GuardedEngine) as region:
        table = region_table(region, name="eu", token="secret")
        with engine_in(tmp_path, table, name="root", **HASTY) as root:
            edges[1].script = always(Act.HANG)
            running = root.submit([URL + "running"])
            wait_until(lambda: edges[0].urls, what="the other leaf")
            region.stop()
            region.configure(other + tables)
            edges[1].script = always(OK)
            region.start()
            told = wait_until(lambda: _says(root, "answered 401"), what="the reason at the node")
            assert told is not None
            assert told["state"] in {"down", "refusing"}
            assert root.wait_for(running, "partial")["delayed"] == 1
            task = root.submit([URL + "meanwhile"])
            assert "answered 401" in check_numbers(root.wait_for(task, "partial"))["errors"][0]["reason"]
            assert URL + "meanwhile" not in edges[0].urls
            wait_until(lambda: URL + "running" in edges[1].urls, what="what the region had taken")
            region.stop()
            region.configure(good + tables)
            region.start()
            for one in (running, task):
                assert check_numbers(root.wait_for(one, "done", timeout_s=30))["counter"] == 1
            for edge in edges:
                assert set(edge.urls) == {URL + "running", URL + "meanwhile"}


@pytest.mark.slow
def test_a_link_that_is_slow_takes_longer_and_nothing_more(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    """800 ms for a question and its answer."""
    with root_over(tmp_path, region, due_s=60) as (root, link):
        link.slow(0.4)
        tasks = [root.submit([f"{URL}{number}"]) for number in range(20)]
        for task in tasks:
            assert check_numbers(root.wait_for(task, "done"))["counter"] == 1
        assert [sorted(edge.urls) for edge in edges] == [sorted(f"{URL}{number}" for number in range(20))] * 2


def test_a_cancel_while_the_answer_to_the_hand_down_is_missing_reaches_the_region(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    edges[1].script = always(Act.HANG)
    with root_over(tmp_path, region) as (root, link):
        link.lose_answers()
        task = root.submit([URL + "1"])
        wait_known(region, task)
        status, _, text = root.request("DELETE", f"/v1/engine/task/{task}")
        assert (status, json.loads(text)["state"]) == (200, "cancelled")
        link.heal()
        assert check_numbers(region.wait_for(task, "cancelled"))["cancelled"] == 1


def test_a_cancel_while_the_region_is_away_keeps_the_task_from_it(
    tmp_path: Path, region: EngineProcess, edges: tuple[FakeNode, FakeNode]
) -> None:
    with root_over(tmp_path, region) as (root, link):
        link.cut()
        task = root.submit([URL + "1"])
        root.wait_for(task, "partial")
        assert root.request("DELETE", f"/v1/engine/task/{task}")[0] == 200
        link.heal()
        root.wait_for(root.submit([URL + "2"]), "done")
        assert [edge.urls for edge in edges] == [[URL + "2"]] * 2
        assert region.request("GET", f"/v1/engine/task/{task}")[0] == 404
        assert root.task(task)["cancelled"] == 1

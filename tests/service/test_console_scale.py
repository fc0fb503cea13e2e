"""The operators' page with many nodes, many tasks, and while the engine is replaced."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from release.lab import caches
from release.lab.origin import Origin
from tests.fakes.canary_cache import CanaryCache
from tests.fakes.node import FakeNode
from tests.rigs.browser import Browser
from tests.rigs.cluster_engine import cluster_engine
from tests.rigs.engine_process import EngineProcess, fake_table, layer_tables, node_table
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.rigs.viewer import EventViewer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def test_a_thousand_nodes_are_in_the_grid(window: Browser, tmp_path: Path) -> None:
    """Each second's change is drawn in less than a tenth of it; those that are not well come first."""
    with FakeNode() as node:
        tables = layer_tables("parent", "edge")
        for number in range(1000):
            layer = "parent" if number < 40 else "edge"
            tables += fake_table(node.url, name=f"{layer}-{number}", layer=layer)
        with EngineProcess(tmp_path, tables) as engine:
            window.open(f"http://127.0.0.1:{engine.port}/")
            window.see(".verdict", "All 1,000 caches are well", timeout_s=60)
            assert len(window.all(".tile")) == 1000
            assert engine.request("POST", "/v1/engine/nodes/edge-777/pause")[0] == 200
            window.see(".verdict", "edge-777 is paused since")
            assert window.texts(".layers section:nth-child(2) .tile .name")[0] == "edge-777"
            window.run("window.worst = document.querySelector('.tile[data-node=edge-777]')")
            assert engine.request("POST", "/v1/engine/nodes/edge-778/pause")[0] == 200
            window.see(".verdict", "2 of 1000 caches are not well")
            engine.submit(["http://img.example.com/a"], nodes=["edge-778"], due_s=600)
            window.see(".tile[data-node=edge-778]", "1 waits")
            assert window.texts(".layers section:nth-child(2) .tile .name")[:2] == ["edge-777", "edge-778"]
            assert window.run("return window.worst.isConnected")
            took = window.run(
                "const marks = [];"
                "return new Promise((resolve) => { const seen = new PerformanceObserver((list) => {"
                "for (const one of list.getEntries()) marks.push(one.duration) });"
                "seen.observe({entryTypes: ['longtask']}); setTimeout(() => resolve(marks), 4000) })"
            )
            assert all(ms < 400 for ms in took), took
            window.type("input[name=q]", "edge-99")
            wait_until(lambda: len(window.all(".tile")) == 11)
    assert window.errors() == []


def test_ten_thousand_tasks_are_listed(window: Browser, tmp_path: Path) -> None:
    """Page by page as they are scrolled to; of all rows those that are seen are in the page."""
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        lines = [
            json.dumps({"id": f"t-{n}", "targets": [f"http://img.example.com/{n}"]}) for n in range(10_000)
        ]
        for place in range(0, len(lines), 2000):
            body = "\n".join(lines[place : place + 2000]).encode()
            assert engine.request("POST", "/v1/engine/tasks", body)[0] == 200
        engine.wait_for("t-9999")
        window.open(f"http://127.0.0.1:{engine.port}/#/tasks")
        window.see(".listrow a", "img.example.com/")

        def scrolled() -> bool:
            window.run("const rows = document.querySelector('.rows'); rows.scrollTop = rows.scrollHeight")
            return "10,000 tasks" in window.texts(".listfoot [role=status]")[0]

        wait_until(scrolled, what="the last page", timeout_s=90)
        scrolled()  # the last page may have come between its scroll and its look
        assert len(window.all(".listrow a")) < 80
        window.see(".listrow a", "img.example.com/0")
        window.run("document.querySelector('.rows').scrollTop = 0")
        window.see(".listrow a", "img.example.com/9999")
    assert window.errors() == []


def test_a_task_of_ten_thousand_targets_is_shown(window: Browser, tmp_path: Path) -> None:
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        task_id = engine.submit([f"http://img.example.com/{number}" for number in range(10_000)])
        window.open(f"http://127.0.0.1:{engine.port}/#/task/{task_id}")
        window.see(".taskhead .state", "done", timeout_s=60)
        window.see("h2", "10,000 targets")
        assert window.texts("[data-sum=acked] b") == ["10,000"]
    assert window.errors() == []


def test_a_page_that_is_open_outlives_a_reload(window: Browser, tmp_path: Path) -> None:
    """A task that is watched is watched on, by the next worker."""
    with (
        FakeNode() as node,
        SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1"), workers=2) as engine,
    ):
        window.open(f"http://127.0.0.1:{engine.port}/")
        window.see(".verdict", "The only cache is well")
        engine.reload()
        wait_until(lambda: window.texts(".pill") == ["live"])
        node.stop()
        task_id = engine.submit(["http://img.example.com/reloaded"], due_s=1)
        window.see(".verdict", "edge-1 is down since")
        window.open(f"http://127.0.0.1:{engine.port}/#/task/{task_id}")
        window.see(".taskhead .state", "partial")
        engine.reload()
        node.start()
        window.see(".taskhead .state", "done", timeout_s=30)
        wait_until(lambda: window.texts(".pill") == ["live"])
    assert window.errors() == []


def test_two_hundred_viewers_are_told_every_second(tmp_path: Path) -> None:
    """And one that reads nothing holds up nobody."""
    with FakeNode() as node:
        tables = "".join(fake_table(node.url, name=f"edge-{number}") for number in range(200))
        with EngineProcess(tmp_path, tables) as engine:
            viewers = [EventViewer(engine.port) for _ in range(200)]
            streams = [viewer.events() for viewer in viewers[1:]]  # the first one reads nothing
            for _ in range(2):
                assert {next(stream)[0] for stream in streams} <= {"hello", "whole"}
            began = time.monotonic()
            for _ in range(4):
                assert {next(stream)[0] for stream in streams} == {"change"}
            assert time.monotonic() - began < 45
            for viewer in viewers:
                viewer.__exit__()
            wait_until(lambda: engine.request("GET", "/readyz")[0] == 200)


@pytest.mark.redis
def test_the_engines_of_a_cluster_are_shown(window: Browser, tmp_path: Path) -> None:
    """Who leads, and that one has died; with Redis away the page says what it cannot know."""
    with RedisServer(tmp_path) as redis, FakeNode() as node:
        store = "takeover_s = 1\n"
        with (
            cluster_engine(tmp_path, redis.url, [node], number=0, store=store) as one,
            cluster_engine(tmp_path, redis.url, [node], number=1, store=store) as two,
        ):
            window.open(f"http://127.0.0.1:{one.port}/#/cluster")
            window.see("tbody tr", "engine-1")
            window.see("tbody tr th", "leader")
            window.see("tbody tr th", "this one")
            two.kill()
            wait_until(
                lambda: not any("alive" in row for row in window.texts("tbody tr") if "engine-1" in row)
            )
            redis.kill()
            window.see(".verdict.s-sick", "Connection refused")
            redis.start()
            window.see(".verdict.s-ready", "The only cache is well")
    assert window.errors() == []


def test_a_node_says_when_its_canary_was_fresh(window: Browser, tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path, "")
    with (
        Origin() as origin,
        caches.start_varnish(
            tmp_path, name="edge-1", backend=origin.address, canary=f"127.0.0.1:{engine.port}"
        ) as edge,
    ):
        engine.configure("[canary]\ninterval_s = 0.5\n" + node_table(edge, name="edge-1"))
        with engine:
            window.open(f"http://127.0.0.1:{engine.port}/#/fleet/edge-1")
            window.see(".tile .note", "fresh in")
            window.see(".side table", "fresh")
    assert window.errors() == []


def test_a_node_that_acks_and_serves_on_is_not_well(window: Browser, tmp_path: Path) -> None:
    """It is ready; its canary shows what visitors get."""
    cache = CanaryCache()
    cache.lies = True
    with FakeNode(cache) as node:
        tables = "[canary]\ninterval_s = 0.3\n" + fake_table(node.url, name="edge-1")
        with EngineProcess(tmp_path, tables) as engine:
            window.open(f"http://127.0.0.1:{engine.port}/")
            window.see(".verdict.s-sick", "edge-1 acks purges and serves the old page, since")
            window.see(".tile .word", "stale")
    assert window.errors() == []

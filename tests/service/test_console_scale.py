"""The operators' page with many nodes, many tasks, and while the engine is replaced."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.fakes.node import FakeNode
from tests.rigs.browser import Browser
from tests.rigs.engine_process import EngineProcess, fake_table, layer_tables
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
        window.see("a.listrow", "img.example.com/")

        def scrolled() -> bool:
            window.run("const rows = document.querySelector('.rows'); rows.scrollTop = rows.scrollHeight")
            return "10,000 tasks" in window.texts(".listfoot [role=status]")[0]

        wait_until(scrolled, what="the last page", timeout_s=90)
        assert len(window.all("a.listrow")) < 80
        window.see("a.listrow", "img.example.com/0")
        window.run("document.querySelector('.rows').scrollTop = 0")
        window.see("a.listrow", "img.example.com/9999")
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
            assert time.monotonic() - began < 8
            for viewer in viewers:
                viewer.__exit__()
            wait_until(lambda: engine.request("GET", "/readyz")[0] == 200)

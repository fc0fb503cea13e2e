"""`purgeline top` on a real terminal: it follows the engine, keys and the terminal's size."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.fakes.engine import FakeEngine, problem, task
from tests.fakes.terminal import ROOT, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = [
    {"name": f"edge-{number}", "layer": "edge", "state": "ready", "waiting": number, "acked": 10}
    for number in range(30)
]
DOWN = {"name": "parent-1", "layer": "parent", "state": "down", "waiting": 0, "reason": "refused\x1b[31m"}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    with FakeEngine().running() as running:
        running.script["GET /v1/engine/nodes"] = [(200, {"nodes": [*NODES, DOWN]})]
        running.script["GET /v1/engine/tasks"] = [(200, {"tasks": [task("deploy-7")], "cursor": None})]
        monkeypatch.setenv("PURGELINE_URL", running.url)
        yield running


def test_it_shows_caches_those_that_are_not_well_first_and_tasks(engine: FakeEngine) -> None:
    with Terminal("top") as terminal:
        shown = terminal.wait_for("q quit")
        assert "caches: 30 ready, 1 down" in shown
        assert (
            shown.index("parent-1")
            < shown.index("edge-29")
            < shown.index("edge-28")
            < shown.index("deploy-7")
        )
        assert r"refused\x1b[31m" in shown
        terminal.press("q")
        assert terminal.ended() == 0


def test_it_follows_rates_keys_and_the_size_of_the_terminal(engine: FakeEngine) -> None:
    later = [{**node, "acked": 40} for node in NODES]
    engine.script["GET /v1/engine/nodes"].append((200, {"nodes": later}))
    with Terminal("top", width=100, height=20) as terminal:
        terminal.wait_for("caches 1-")
        terminal.wait_for("30 ready  ")
        assert float(terminal.wait_for(" acked/s").split()[0]) > 100
        terminal.press("\x1b[B")
        terminal.wait_for("caches 2-")
        terminal.press("p")
        terminal.wait_for("paused")
        terminal.wait_for("p go on")
        asked = len(engine.requests)
        terminal.resize(44, 16)
        terminal.wait_for("paused")
        shown = terminal.wait_for("q quit")
        assert max(map(len, shown.splitlines())) <= 44
        assert len(engine.requests) == asked
        terminal.press("q")
        assert terminal.ended() == 0


def test_an_engine_that_is_away_is_said_to_be_and_waited_for(engine: FakeEngine) -> None:
    nodes = engine.script["GET /v1/engine/nodes"]
    nodes[:] = [*nodes, problem(503, "the engine is draining"), *nodes]
    with Terminal("top") as terminal:
        terminal.wait_for("30 ready")
        terminal.wait_for("away, seen ")
        terminal.wait_for("the engine is draining")
        terminal.wait_for("edge-29")
        terminal.wait_for("30 ready")
        terminal.press("\x03")
        assert terminal.ended() == 130


def test_a_token_that_may_not_read_ends_it(engine: FakeEngine) -> None:
    engine.script["GET /v1/engine/nodes"] = [problem(403, "the token may not read")]
    with Terminal("top") as terminal:
        terminal.wait_for("purgeline: the token may not read (403)")
        assert terminal.ended() == 2


def test_a_pipe_is_told_what_to_use_instead() -> None:
    command = [sys.executable, "-m", "engine", "top"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "in a pipe: purgeline nodes, tasks, stats" in done.stderr

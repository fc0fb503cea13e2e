"""``--wait`` whose engine goes away: it says so, asks again, and ends; a real engine is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.fakes.node import FakeNode, Held
from tests.rigs.engine_process import ROOT, EngineProcess, fake_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "http://img.example.com/a.jpg"


@pytest.fixture
def held() -> Held:
    """A cache that answers when the test says so."""
    return Held()


@pytest.fixture
def cache(held: Held) -> Iterator[FakeNode]:
    with FakeNode(held) as node:
        yield node
        held.released.set()


@pytest.fixture
def engine(tmp_path: Path, cache: FakeNode) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path, fake_table(cache.url, name="edge-1")) as engine:
        yield engine


class Waiting:
    """``purgeline purge --wait`` in a process of its own."""

    def __init__(self, engine: EngineProcess, *options: str) -> None:
        command = [sys.executable, "-m", "engine", "purge", URL, "--id", "w1", "--wait", *options]
        env = {**os.environ, "PURGELINE_URL": f"http://127.0.0.1:{engine.port}"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True)
        self.said: list[str] = []

    def until(self, words: str) -> str:
        """Return the next line of standard error that has *words*."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            if words in line:
                return self.said[-1]
        raise AssertionError(f"{words!r} was not said: {self.said}")

    def end(self) -> tuple[int, str]:
        """Return the exit code and standard output."""
        out, err = self.process.communicate(timeout=60)
        self.said += err.splitlines()
        return self.process.returncode, out


def test_an_engine_that_comes_back_is_waited_for_and_both_is_said(
    engine: EngineProcess, cache: FakeNode, held: Held
) -> None:
    waiting = Waiting(engine)
    wait_until(lambda: URL in cache.urls, what="the purge at the cache")
    engine.kill()
    away = waiting.until("no answer for")
    assert f"engine http://127.0.0.1:{engine.port} unreachable" in away
    assert "it is asked again for 5" in away, "60 s less those that are over"
    held.released.set()
    engine.start()
    code, out = waiting.end()
    assert code == 0, waiting.said
    assert "state done" in out
    assert any("the engine answers again, after" in line for line in waiting.said), waiting.said


def test_an_engine_that_stays_away_ends_the_wait_with_3_and_says_how_to_go_on(
    engine: EngineProcess, cache: FakeNode
) -> None:
    waiting = Waiting(engine, "--timeout", "0.3", "--json")
    wait_until(lambda: URL in cache.urls, what="the purge at the cache")
    engine.kill()
    code, out = waiting.end()
    assert (code, out) == (3, "")
    *notices, last = map(json.loads, waiting.said)
    assert all("no answer for" in notice["notice"] for notice in notices)
    assert notices
    assert "it was asked again for " in last["error"]
    assert "purgeline watch w1" in last["error"]
    assert last["exit_code"] == 3

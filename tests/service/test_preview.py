"""What a task would do, asked of a real engine; and the question before a large one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table

if TYPE_CHECKING:
    from collections.abc import Iterator

TASK = {"targets": ["http://img.example.com/a", "http://img.example.com/b"], "prefetch": True}
TABLES = """
[[site]]
host = "*.example.com"
confirm_over = 6
[[layer]]
name = "parent"
[[layer]]
name = "edge"
"""


class Fleet:
    """An engine with a parent, an edge, and an edge that is paused."""

    def __init__(self, engine: EngineProcess, nodes: list[FakeNode]) -> None:
        self.engine = engine
        self.nodes = nodes

    def asked(self) -> list[str]:
        """Return the paths that caches were asked for."""
        return [request.path for node in self.nodes for request in node.requests]

    def ask(self, body: dict[str, Any], path: str = "/v1/engine/task?dry_run=1") -> tuple[int, Any]:
        status, _, text = self.engine.request("POST", path, body)
        return status, json.loads(text)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with FakeNode() as parent, FakeNode() as edge, FakeNode() as paused:
        tables = TABLES + fake_table(parent.url, name="parent-1", layer="parent", driver="varnish")
        tables += "requests_per_s = 200\nhit_ratio = 0.95\n"
        tables += fake_table(edge.url, name="edge-1", driver="varnish")
        tables += fake_table(paused.url, name="edge-2", driver="ats")
        with EngineProcess(tmp_path_factory.mktemp("preview"), tables) as engine:
            assert engine.request("POST", "/v1/engine/nodes/edge-2/pause")[0] == 200
            yield Fleet(engine, [parent, edge, paused])


def test_a_preview_names_nodes_subtasks_and_what_waits_and_sends_nothing(fleet: Fleet) -> None:
    status, document = fleet.ask(TASK)
    assert status == 200
    assert (document["total"], document["hosts"], document["host_count"]) == (12, ["img.example.com"], 1)
    assert [(n["name"], n["operation"], n["subtasks"], n["objects"]) for n in document["nodes"]] == [
        ("parent-1", "PURGE_URL", 4, 2),
        ("edge-1", "PURGE_URL", 4, 2),
        ("edge-2", "PURGE_URL", 4, 2),
    ]
    assert [node["parents"] for node in document["nodes"]] == [[], ["parent-1"], ["parent-1"]]
    assert document["nodes"][0]["reason"] == ""
    assert document["nodes"][2]["state"] == "paused"
    assert "paused by" in document["nodes"][2]["reason"]
    assert document["refill"] == {
        "requests_per_s": None,
        "reason": "not known: how often visitors ask for single pages, no cache tells the engine",
        "origin_fetches": 2,
        "prefetches": 6,
    }
    assert "more than its confirm_over of 6" in document["confirm"]
    listed = json.loads(fleet.engine.request("GET", "/v1/engine/tasks")[2])
    assert listed["tasks"] == []
    assert not any(path in {"/a", "/b"} for path in fleet.asked())


def test_a_preview_of_a_wide_purge_says_who_is_skipped_and_what_nobody_knows(fleet: Fleet) -> None:
    body = {"kind": "host", "targets": ["img.example.com"], "on_incapable": "skip"}
    status, document = fleet.ask(body)
    assert status == 200
    assert document["skipped"] == [{"name": "edge-2", "reason": "ats, as configured, cannot purge by host"}]
    assert [node["objects"] for node in document["nodes"]] == [None, None]
    assert document["refill"]["origin_fetches"] is None
    assert "nobody knows how many objects" in document["confirm"]
    assert document["refill"]["requests_per_s"] is None
    assert document["refill"]["reason"].endswith("in the [[node]] table of edge-1")
    _, document = fleet.ask({**body, "nodes": ["parent-1"]})
    assert document["refill"]["requests_per_s"] == 190
    assert "requests_per_s times hit_ratio" in document["refill"]["reason"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/engine/task?dry_run=1", {"targets": ["http://other.org/a"]}, "targets[0]"),
        ("/v1/engine/task?dry_run=1", {"targets": ["http://img.example.com/a"], "nodes": ["x"]}, "nodes"),
        ("/v1/engine/task?dry_run=yes", TASK, "dry_run"),
        ("/v1/engine/tasks?dry_run=1", TASK, "dry_run"),
    ],
)
def test_a_preview_refuses_what_a_task_is_refused_for(
    fleet: Fleet, path: str, body: dict[str, Any], field: str
) -> None:
    status, document = fleet.ask(body, path)
    assert (status, document["field"]) == (422, field)


def test_a_large_task_is_refused_until_it_is_confirmed(fleet: Fleet) -> None:
    status, document = fleet.ask(TASK, "/v1/engine/task")
    assert (status, document["field"]) == (422, "confirm")
    assert '"confirm": true' in document["detail"]
    status, document = fleet.ask(
        {**TASK, "confirm": True, "nodes": ["parent-1", "edge-1"]}, "/v1/engine/task"
    )
    assert status == 202


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("", 2)])
def test_the_command_line_asks_back_in_a_terminal(fleet: Fleet, answer: str, code: int) -> None:
    words = [
        "--prefix",
        "http://img.example.com/x/",
        "--on-incapable",
        "skip",
        "--engine",
        f"http://127.0.0.1:{fleet.engine.port}",
    ]
    command = [sys.executable, "-m", "engine", "purge", *words]
    said = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert said.returncode == 2  # nobody to ask
    assert "confirm" in said.stderr
    master, slave = pty.openpty()
    with os.fdopen(master, "r+b", buffering=0) as terminal:
        child = subprocess.Popen(command, stdin=slave, stderr=slave, stdout=subprocess.PIPE)
        os.close(slave)
        shown = b""
        while b"[y/N]" not in shown:
            shown += terminal.read(4096)
        assert b"nobody knows how many objects" in shown
        terminal.write(f"{answer}\n".encode())
        out, _ = child.communicate(timeout=30)
    assert child.returncode == code
    assert b"node parent-1 parent varnish PURGE_PREFIX 1 -" in out
    assert (b"accepted" in out) == (code == 0)


def test_the_command_line_shows_a_preview(fleet: Fleet) -> None:
    words = ["purge", "--dry-run", "--engine", f"http://127.0.0.1:{fleet.engine.port}", *TASK["targets"]]  # type: ignore[misc]
    said = subprocess.run(
        [sys.executable, "-m", "engine", *words], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert "total 6" in lines
    assert "refill.requests_per_s -" in lines
    assert "node edge-1 edge varnish PURGE_URL 2 2 parent-1 ready -" in lines

"""What was purged between two times goes to one node once more."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from engine.cli.main import main
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.supervised_engine import SupervisedEngine
from tests.service.test_openapi import token
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "http://img.example.com/"
OTHER = "http://other.example.com/"


@pytest.fixture
def edge() -> Iterator[FakeNode]:
    with FakeNode() as node:
        yield node


def rewind(engine: EngineProcess, status: int = 202, **asked: object) -> Any:
    answered, _, body = engine.request("POST", "/v1/engine/rewind", {"node": "edge-1", **asked})
    assert answered == status, body
    return json.loads(body)


def ended(engine: EngineProcess, rewound: dict[str, Any]) -> list[dict[str, Any]]:
    return [engine.wait_for(task_id) for task_id in rewound["tasks"]]


def _has_rows(engine: EngineProcess, task_id: str) -> bool:
    return bool(engine.task(task_id)["delayed"] == 2)


def test_a_node_gets_what_was_purged_meanwhile_once_and_oldest_first(tmp_path: Path, edge: FakeNode) -> None:
    """Each URL once, none that a later purge of a prefix takes, nothing from before, and no prefetch."""
    with FakeNode() as other:
        tables = fake_table(edge.url, name="edge-1") + fake_table(other.url, name="edge-2")
        with EngineProcess(tmp_path, tables) as engine:
            since = 0.0
            for name, targets, fields in (
                ("before", [HOST + "before"], {}),
                ("one", [HOST + "a", HOST + "b"], {}),
                ("album", [HOST + "album/1"], {}),
                ("wide", [HOST + "album/"], {"kind": "prefix"}),
                ("again", [HOST + "a", HOST + "album/2"], {}),
                ("fetched", [HOST + "page"], {"action": "prefetch"}),
                ("other", [OTHER + "x"], {"nodes": ["edge-2"]}),
            ):
                engine.wait_for(engine.submit(targets, id=name, **fields))
                since = since or time.time()
            edge.requests.clear()
            others = len(other.requests)
            rewound = rewind(engine, since=since)
            assert (rewound["purges"], rewound["targets"], rewound["left_out"]) == (5, 5, [])
            tasks = ended(engine, rewound)
            assert {task["state"] for task in tasks} == {"done"}
            assert {task["rewind"] for task in tasks} == {rewound["rewind"]}
            sent = [(one.method, one.path, one.headers.get("purgeline-ban-url", "")) for one in edge.requests]
            assert sorted(sent) == [
                ("BAN", "/", "^/album/"),
                *(("PURGE", path, "") for path in ("/a", "/album/2", "/b", "/x")),
            ]
            assert {one.path for one in edge.requests[:1]} <= {"/a", "/b"}
            assert len(other.requests) == others
            only = rewind(engine, since=since, host="other.example.com")
            assert only["targets"] == 1
            ended(engine, only)
            assert engine.node("edge-1")["state"] == "ready"


def test_a_rewind_goes_on_beside_new_purges_and_after_a_kill(tmp_path: Path, edge: FakeNode) -> None:
    with EngineProcess(tmp_path, fake_table(edge.url, name="edge-1")) as engine:
        old = [f"{HOST}old/{number}" for number in range(6)]
        engine.wait_for(engine.submit(old))
        edge.requests.clear()
        rewound = rewind(engine, since=time.time() - 60, rate_per_s=0.25)
        assert (rewound["targets"], len(rewound["tasks"])) == (6, 6)
        engine.wait_for(rewound["tasks"][0])
        node = engine.node("edge-1")
        assert (node["state"], node["rewind"]) == ("catching_up", rewound["rewind"])
        assert node["reason"] == f"{rewound['rewind']}: 5 targets are to be sent once more"
        assert "is being rewound" in rewind(engine, 409, since=0)["detail"]
        assert engine.wait_for(engine.submit([HOST + "new"]))["state"] == "done"
        engine.kill()
        engine.start()
        assert engine.node("edge-1")["rewind"] == rewound["rewind"]
        second = engine.wait_for(rewound["tasks"][1])
        assert (second["state"], second["rewind"]) == ("done", rewound["rewind"])
        assert list(dict.fromkeys(edge.urls))[:3] == [old[0], HOST + "new", old[1]]  # a kill repeats some
        for task_id in rewound["tasks"][2:]:
            engine.request("DELETE", f"/v1/engine/task/{task_id}")
        wait_until(lambda: engine.node("edge-1")["state"] == "ready", what="the end of the rewind")


def test_a_rewind_waits_for_a_node_that_goes_down(tmp_path: Path, edge: FakeNode) -> None:
    with EngineProcess(tmp_path, fake_table(edge.url, name="edge-1"), due_s=0.2) as engine:
        engine.wait_for(engine.submit([HOST + "1", HOST + "2"]))
        edge.stop()
        edge.requests.clear()
        rewound = rewind(engine, since=time.time() - 60)
        for task_id in rewound["tasks"]:
            wait_until(partial(_has_rows, engine, task_id), what="its rows")
        assert engine.node("edge-1")["state"] == "down"
        edge.start()
        assert {task["state"] for task in ended(engine, rewound)} == {"done"}
        assert sorted(edge.urls) == [HOST + "1", HOST + "2"]


def test_what_cannot_be_rewound_is_told_why(tmp_path: Path, edge: FakeNode) -> None:
    with EngineProcess(tmp_path, fake_table(edge.url, name="edge-1", driver="varnish")) as engine:
        engine.wait_for(engine.submit([HOST + "album/"], kind="prefix"))
        engine.wait_for(engine.submit([HOST + "1"]))
    tables = fake_table(edge.url, name="edge-1", driver="squid") + '[[site]]\nhost = "*"\n'
    tables += token("all", ["submit", "read", "admin"]) + token("writer", ["submit", "read"])
    with EngineProcess(tmp_path, tables) as engine:

        def ask(status: int, who: str = "all", **asked: object) -> Any:
            headers = {"Authorization": f"Bearer {who}"}
            got, _, text = engine.request("POST", "/v1/engine/rewind", asked, headers)
            assert got == status, text
            return json.loads(text)

        ask(403, "writer", node="edge-1", since=0)
        ask(404, node="edge-9", since=0)
        for wrong in (
            {"node": "edge-1"},
            {"node": "edge-1", "since": 5, "until": 4},
            {"node": "edge-1", "since": "6h"},
            {"node": "edge-1", "since": 0, "rate_per_s": 0},
        ):
            ask(422, **wrong)
        found = ask(202, node="edge-1", since=0)
        assert "it has all purges since 2" in found["incomplete"]  # its history is not as old
        assert found["targets"] == 1
        [left] = found["left_out"]
        assert (left["kind"], left["targets"]) == ("prefix", 1)
        assert left["reason"] == "edge-1, as configured, cannot purge by prefix"


def test_all_workers_tell_of_a_rewind_and_their_histories_are_one(
    tmp_path: Path, edge: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    with SupervisedEngine(tmp_path, fake_table(edge.url, name="edge-1"), workers=2) as engine:
        urls = [f"{HOST}{number}" for number in range(8)]
        for url in urls:
            engine.wait_for(engine.submit([url]))
        edge.requests.clear()
        command = ["--engine", f"http://127.0.0.1:{engine.port}", "--json", "rewind", "--node", "edge-1"]
        assert main([*command, "--since", "1h", "--rate", "4"]) == 0
        rewound = json.loads(capsys.readouterr().out)
        assert (rewound["purges"], rewound["targets"]) == (8, 8)
        for _ in range(6):
            assert engine.node("edge-1")["state"] == "catching_up"
            assert "is being rewound" in rewind(engine, 409, since=0)["detail"]
        ended(engine, rewound)
        assert sorted(edge.urls) == sorted(urls)
        command.remove("--json")
        assert main([*command, "--since", "1h", "--rate", "40", "--wait"]) == 0
        shown = capsys.readouterr().out  # not each of its tasks, as there may be hundreds
        assert "\ntargets 8\n" in shown
        assert "task_id" not in shown
        assert sorted(edge.urls) == sorted(2 * urls)


@pytest.mark.slow
def test_of_rewinds_that_begin_at_one_moment_through_several_workers_one_wins(
    tmp_path: Path, edge: FakeNode
) -> None:
    with SupervisedEngine(tmp_path, fake_table(edge.url, name="edge-1"), workers=2) as engine:
        engine.wait_for(engine.submit([f"{HOST}{number}" for number in range(5000)]))
        together = Barrier(12)

        def begin(_client: int) -> tuple[int, Any]:
            together.wait()
            body = {"node": "edge-1", "since": 0, "rate_per_s": 100}
            status, _, text = engine.request("POST", "/v1/engine/rewind", body)
            return status, json.loads(text)

        with ThreadPoolExecutor(12) as clients:
            for _ in range(3):
                answers = sorted(clients.map(begin, range(12)), key=lambda answer: answer[0])
                assert [status for status, _ in answers] == [202, *[409] * 11]
                assert all("is being rewound" in said["detail"] for _, said in answers[1:])
                assert engine.node("edge-1")["rewind"] == answers[0][1]["rewind"]
                assert engine.request("DELETE", "/v1/engine/rewind?node=edge-1")[0] == 200
        assert not list((tmp_path / "var").glob("rewind-*"))


def test_a_rewind_sends_what_the_sites_of_its_token_allow(tmp_path: Path, edge: FakeNode) -> None:
    tables = fake_table(edge.url, name="edge-1") + '[[site]]\nhost = "*"\n'
    tables += token("all", ["submit", "read", "admin"])
    tables += token("boss", ["submit", "read", "admin"], 'sites = ["img.example.com"]\n')
    with EngineProcess(tmp_path, tables) as engine:

        def ask(status: int, who: str, path: str, body: object) -> Any:
            got, _, text = engine.request("POST", path, body, {"Authorization": f"Bearer {who}"})
            assert got == status, text
            return json.loads(text)

        ask(202, "all", "/v1/engine/task", {"targets": [HOST + "1", OTHER + "2"]})
        wait_until(lambda: len(edge.urls) == 2, what="the purges")
        found = ask(202, "boss", "/v1/engine/rewind", {"node": "edge-1", "since": 0})
        assert (found["purges"], found["targets"]) == (1, 1)
        [left] = found["left_out"]
        assert (left["kind"], left["targets"]) == ("url", 1)
        wait_until(lambda: len(edge.urls) == 3, what="the rewind")
        assert edge.urls[2] == HOST + "1"

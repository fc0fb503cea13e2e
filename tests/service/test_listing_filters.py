"""``GET /v1/engine/tasks`` and ``purgeline tasks`` with what the history is asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from engine.cli.main import main
from tests.fakes.node import OK, FakeNode, Request, answer
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.supervised_engine import SupervisedEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

HOST = "http://img.example.com/"


def script(request: Request) -> Iterator[bytes]:
    yield answer(400) if "/bad/" in request.path else OK


def ids(engine: EngineProcess, **asked: object) -> list[str]:
    return [task["task_id"] for task in engine.get(f"/v1/engine/tasks?{urlencode(asked)}")["tasks"]]


def test_tasks_are_found_by_what_they_are_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(script) as edge, FakeNode() as other:
        tables = fake_table(edge.url, name="edge-1") + fake_table(other.url, name="edge-2")
        with EngineProcess(tmp_path, tables) as engine:
            many = [f"{HOST}many/{number}" for number in range(300)]
            for name, targets, fields in (
                ("many", many, {}),
                ("prefix", [f"{HOST}many/"], {"kind": "prefix", "nodes": ["edge-2"]}),
                ("elsewhere", ["http://other.example.com/"], {"nodes": ["edge-2"]}),
                ("fetched", [f"{HOST}page"], {"action": "prefetch", "nodes": ["edge-1"]}),
                ("bad", [f"{HOST}bad/1"], {"nodes": ["edge-1"]}),
            ):
                engine.wait_for(engine.submit(targets, id=name, **fields))
            made = {name: engine.task(name)["created_at"] for name in ("prefix", "elsewhere")}
            assert ids(engine, target=many[250]) == ["prefix", "many"]
            assert ids(engine, host="img.example.com") == ["bad", "fetched", "prefix", "many"]
            assert ids(engine, node="edge-1") == ["bad", "fetched", "many"]
            assert ids(engine, node="edge-1", state="failed") == ["bad"]
            assert ids(engine, action="prefetch") == ["fetched"]
            assert ids(engine, by="anonymous", limit=2) == ["bad", "fetched"]
            assert ids(engine, by="127.0.0.2") == []
            assert ids(engine, since=made["prefix"], until=made["elsewhere"]) == ["elsewhere", "prefix"]
            first = engine.get("/v1/engine/tasks?node=edge-2&limit=2")
            assert [task["task_id"] for task in first["tasks"]] == ["elsewhere", "prefix"]
            assert ids(engine, node="edge-2", limit=2, cursor=first["cursor"]) == ["many"]
            found = engine.get(f"/v1/engine/tasks?{urlencode({'target': many[0], 'limit': 1})}")["tasks"][0]
            assert found == engine.task("prefix")
            for query in ("colour=red", "since=tomorrow", "action=ban", "target=http://"):
                assert engine.request("GET", f"/v1/engine/tasks?{query}")[0] == 422, query
            command = ["--engine", f"http://127.0.0.1:{engine.port}", "--json", "tasks"]
            assert main([*command, "--target", many[250], "--since", "1h", "--node", "edge-1"]) == 0
            listed = json.loads(capsys.readouterr().out)["tasks"]
            assert [task["task_id"] for task in listed] == ["many"]


def test_an_engine_without_a_history_says_that_it_cannot_tell(tmp_path: Path) -> None:
    with FakeNode() as edge:
        table = fake_table(edge.url, name="edge-1")
        with SupervisedEngine(tmp_path, table, history_days=0) as engine:
            engine.wait_for(engine.submit([HOST], id="one"))
            assert ids(engine, state="done") == ["one"]
            status, _, body = engine.request("GET", "/v1/engine/tasks?node=edge-1")
            assert (status, "keeps no history" in json.loads(body)["detail"]) == (404, True)
            for path, asked in (("retries", {"node": "edge-1"}), ("rewind", {"node": "edge-1", "since": 0})):
                assert engine.request("POST", f"/v1/engine/{path}", asked)[0] == 404, path

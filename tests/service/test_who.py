"""Who did what: in the documents of tasks, on the command line, and in the log."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.cli import main as cli
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table, layer_tables
from tests.rigs.raw_client import RawClient, chunked, post
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "s3cret-of-the-cms"
AUTHORIZATION = f"Authorization: Bearer {SECRET}"
FORWARDED = "X-Forwarded-For: 203.0.113.9, 198.51.100.7"
NODES = ["parent-1", "edge-1"]
URLS = [f"http://img.example.com/{number}.jpg" for number in range(120)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    with FakeNode() as parent, FakeNode() as edge:
        tables = (
            layer_tables("parent", "edge")
            + fake_table(parent.url, name="parent-1", layer="parent")
            + fake_table(edge.url, name="edge-1", parents=["parent-1"])
            + fake_table("http://127.0.0.1:1", name="away", parents=[])
            + f'[[auth.tokens]]\nname = "cms"\nsha256 = "{digest}"\nscopes = ["submit", "read", "admin"]\n'
            + '[[site]]\nhost = "*.example.com"\n'
        )
        folder = tmp_path_factory.mktemp("who")
        with EngineProcess(folder, tables, trusted_proxies=["127.0.0.0/8"]) as running:
            yield running
        assert SECRET not in running.log()


def ask(engine: EngineProcess, request: bytes) -> tuple[int, Any]:
    with RawClient(engine.port) as client:
        answer = client.ask(request)
    return answer.status, answer.json


def task(engine: EngineProcess, task_id: str) -> Any:
    request = f"GET /v1/engine/task/{task_id} HTTP/1.1\r\nHost: engine\r\n{AUTHORIZATION}\r\n\r\n"
    return ask(engine, request.encode())[1]


def settled(engine: EngineProcess, task_id: str) -> dict[str, Any]:
    wait_until(lambda: task(engine, task_id)["settled_at"], what=f"the end of {task_id}")
    return task(engine, task_id)  # type: ignore[no-any-return]


@pytest.mark.parametrize("lane", [post, chunked])
def test_a_task_says_who_handed_it_in_what_it_was_and_when_each_node_did_it(
    engine: EngineProcess, lane: Callable[..., bytes]
) -> None:
    name = lane.__name__
    body = {"id": name, "targets": URLS, "nodes": NODES}
    assert ask(engine, lane(body, AUTHORIZATION, FORWARDED))[0] == 202
    document = settled(engine, name)
    assert document["by"] == {"token": "cms", "address": "198.51.100.7", "door": "http"}
    assert (document["targets"], document["target_count"]) == (URLS[:100], 120)
    assert document["created_at"] <= document["settled_at"] == document["updated_at"]
    for node in document["nodes"]:
        assert (node["total"], node["acked"]) == (120, 120)
        assert document["created_at"] <= node["acked_at"] <= document["settled_at"]
    status, again = ask(engine, lane(body, AUTHORIZATION))  # from another address: the same task
    assert (status, again) == (200, document)


def test_status_shows_who_targets_and_nodes_in_a_pipe(
    engine: EngineProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(engine, post({"id": "shown", "targets": URLS[:2], "nodes": NODES}, AUTHORIZATION))[0] == 202
    document = settled(engine, "shown")
    monkeypatch.setenv("PURGELINE_TOKEN", SECRET)
    assert cli.main(["--engine", f"http://127.0.0.1:{engine.port}", "status", "shown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in (
        "by.token cms",
        "by.address 127.0.0.1",
        "by.door http",
        *(f"target {url}" for url in URLS[:2]),
    ):
        assert line in lines
    at = f"{document['nodes'][1]['acked_at']:.3f}".rstrip("0").rstrip(".")
    numbers = "layer edge total 2 acked 2 absent 0 failed 0 delayed 0 cancelled 0 stale 0"
    assert f"node edge-1 {numbers} acked_at {at} verified_at -" in lines


def audit_of(engine: EngineProcess, **facts: object) -> list[dict[str, Any]]:
    """Return the lines of the audit with these facts."""
    lines = [json.loads(line) for line in engine.log().splitlines() if '"audit"' in line]
    return [line for line in lines if all(line.get(key) == value for key, value in facts.items())]


@pytest.mark.parametrize("lane", [post, chunked])
def test_the_log_tells_who_was_refused_and_what_was_accepted_and_settled(
    engine: EngineProcess, lane: Callable[..., bytes]
) -> None:
    name = f"told-{lane.__name__}"
    body = {"id": name, "targets": URLS[:2], "nodes": NODES}
    for request, status in (
        (lane(body, FORWARDED), 401),
        (lane(body, AUTHORIZATION, FORWARDED), 202),
        (lane({"id": name, "targets": URLS[:1]}, AUTHORIZATION, FORWARDED), 409),
        (lane({"targets": []}, AUTHORIZATION, FORWARDED), 422),
    ):
        assert ask(engine, request)[0] == status
    settled(engine, name)
    who = {"by": "cms", "address": "198.51.100.7", "door": "http"}
    wait_until(lambda: audit_of(engine, audit="settled", task_id=name), what="the line of the end")
    wait_until(lambda: audit_of(engine, status=422, **who), what="the line of the last request")
    what = {"action": "purge", "kind": "url", "task_id": name}
    assert audit_of(engine, audit="accepted", status=202, count=2, target=URLS[0], **who, **what)
    assert audit_of(engine, audit="settled", outcome="done", count=2, **who, **what)
    assert audit_of(engine, audit="refused", status=409, count=1, **who, **what)
    assert audit_of(engine, status=422, **who)[0]["reason"].startswith("targets: takes")
    refused = audit_of(engine, audit="refused", status=401, address="198.51.100.7")
    assert refused
    assert all(line["request"] == "POST /v1/engine/task" for line in refused)
    assert not any("by" in line for line in refused)


def test_the_log_tells_of_cancels_and_of_what_admins_do(engine: EngineProcess) -> None:
    format_body = {"format": "struct"}
    swap = post(format_body, AUTHORIZATION, path="/v1/engine/log-format").replace(b"POST", b"PUT", 1)
    assert ask(engine, swap)[0] == 200
    body = {"id": "taken-back", "targets": URLS[:1], "nodes": ["away"]}
    assert ask(engine, post(body, AUTHORIZATION))[0] == 202
    cancel = f"DELETE /v1/engine/task/taken-back HTTP/1.1\r\nHost: engine\r\n{AUTHORIZATION}\r\n\r\n"
    assert ask(engine, cancel.encode())[0] == 200
    wait_until(lambda: audit_of(engine, audit="cancelled"), what="the line of the cancel")
    [line] = audit_of(engine, audit="cancelled", task_id="taken-back")
    assert (line["by"], line["address"], line["outcome"]) == ("cms", "127.0.0.1", "cancelled")
    assert (line["count"], line["target"]) == (1, URLS[0])
    [line] = audit_of(engine, audit="admin")
    assert (line["request"], line["by"], line["status"]) == ("PUT /v1/engine/log-format", "cms", 200)

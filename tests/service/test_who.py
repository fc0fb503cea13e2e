"""Who did what: in the documents of tasks, and on the command line."""

from __future__ import annotations

import hashlib
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
URLS = [f"http://img.example.com/{number}.jpg" for number in range(120)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    with FakeNode() as parent, FakeNode() as edge:
        tables = (
            layer_tables("parent", "edge")
            + fake_table(parent.url, name="parent-1", layer="parent")
            + fake_table(edge.url, name="edge-1", parents=["parent-1"])
            + f'[[auth.tokens]]\nname = "cms"\nsha256 = "{digest}"\nscopes = ["submit", "read"]\n'
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
    body = {"id": name, "targets": URLS}
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
    assert ask(engine, post({"id": "shown", "targets": URLS[:2]}, AUTHORIZATION))[0] == 202
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

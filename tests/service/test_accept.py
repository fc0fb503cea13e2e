"""Bodies: what is wrong with them, what counts as the same, and idempotent ids in every stage of a task."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node import OK, FakeNode, Request
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.raw_client import RawClient, post
from tests.waiting import wait_until

URL = "http://img.example.com/a.jpg"


class Held:
    def __init__(self) -> None:
        self.released = threading.Event()

    def __call__(self, request: Request) -> Iterator[bytes]:
        if "/held" in request.path:
            self.released.wait(60)
        yield OK


@pytest.fixture(scope="module")
def held() -> Held:
    return Held()


@pytest.fixture(scope="module")
def engine(held: Held, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with FakeNode(held) as node:
        tables = (
            fake_table(node.url, name="edge-1", driver="ats")
            + '[[site]]\nhost = "*.example.com"\n[[site]]\nhost = "[2001:db8::1]"\n'
            '[[site]]\nhost = "xn--bcher-kva.example"\n'
        )
        settings: dict[str, Any] = {"request_timeout_s": 60, "drain_timeout_s": 1}
        with EngineProcess(tmp_path_factory.mktemp("accept"), tables, **settings) as running:
            yield running
            held.released.set()
            assert "Traceback" not in running.log()


def ask(engine: EngineProcess, body: object) -> tuple[int, dict[str, Any]]:
    with RawClient(engine.port) as client:
        answer = client.ask(post(body))
    if answer.status >= 400:
        assert answer.detail
    return answer.status, answer.json


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body: field 'targets'"),
        ([], "body"),
        (None, "body"),
        ("text", "body"),
        ({"targets": None}, "targets"),
        ({"targets": URL}, "targets"),
        ({"targets": {}}, "targets"),
        ({"targets": []}, "targets"),
        ({"targets": [URL] * 10_001}, "targets"),
        ({"targets": [1]}, "targets"),
        ({"targets": [URL, None]}, "targets"),
        ({"targets": [[URL]]}, "targets"),
        ({"targets": [URL], "tragets": 1}, "body: unknown field 'tragets'; did you mean 'targets'?"),
        ({"targets": [URL], "id": ""}, "id"),
        ({"targets": [URL], "id": "a/b"}, "id"),
        ({"targets": [URL], "id": "a\n"}, "id"),
        ({"targets": [URL], "id": "ü"}, "id"),
        ({"targets": [URL], "id": "x" * 65}, "id"),
        ({"targets": [URL], "id": 7}, "id"),
        ({"targets": [URL], "action": "delete"}, "action"),
        ({"targets": [URL], "action": None}, "action"),
        ({"targets": [URL], "kind": "glob"}, "kind"),
        ({"targets": [URL], "kind": "regex"}, "kind"),
        ({"targets": [URL], "kind": "url", "action": "prefetch", "soft": True}, "soft"),
        ({"targets": [URL], "action": "prefetch", "kind": "prefix"}, "kind"),
        ({"targets": [URL], "soft": "yes"}, "soft"),
        ({"targets": [URL], "soft": 1}, "soft"),
        ({"targets": [URL], "prefetch": "no"}, "prefetch"),
        ({"targets": [URL], "layers": "edge"}, "layers"),
        ({"targets": [URL], "layers": ["egde"]}, "layers"),
        ({"targets": [URL], "nodes": ["edge-2"]}, "nodes"),
        ({"targets": [URL], "nodes": [1]}, "nodes"),
        ({"targets": [URL], "callback": "http://hook.example.com/"}, "callback"),
        ({"targets": [URL], "callback": 1}, "callback"),
        ({"targets": [URL], "due_s": 0}, "due_s"),
        ({"targets": [URL], "due_s": -1}, "due_s"),
        ({"targets": [URL], "due_s": "60"}, "due_s"),
        ({"targets": [URL], "due_s": 1e9}, "due_s"),
    ],
)
def test_a_wrong_field_is_named(engine: EngineProcess, body: object, field: str) -> None:
    status, problem = ask(engine, body)
    assert status == 422
    assert problem["detail"].startswith(field), problem
    assert "`" not in problem.get("field", "")


@pytest.mark.parametrize(
    "target",
    [
        "",
        "a.jpg",
        "/a.jpg",
        "//img.example.com/a",
        "ftp://img.example.com/a",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///a",
        "http://user@img.example.com/a",
        "http://user:pass@img.example.com/a",
        "http://img.example.com@other.org/a",
        "http://other.org/a",
        "http://example.com/a",
        "http://img.example.com.other.org/a",
        "http://127.0.0.1/a",
        "http://[::1]/a",
        "http://[2001:db8::2]/a",
        "http://[2001:db8::1/a",
        "http://[img.example.com]/a",
        "http://img..example.com/a",
        "http://-img.example.com/a",
        "http://*.example.com/a",
        f"http://{'a' * 64}.example.com/a",
        "http://img.example.com:0/a",
        "http://img.example.com:65536/a",
        "http://img.example.com:8x/a",
        "http://img.example.com/a b",
        " http://img.example.com/a",
        "http://img.example.com/a ",
        "http://img.example.com/a\tb",
        "http://img.example.com/a\r\nX-Evil: 1",
        "http://img.example.com/\x00",
        "http://img.example.com/\x7f",
        "http://img.example.com/ü",
        "http://img.example.com\r\n/a",
        "http://img.exa mple.com/a",
        "http://img.example.com\\@other.org/a",
        "http://img.example.com/" + "a" * 8001,
    ],
)
def test_a_wrong_target_is_named(engine: EngineProcess, target: str) -> None:
    """With its place among the good ones; nothing of the task is stored."""
    before = engine.get("/v1/engine/stats")["qps_boss"]["count"]
    status, problem = ask(engine, {"targets": [URL, target]})
    assert status == 422
    assert problem["detail"].startswith("targets[1]: ")
    assert problem["field"] == "targets[1]"
    assert all(character >= " " for character in problem["detail"])
    assert engine.get("/v1/engine/stats")["qps_boss"]["count"] == before


@pytest.mark.parametrize(
    ("targets", "total"),
    [
        ([URL] * 10_000, 1),
        ([URL, "HTTP://IMG.EXAMPLE.COM/a.jpg", "http://img.example.com:80/a.jpg", f"{URL}#top"], 1),
        (["http://img.example.com/%7Ea", "http://img.example.com/~a"], 2),
        (["https://img.example.com/a", "http://img.example.com/a"], 2),
        (["http://img.example.com", "http://img.example.com/", "http://img.example.com?"], 2),
        (["http://[2001:db8::1]/a", "http://[2001:DB8:0:0::1]:80/a"], 1),
        (["http://bücher.example/a", "http://BÜCHER.example/a", "http://xn--bcher-kva.example/a"], 1),
        (["http://img.example.com:8080/a", "http://img.example.com/a"], 2),
        (["http://img.example.com/" + "a" * 7999], 1),
        ([f"http://img.example.com/{number}" for number in range(10_000)], 10_000),
    ],
)
def test_targets_that_are_the_same_count_once(engine: EngineProcess, targets: list[str], total: int) -> None:
    status, answer = ask(engine, {"targets": targets})
    assert (status, answer.get("total")) == (202, total)
    assert engine.wait_for(answer["task_id"])["counter"] == total


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"targets":["http://img.example.com/a"]',
        b'{"targets":["http://img.example.com/a"]}}',
        b'{"targets":["http://img.example.com/\xff"]}',
        b"\xef\xbb\xbf{}",
        b"\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"targets":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"targets":["http://img.example.com/a"],"due_s":1e999}',
        b'{"targets":["http://img.example.com/a"],"due_s":NaN}',
        b'{"targets":["http://img.example.com/\\ud800"]}',
    ],
)
def test_what_is_not_json_is_a_problem(engine: EngineProcess, body: bytes) -> None:
    status, _ = ask(engine, body)
    assert status in {400, 422}


def test_an_id_is_answered_the_same_in_every_stage(engine: EngineProcess, held: Held) -> None:
    """While it is being saved, running, and settled: 200 for the same body in any order, 409 for another."""
    held.released.clear()
    same = {"id": "again", "targets": ["http://img.example.com/held"], "due_s": 90}
    turned = json.dumps(dict(reversed(same.items())), indent=3).encode()
    other = {**same, "due_s": 91}
    with RawClient(engine.port) as client:  # one batch: the later ones meet the first while it is being saved
        client.send(post(same) + post(turned) + post(other) + post(same))
        answers = [client.answer() for _ in range(4)]
    assert [answer.status for answer in answers] == [202, 200, 409, 200]
    assert answers[1].json["task_id"] == "again"
    assert answers[2].json["field"] == "id"

    def check(state: str) -> None:
        for body in (same, turned):
            status, document = ask(engine, body)
            assert (status, document["task_id"], document["state"]) == (200, "again", state)
            assert "digest" not in document
        assert ask(engine, other)[0] == 409

    engine.wait_for("again", "running")
    check("running")
    engine.kill()
    engine.start()
    engine.wait_for("again", "running")
    check("running")
    held.released.set()
    engine.wait_for("again")
    check("done")
    engine.stop()
    engine.start()
    check("done")


@pytest.mark.parametrize("field", ["layers", "nodes", "unknown field"])
def test_a_huge_name_is_refused_quickly_and_not_repeated(engine: EngineProcess, field: str) -> None:
    huge = "edge" * 2_000_000
    body = {"targets": [URL], **({huge: 1} if field == "unknown field" else {field: [huge]})}
    begun_at = time.monotonic()
    status, problem = ask(engine, body)
    assert status == 422
    assert time.monotonic() - begun_at < 10
    assert len(json.dumps(problem)) < 1000
    assert field in problem["detail"]


@pytest.mark.parametrize(
    "query",
    ["limit={}", "cursor={}", "cursor=s{}", "cursor=s0.{}", "cursor=s{}.0", "cursor={}~x", "cursor={}.5~x"],
)
def test_numbers_of_thousands_of_digits_are_refused(engine: EngineProcess, query: str) -> None:
    status, headers, body = engine.request("GET", "/v1/engine/tasks?" + query.format("9" * 5000))
    assert status == 422, body
    assert headers["content-type"] == "application/problem+json"
    assert len(body) < 1000
    assert json.loads(body)["field"] == query.partition("=")[0]


def test_tasks_that_wait_for_a_dead_node_take_no_room_in_memory(tmp_path: Path) -> None:
    """All that is left of them is on disk, so twice as many as there is room for are taken."""
    with (
        FakeNode() as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1"), live_subtasks_max=10) as engine,
    ):
        node.stop()
        ids: list[str] = []
        for number in range(20):
            ids.append(engine.submit([f"http://img.example.com/{number}"], due_s=600))
            wait_until(
                lambda: engine.node("edge-1")["delayed"] == len(ids), timeout_s=40, what="being parked"
            )
        wait_until(lambda: engine.get("/v1/engine/stats")["tasks_in_cache"] == 0, what="them being stored")
        node.start()
        for task_id in ids:
            engine.wait_for(task_id, "done", timeout_s=40)
        engine.wait_for(engine.submit(["http://img.example.com/after"]), "done")

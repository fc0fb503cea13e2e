"""More than it can take: refused with Retry-After, bounded in memory, and taken when there is room again."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node import FakeNode, Held
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.raw_client import Answer, RawClient, chunked, post
from tests.waiting import wait_until


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def node(held: Held) -> Iterator[FakeNode]:
    with FakeNode(held) as running:
        yield running
        held.released.set()


@pytest.fixture
def make(node: FakeNode, tmp_path: Path) -> Iterator[Callable[..., EngineProcess]]:
    started: list[EngineProcess] = []

    def start(**engine: Any) -> EngineProcess:
        table = fake_table(node.url, name="edge-1", driver="ats")
        process = EngineProcess(tmp_path, table, request_timeout_s=60, drain_timeout_s=1, **engine)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()
        assert "Traceback" not in process.log()


def task(count: int, name: str) -> dict[str, object]:
    return {"id": name, "targets": [f"http://img.example.com/{name}/{n}" for n in range(count)]}


def test_a_task_waits_for_room_before_it_is_refused(make: Callable[..., EngineProcess], held: Held) -> None:
    """A client that is faster than the caches is slowed down, not refused; the answers keep their order."""
    engine = make(live_subtasks_max=100, saver_push_timeout_s=20)
    engine.submit(**task(90, "first"))  # type: ignore[arg-type]
    with RawClient(engine.port) as client, RawClient(engine.port) as other:
        client.send(post(task(20, "second")) + post(task(30, "third")))
        wait_until(lambda: engine.get("/v1/engine/stats")["tasks_in_cache"] == 3, what="both waiting")
        other.send(post(task(20, "second")))  # the same again joins the one that waits
        assert engine.get("/v1/engine/stats")["pushing_queue"] == 90
        held.released.set()
        answers = [client.answer(), client.answer()]
        assert [(answer.status, answer.json["task_id"]) for answer in answers] == [
            (202, "second"),
            (202, "third"),
        ]
        assert other.answer().status == 200
    for name in ("first", "second", "third"):
        assert engine.wait_for(name)["state"] == "done"


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_live_subtasks_have_a_limit(make: Callable[..., EngineProcess], held: Held) -> None:
    """503 with Retry-After on both lanes, and in a line of NDJSON; the same request is taken later."""
    engine = make(live_subtasks_max=100)
    engine.submit(**task(90, "first"))  # type: ignore[arg-type]
    with RawClient(engine.port) as client:
        for request_of in (post, chunked):
            answer: Answer = client.ask(request_of(task(20, "second")))
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
            assert "pushing_queue" in answer.detail
        line = json.dumps(task(20, "second")).encode()
        assert client.ask(post(line, path="/v1/engine/tasks")).json["status"] == 503
        assert client.ask(post(task(10, "small"))).status == 202  # there was room for a small one
    assert engine.request("GET", "/v1/engine/task/second")[0] == 404
    assert engine.get("/v1/engine/stats")["pushing_queue"] == 100
    assert engine.get("/healthz") == {"status": "ok"}
    held.released.set()
    engine.wait_for("first")
    engine.wait_for("small")
    engine.submit(**task(20, "second"))  # type: ignore[arg-type]
    assert engine.wait_for("second")["counter"] == 20


def test_one_task_larger_than_the_limit_is_taken_alone(
    make: Callable[..., EngineProcess], held: Held
) -> None:
    """It would never fit; so it goes when nothing else is at work."""
    held.released.set()
    engine = make(live_subtasks_max=10)
    engine.submit(**task(50, "large"))  # type: ignore[arg-type]
    assert engine.wait_for("large")["counter"] == 50


def test_a_saver_backlog_that_is_full_says_so(make: Callable[..., EngineProcess], held: Held) -> None:
    """What waits for the saver is bounded: some tasks are told to come again, and none gets lost."""
    held.released.set()
    engine = make(saver_backlog_count=100, saver_push_timeout_s=0)
    lines = [json.dumps(task(1, f"n-{number}")) for number in range(5000)]
    status, _, body = engine.request("POST", "/v1/engine/tasks", "\n".join(lines).encode())
    answers = [json.loads(line) for line in body.splitlines()]
    assert (status, len(answers)) == (200, 5000)
    taken = [answer["task_id"] for answer in answers if answer.get("state") == "accepted"]
    refused = [answer for answer in answers if answer.get("status") == 503]
    assert len(taken) + len(refused) == 5000
    assert refused
    assert all("saver_queue" in answer["detail"] for answer in refused)
    for task_id in taken:
        engine.wait_for(task_id)
    number = next(n for n, answer in enumerate(answers) if answer.get("status") == 503)
    assert engine.request("GET", f"/v1/engine/task/n-{number}")[0] == 404
    engine.submit(**task(1, f"n-{number}"))  # type: ignore[arg-type]
    assert engine.wait_for(f"n-{number}")["state"] == "done"


@pytest.mark.parametrize("request_of", [post, chunked], ids=["fast lane", "aiohttp's lane"])
def test_a_client_that_reads_no_answers_does_not_grow_the_memory(
    make: Callable[..., EngineProcess], held: Held, request_of: Callable[[object], bytes]
) -> None:
    """It may send what the sockets hold and not much more; others are served as before."""
    held.released.set()
    engine = make()
    engine.wait_for(engine.submit(["http://img.example.com/warm"]))
    before = rss_bytes(engine.pid)
    data = request_of(b"{" + b"x" * 20) * 2000
    with RawClient(engine.port, timeout_s=2) as client:
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 200_000_000:
                sent += client.socket.send(data)
        assert sent < 200_000_000
        engine.wait_for(engine.submit(["http://img.example.com/other"]))
        assert rss_bytes(engine.pid) - before < 64 * 1024 * 1024
    wait_until(lambda: engine.get("/healthz"), what="health")

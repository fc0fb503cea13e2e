"""Several workers on one port: whichever a connection reaches, it sees every task."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.tasks.shards import slot_of
from tests.fakes.node import FakeNode, Held
from tests.rigs.engine_process import ROOT, fake_table
from tests.rigs.raw_client import RawClient, chunked, post
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

COUNT = 2
Connect = Callable[[SupervisedEngine], list[RawClient]]


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with FakeNode() as running:
        yield running


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisedEngine]:
    """One for all tests that leave its workers alone; each has tasks of its own."""
    folder = tmp_path_factory.mktemp("workers")
    with FakeNode() as node, SupervisedEngine(
        folder, fake_table(node.url, name="edge-1", driver="ats"), workers=COUNT, drain_timeout_s=2
    ) as running:  # fmt: skip
        yield running
    assert "Traceback" not in running.log()


def ids_of_both(prefix: str) -> list[str]:
    """Return an id of each slot."""
    found: dict[int, str] = {}
    for number in range(100):
        found.setdefault(slot_of(f"{prefix}-{number}", COUNT), f"{prefix}-{number}")
    return [found[slot] for slot in range(COUNT)]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return connections to both workers; which one takes a connection is the kernel's choice."""
    with contextlib.ExitStack() as stack:

        def clients_of_both(engine: SupervisedEngine) -> list[RawClient]:
            found: dict[int, RawClient] = {}

            def both() -> bool:
                client = stack.enter_context(RawClient(engine.port))
                pid = client.ask(b"GET /version HTTP/1.1\r\nHost: e\r\n\r\n").json["pid"]
                found.setdefault(pid, client)
                return len(found) == COUNT

            wait_until(both, what="connections to both workers")
            return list(found.values())

        yield clients_of_both


def get(client: RawClient, path: str) -> dict[str, Any]:
    answer = client.ask(f"GET {path} HTTP/1.1\r\nHost: e\r\n\r\n".encode())
    assert answer.status == 200, answer
    return dict(answer.json)


def test_every_task_is_seen_through_every_worker(engine: SupervisedEngine, connect: Connect) -> None:
    """Those whose id is the engine's as well as those whose id the client chose, on both lanes."""
    clients = connect(engine)
    ids = ids_of_both("task")
    for client in clients:
        ids.append(client.ask(post({"targets": ["http://a.com/own"]})).json["task_id"])
    for client, task_id in zip(clients, ids[:COUNT], strict=True):
        answer = client.ask(post({"targets": ["http://a.com/x"], "id": task_id}))
        assert (answer.status, answer.json["task_id"]) == (202, task_id)
    for task_id in ids:
        assert engine.wait_for(task_id, "done")["counter"] == 1
        documents = [get(client, f"/v1/engine/task/{task_id}") for client in clients]
        assert documents[0] == documents[1]


def test_an_id_means_one_task_whichever_worker_is_asked(engine: SupervisedEngine, connect: Connect) -> None:
    """The same body again is answered with the task, another one is a conflict; on both lanes, in NDJSON."""
    clients = connect(engine)
    for task_id in ids_of_both("once"):
        body = {"targets": ["http://a.com/x"], "id": task_id}
        assert clients[0].ask(post(body)).status == 202
        for client in clients:
            assert client.ask(post(body)).json["task_id"] == task_id
            for form in (post, chunked):
                assert client.ask(form(body)).status == 200
                assert client.ask(form({**body, "soft": True})).status == 409
            line = json.dumps({**body, "targets": ["http://a.com/other"]}).encode()
            answer = client.ask(post(line, path="/v1/engine/tasks"))
            assert (answer.status, answer.json["status"]) == (200, 409)
    assert engine.request("GET", "/v1/engine/task/never-was")[0] == 404


def test_mistakes_are_told_by_the_worker_that_was_asked(engine: SupervisedEngine, connect: Connect) -> None:
    for client in connect(engine):
        for task_id in ids_of_both("bad"):
            answer = client.ask(post({"targets": ["ftp://a.com/x"], "id": task_id}))
            assert (answer.status, answer.json["field"]) == (422, "targets[0]")


def test_a_task_is_cancelled_through_every_worker(tmp_path: Path, connect: Connect) -> None:
    held = Held()
    with FakeNode(held) as node, SupervisedEngine(
        tmp_path,
        fake_table(node.url, name="edge-1", driver="ats"),
        workers=COUNT,
        pipeline_depth=1,
        connections_per_node=1,
        drain_timeout_s=1,
    ) as engine:  # fmt: skip
        clients = connect(engine)
        for client in clients:
            for task_id in ids_of_both(f"cancel-{clients.index(client)}"):
                engine.submit([f"http://a.com/{n}" for n in range(5)], id=task_id)
                answer = client.ask(f"DELETE /v1/engine/task/{task_id} HTTP/1.1\r\nHost: e\r\n\r\n".encode())
                assert answer.status == 200, answer
                again = client.ask(
                    f"DELETE /v1/engine/task/no-{task_id} HTTP/1.1\r\nHost: e\r\n\r\n".encode()
                )
                assert again.status == 404
        held.released.set()
        for client in clients:
            for task_id in ids_of_both(f"cancel-{clients.index(client)}"):
                assert engine.wait_for(task_id)["state"] == "cancelled"


def test_listing_goes_through_all_workers_page_by_page(engine: SupervisedEngine) -> None:
    """Stored ones and those in memory, each task once, whatever worker answers a page."""
    ids = [engine.submit([f"http://a.com/{n}"]) for n in range(25)]
    for task_id in ids:
        engine.wait_for(task_id, "done")
    for limit in (1, 7, 100):
        found: list[str] = []
        cursor = ""
        while True:
            page = engine.get(f"/v1/engine/tasks?limit={limit}&cursor={cursor}")
            found += [task["task_id"] for task in page["tasks"]]
            cursor = page["cursor"]
            if not cursor:
                break
        assert len(set(found)) == len(found)
        assert set(found) >= set(ids)
    assert engine.request("GET", "/v1/engine/tasks?cursor=nonsense")[0] == 422
    assert engine.request("GET", "/v1/engine/tasks?cursor=w9:s")[0] == 200
    assert engine.get("/v1/engine/tasks?state=failed")["tasks"] == []


def test_statistics_nodes_and_metrics_are_of_all_workers(engine: SupervisedEngine, connect: Connect) -> None:
    """Twenty tasks more, whatever worker took them and whichever is asked."""
    clients = connect(engine)
    before = [counts(client) for client in clients]
    for n in range(20):
        engine.wait_for(engine.submit([f"http://a.com/{n}"]), "done")
    wait_until(lambda: engine.get("/v1/engine/stats")["tasks_in_cache"] == 0, what="all being stored")
    assert before == [before[0]] * COUNT
    for client in clients:
        assert counts(client) == {what: count + 20 for what, count in before[0].items()}
        assert get(client, "/v1/engine/stats")["tasks_in_cache"] == 0
        assert get(client, "/v1/engine/nodes")["nodes"][0]["state"] == "ready"


def counts(client: RawClient) -> dict[str, float]:
    """Return what the worker of a connection counts: requests, acks and tasks that are done."""
    page = client.ask(b"GET /metrics HTTP/1.1\r\nHost: e\r\n\r\n").body.decode()
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    return {
        "taken": get(client, "/v1/engine/stats")["qps_boss"]["count"],
        "acked": get(client, "/v1/engine/nodes")["nodes"][0]["acked"],
        "done": float(values["purgeline_tasks_done_total"]),
    }


def test_the_log_format_is_swapped_in_all_workers(engine: SupervisedEngine, connect: Connect) -> None:
    """The next SIGUSR1, which each of them gets, finds them in the same one, and leaves them so."""
    status, _, _ = engine.request("PUT", "/v1/engine/log-format", {"format": "dict"})
    assert status == 200
    os.kill(engine.pid, signal.SIGUSR1)
    wait_until(lambda: engine.log().count("log format is now ") == COUNT, what="the next format in both")
    assert engine.log().count("log format is now text") == COUNT
    assert engine.request("PUT", "/v1/engine/log-format", {"format": "struct"})[0] == 200


def test_a_worker_that_is_killed_comes_back_and_its_tasks_go_on(tmp_path: Path) -> None:
    held = Held()
    with FakeNode(held) as node, SupervisedEngine(
        tmp_path, fake_table(node.url, name="edge-1", driver="ats"), workers=COUNT, drain_timeout_s=1
    ) as engine:  # fmt: skip
        ids = [*ids_of_both("a"), *ids_of_both("b")]
        for task_id in ids:
            engine.submit([f"http://a.com/{n}" for n in range(10)], id=task_id)
        victim = engine.workers()[0]
        os.kill(victim["pid"], signal.SIGKILL)
        for task_id in ids:  # asked at once: those of the dead one wait until it is back
            assert engine.task(task_id)["total"] == 10
        held.released.set()
        for task_id in ids:
            assert engine.wait_for(task_id, "done")["counter"] == 10
        wait_until(lambda: len(engine.workers()) == COUNT, what="both workers")
        assert engine.workers()[0]["pid"] != victim["pid"]
        assert engine.workers()[0]["restarts"] == 1


def test_tasks_go_over_to_another_number_of_workers_when_they_are_moved(
    tmp_path: Path, node: FakeNode
) -> None:
    """Settled ones and those of a cache that is away; what was delayed is delivered by the new workers.

    On the data as they are, another number of workers is refused, and harms nothing.
    """
    tables = fake_table(node.url, name="edge-1", driver="ats")
    ids = [f"t{number}" for number in range(12)]
    with SupervisedEngine(tmp_path, tables, workers=2) as engine:
        for task_id in ids[:6]:
            engine.wait_for(engine.submit([f"http://a.com/{task_id}"], id=task_id), "done")
        node.stop()
        for task_id in ids[6:]:
            engine.wait_for(engine.submit([f"http://a.com/{task_id}"], id=task_id, due_s=1), "partial")
    other = SupervisedEngine(tmp_path, tables, workers=3)
    other.start(wait=False)
    assert other.process is not None
    assert other.process.wait(30) == 1
    assert "with workers=2 saver_count=1" in other.log()
    assert "Traceback" not in other.log()
    words = ["--config", str(engine.config_path), "--from", "sqlite:", "--to", "sqlite:of-three"]
    command = [sys.executable, "-m", "engine", "migrate", *words, "--workers", "3"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    folder = tmp_path / "other"
    folder.mkdir()
    node.start()
    with SupervisedEngine(folder, tables, workers=3, data_dir=str(tmp_path / "var/of-three")) as engine:
        for task_id in ids:
            assert engine.wait_for(task_id, "done")["counter"] == 1
        wait_until(lambda: sorted(node.urls) == sorted(f"http://a.com/{one}" for one in ids), what="the rest")

"""Many tasks and one node: coalescing, fairness, cancelling, due times."""

import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.fakes.node import OK, Act, FakeNode, Request
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.waiting import wait_until

HOST = "img.example.com"


class Gate:
    """A script that answers nothing until it is opened."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, request: Request) -> Iterable[bytes | Act]:
        self.event.wait(60)
        yield OK


def test_the_same_target_of_many_tasks_is_sent_once(tmp_path: Path) -> None:
    """What waits is joined; what is on the wire already is not, the page may have changed since."""
    gate = Gate()
    with (
        FakeNode(gate) as node,
        EngineProcess(
            tmp_path, fake_table(node.url, name="edge-1"), connections_per_node=1, request_timeout_s=60
        ) as engine,
    ):
        url = f"http://{HOST}/a"
        first = engine.submit([url])
        wait_until(lambda: len(node.requests) == 1, what="the first request")
        ids = [engine.submit([url, f"http://{HOST}/own/{number}"]) for number in range(20)]
        wait_until(lambda: engine.node("edge-1")["waiting"] == 21, what="the others waiting")
        soft = engine.submit([url], soft=True)
        gate.event.set()
        for task_id in (first, *ids, soft):
            task = engine.wait_for(task_id)
            assert (task["state"], task["counter"]) == ("done", task["total"])
        counts = Counter((request.path, request.headers.get("purgeline-soft")) for request in node.requests)
        assert counts.pop(("/a", None)) == 2
        assert counts.pop(("/a", "1")) == 1
        assert set(counts.values()) == {1}
        assert len(counts) == 20


def test_a_small_task_does_not_wait_for_a_large_one(tmp_path: Path) -> None:
    """10,000 URLs, then one: the one is among the next few hundred requests."""

    def script(request: Request) -> Iterable[bytes | Act]:
        time.sleep(0.0005)
        yield OK

    with FakeNode(script) as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        large = engine.submit([f"http://{HOST}/{number}" for number in range(10_000)])
        wait_until(lambda: len(node.requests) > 100, what="the large task being on its way")
        sent = len(node.requests)
        small = engine.submit([f"http://{HOST}/small"])
        assert engine.wait_for(small)["state"] == "done"
        assert engine.task(large)["state"] == "running"
        place = node.urls.index(f"http://{HOST}/small")
        assert place - sent < 3000
        task = engine.wait_for(large, timeout_s=60)
        assert (task["state"], task["counter"]) == ("done", 10_000)
        assert len(node.requests) == 10_001


def test_cancelling_takes_back_what_was_not_sent(tmp_path: Path) -> None:
    """What is on the wire is finished and counted; the rest never reaches the node."""
    gate = Gate()
    with (
        FakeNode(gate) as node,
        EngineProcess(
            tmp_path, fake_table(node.url, name="edge-1"), connections_per_node=1, request_timeout_s=60
        ) as engine,
    ):
        task_id = engine.submit([f"http://{HOST}/{number}" for number in range(100)])
        other = engine.submit([f"http://{HOST}/50", f"http://{HOST}/other"])
        wait_until(lambda: len(node.requests) == 1, what="the first request")
        status, _, _ = engine.request("DELETE", f"/v1/engine/task/{task_id}")
        assert status == 200
        task = engine.task(task_id)
        assert (task["state"], task["counter"], task["cancelled"]) == ("cancelled", 0, 100)
        gate.event.set()
        wait_until(lambda: engine.task(task_id)["counter"] == 1, what="the answer being counted")
        task = engine.task(task_id)
        assert (task["state"], task["active"], task["cancelled"]) == ("cancelled", False, 99)
        assert engine.wait_for(other)["state"] == "done"
        assert node.urls == [f"http://{HOST}/0", f"http://{HOST}/50", f"http://{HOST}/other"]
        assert engine.request("DELETE", f"/v1/engine/task/{task_id}")[0] == 409
        assert engine.request("DELETE", f"/v1/engine/task/{other}")[0] == 409
        assert engine.request("DELETE", "/v1/engine/task/unknown")[0] == 404
        empty = {"pushing_queue": 0, "timer_tasks": 0, "tasks_in_cache": 0}
        wait_until(
            lambda: empty.items() <= engine.get("/v1/engine/stats").items(),
            what="nothing being left in memory",
        )


def test_a_task_is_partial_at_its_due_time_and_done_later(tmp_path: Path) -> None:
    """Each task has its own; one that is done in time was never partial."""
    gate = Gate()
    with (
        FakeNode(gate) as node,
        FakeNode() as other,
        EngineProcess(
            tmp_path,
            fake_table(node.url, name="edge-1") + fake_table(other.url, name="edge-2"),
            request_timeout_s=60,
            due_s=600,
        ) as engine,
    ):
        began = time.time()
        soon = engine.submit([f"http://{HOST}/soon"], due_s=1)
        late = engine.submit([f"http://{HOST}/late"])
        quick = engine.submit([f"http://{HOST}/quick"], nodes=["edge-2"], due_s=1)
        assert engine.wait_for(quick)["state"] == "done"
        task = engine.wait_for(soon, "partial")
        assert time.time() - began >= 1
        assert abs(task["due_at"] - task["created_at"] - 1) < 0.001
        assert (task["active"], task["counter"], task["delayed"]) == (True, 1, 0)
        assert engine.task(late)["state"] == "running"
        assert abs(engine.task(late)["due_at"] - engine.task(late)["created_at"] - 600) < 0.001
        gate.event.set()
        for task_id in (soon, late):
            task = engine.wait_for(task_id)
            assert (task["state"], task["counter"]) == ("done", 2)

"""SIGKILL under load: what was answered 202 is found again and done."""

import http.client
import json
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from release.lab import caches
from release.lab.origin import Origin
from tests.fakes.node import OK, Act, FakeNode, Request
from tests.rigs.engine_process import EngineProcess, fake_table, node_table
from tests.waiting import wait_until

ROUNDS = int(os.environ.get("PURGELINE_TEST_ROUNDS", "4"))
LOAD_S = 0.5
CLIENTS = 6


class Load:
    """Clients that post tasks over kept-alive connections and write down every 202."""

    def __init__(self, port: int, label: str) -> None:
        self.accepted: list[str] = []
        self.answers_of_another_kind: list[tuple[int, bytes]] = []
        self._port = port
        self._label = label
        self._threads = [threading.Thread(target=self._post, args=(number,)) for number in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _post(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            for count in range(1_000_000):
                name = f"{self._label}-{number}-{count}"
                targets = [f"http://img.example.com/{name}/{place}.jpg" for place in range(2)]
                body = {"targets": targets, **({"id": name} if count % 2 else {})}
                connection.request("POST", "/v1/engine/task", json.dumps(body))
                response = connection.getresponse()
                answer = response.read()
                if response.status == 202:
                    self.accepted.append(json.loads(answer)["task_id"])
                else:
                    self.answers_of_another_kind.append((response.status, answer))
        except (OSError, http.client.HTTPException, ValueError):
            pass  # it was killed
        finally:
            connection.close()


def wait_for_all(engine: EngineProcess, ids: list[str], timeout_s: float = 60) -> dict[str, str]:
    """Return the state of each id, when all are done or time is up; an unknown one is ``lost``."""
    states = dict.fromkeys(ids, "")
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=20)
    until = time.monotonic() + timeout_s
    try:
        while (left := [task_id for task_id, state in states.items() if state not in {"done", "lost"}]) and (
            time.monotonic() < until
        ):
            for task_id in left:
                connection.request("GET", f"/v1/engine/task/{task_id}")
                response = connection.getresponse()
                body = response.read()
                states[task_id] = json.loads(body)["state"] if response.status == 200 else "lost"
    finally:
        connection.close()
    return states


@pytest.mark.timeout(300)
def test_nothing_answered_202_is_lost_by_kill_9(origin: Origin, tmp_path: Path) -> None:
    """Ten rounds on one data folder: load, SIGKILL, restart; every 202 of all rounds is found and done."""
    accepted: list[str] = []
    with caches.start_cache("nginx", tmp_path, name="edge-1", backend=origin.address) as cache:
        engine = EngineProcess(tmp_path, node_table(cache, name="edge-1"))
        engine.start()
        try:
            for number in range(ROUNDS):
                load = Load(engine.port, f"round-{number}")
                load.start()
                wait_until(lambda load=load: load.accepted, what="a first 202")  # type: ignore[misc]
                time.sleep(LOAD_S)  # the load itself, not a wait for something
                engine.kill()
                load.join()
                assert load.answers_of_another_kind == []
                engine.start()
                states = wait_for_all(engine, load.accepted)
                found = [task_id for task_id, state in states.items() if state != "lost"]
                done = [task_id for task_id in found if states[task_id] == "done"]
                lost = len(load.accepted) - len(found)
                print(
                    f"round {number}: accepted {len(load.accepted)} found {len(found)} done {len(done)} "
                    f"lost {lost}"
                )
                assert (lost, len(done)) == (0, len(load.accepted))
                accepted += load.accepted
            states = wait_for_all(engine, accepted)
            assert set(states.values()) == {"done"}
            print(f"all rounds: accepted {len(accepted)} done {len(states)} lost 0")
            stats = engine.get("/v1/engine/stats")
            assert (stats["tasks_in_cache"], stats["pushing_queue"]) == (0, 0)
        finally:
            engine.stop()
        assert "Traceback" not in engine.log()


def test_a_task_that_was_cancelled_with_requests_on_the_wire_stays_so(tmp_path: Path) -> None:
    """The answer to the cancel stands for what is stored."""
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        gate.wait(60)
        yield OK

    with FakeNode(held) as node:
        engine = EngineProcess(tmp_path, fake_table(node.url, name="edge-1"), request_timeout_s=60)
        with engine:
            task_id = engine.submit([f"http://a.com/{number}" for number in range(200)])
            wait_until(lambda: node.requests, what="the first request")
            status, _, text = engine.request("DELETE", f"/v1/engine/task/{task_id}")
            assert (status, json.loads(text)["state"]) == (200, "cancelled")
            engine.kill()
            gate.set()
            sent = len(node.requests)
            engine.start()
            task = engine.task(task_id)
            assert (task["state"], task["cancelled"], task["total"]) == ("cancelled", 200, 200)
            assert engine.wait_for(engine.submit(["http://a.com/other"]))["state"] == "done"
            assert (
                len(node.requests) <= sent + 64 + 1
            )  # what the killed engine had in its sockets, and the other
            assert engine.request("DELETE", f"/v1/engine/task/{task_id}")[0] == 409

"""``purgeline debug``: looks into a real engine."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until


def debug(engine: EngineProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "engine", "debug", *words]
    command += ["--engine", f"http://127.0.0.1:{engine.port}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr
    return done


def looked(engine: EngineProcess, *words: str) -> Any:
    """Return the workers of a look that goes well."""
    done = debug(engine, *words, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["troubles"] == []
    return document["workers"]


@contextlib.contextmanager
def asking(engine: EngineProcess, path: str) -> Iterator[http.client.HTTPConnection]:
    """Ask, and do not wait for the answer."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", engine.port, timeout=30)) as client:
        client.request("GET", f"/v1/engine/debug/{path}")
        yield client


def status_of(engine: EngineProcess, path: str) -> int:
    return engine.request("GET", f"/v1/engine/debug/{path}")[0]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with (
        FakeNode() as node,
        EngineProcess(tmp_path_factory.mktemp("debug"), fake_table(node.url, name="edge-1")) as running,
    ):
        yield running
        assert "Traceback" not in running.log()


def test_threads_are_shown_with_what_they_wait_for(engine: EngineProcess) -> None:
    [worker] = looked(engine, "threads")
    assert (worker["worker"], worker["pid"]) == ("0.0", engine.pid)
    threads = {thread["name"]: thread for thread in worker["threads"]}
    saver = threads["saver-0"]
    assert saver["state"] == "waits"
    assert "_queue.get()" in saver["waits_for"]
    assert saver["stack"][-1].startswith("SaverThread._run (engine/saver/thread.py:")
    assert threads["MainThread"]["cpu_s"] > 0
    said = debug(engine, "threads")
    assert said.returncode == 0
    assert f"thread {saver['thread_id']} saver-0 waits\n" in said.stdout


def test_tasks_are_shown_with_what_they_wait_for(engine: EngineProcess) -> None:
    [worker] = looked(engine, "tasks")
    assert worker["count"] == sum(group["count"] for group in worker["groups"])
    waits = {group["waits_for"] for group in worker["groups"]}
    assert {"an event", "its turn"} & waits
    assert "1 task, waiting for an event (" in debug(engine, "tasks").stdout


def test_what_keeps_the_loop_busy_is_named(engine: EngineProcess) -> None:
    """A body of 10,000 targets is checked in one turn."""
    targets = [f"http://img.example.com/{'a' * 100}{number}" for number in range(9_999)]
    body = json.dumps({"targets": [*targets, "ftp://x"]}).encode()
    with asking(engine, "loop?seconds=1.5&threshold_ms=5") as client:
        wait_until(lambda: status_of(engine, "loop?seconds=0.1") == 409)
        for _ in range(3):
            assert engine.request("POST", "/v1/engine/task", body)[0] == 422
        response = client.getresponse()
        [worker] = json.loads(response.read())["workers"]
    assert worker["lag"]["max_ms"] > 5
    slow = [place for one in worker["slow"] for place in one["stack"]]
    assert any("engine/intake/" in place for place in slow), worker
    assert worker["slow"][0]["longest_ms"] > 5


def test_a_look_ends_with_its_client(engine: EngineProcess) -> None:
    with asking(engine, "loop?seconds=600"):
        wait_until(lambda: status_of(engine, "loop?seconds=0.1") == 409)
        said = debug(engine, "loop", "--seconds", "0.1")
        assert said.returncode == 2
        assert "one at a time" in said.stderr
    wait_until(lambda: status_of(engine, "loop?seconds=0.1") == 200)


def test_passes_of_the_garbage_collector_are_counted_and_traced(engine: EngineProcess) -> None:
    tasks = "".join(f'{{"targets":["http://img.example.com/{number}"]}}\n' for number in range(1000))
    assert engine.request("POST", "/v1/engine/tasks", tasks.encode())[0] == 200
    with asking(engine, "gc/trace?seconds=30") as client, client.getresponse() as stream:
        for _ in range(5):  # 1,000 documents at a time are more objects than a young generation may have
            assert engine.request("GET", "/v1/engine/tasks?limit=1000")[0] == 200
        line = json.loads(stream.readline())
    assert line["worker"] == "0.0"
    assert line["pause_ms"] > 0
    [worker] = looked(engine, "gc", "--seconds", "0.1")
    assert worker["generations"][0]["passes"] > 0
    assert worker["frozen"] > 10_000
    done = debug(engine, "gc", "--trace", "--seconds", "0.2")
    assert done.returncode == 0


def test_what_is_asked_wrongly_is_told(engine: EngineProcess) -> None:
    for words, said in (
        (("threads", "--worker", "7"), "there is no worker 7; there are: 0"),
        (("loop", "--threshold", "1"), "threshold_ms: takes a number from 5 to 10000"),
        (("gc", "--seconds", "601"), "seconds: takes a number from 0.1 to 600"),
        (("gc", "--trace", "--seconds", "601"), "seconds: takes a number from 0.1 to 600"),
        (("nothing",), "invalid choice"),
    ):
        done = debug(engine, *words)
        assert done.returncode == 2, done
        assert said in done.stderr


def test_all_workers_are_looked_into_and_one_that_dies_is_told(tmp_path: Path) -> None:
    with (
        FakeNode() as node,
        SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1"), workers=2) as engine,
    ):
        assert {worker["worker"][0] for worker in looked(engine, "threads")} == {"0", "1"}
        [worker] = looked(engine, "threads", "--worker", "1")
        with asking(engine, "loop?seconds=2.5") as client:
            other = client.sock.getsockname()
            assert other
            wait_until(lambda: status_of(engine, "loop?seconds=0.1") == 409)
            os.kill(worker["pid"], signal.SIGKILL)
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                document = json.loads(client.getresponse().read())
                [left] = document["workers"]
                [trouble] = document["troubles"]
                assert (left["worker"][0], trouble["worker"]) == ("0", worker["worker"])
                assert "does not answer" in trouble["why"]
        wait_until(lambda: len(looked(engine, "tasks")) == 2)

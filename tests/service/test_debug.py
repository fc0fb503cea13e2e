"""``purgeline debug``: looks into a real engine."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.base.form import is_compiled
from tests.fakes.node import OK, Act, FakeNode, Request, answer
from tests.rigs.cluster_engine import cluster_engine
from tests.rigs.engine_process import EngineProcess, fake_table, layer_tables
from tests.rigs.redis_servers import RedisServer
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


NOBODY = "http://127.0.0.1:9"
SECRET = "s3cret-of-the-caches"


def by_path(request: Request) -> Iterator[bytes | Act]:
    """Answer in the ways in which answers end."""
    if "/chunked" in request.path:
        cookie = f"Set-Cookie: {SECRET}".encode()
        yield b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n" + cookie
        yield b"\r\n\r\n5\r\nhello\r\n"
        yield b"0\r\n\r\n"
    elif "/bad" in request.path:
        yield answer(400, b"\x1b[2Jno")
    elif "/close" in request.path:
        yield b"HTTP/1.1 200 Said\r\n\r\nto the end"
        yield Act.CLOSE
    else:
        yield OK


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with (
        FakeNode(by_path) as node,
        EngineProcess(
            tmp_path_factory.mktemp("debug"),
            fake_table(node.url, name="edge-1", headers={"X-Purge-Pass": SECRET}),
        ) as running,
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
    if not is_compiled():  # machine code has no frames: the stack ends where it was called
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


def test_a_profile_tells_threads_and_stacks_in_three_formats(engine: EngineProcess, tmp_path: Path) -> None:
    [worker] = looked(engine, "profile", "--seconds", "0.5", "--rate", "200")
    threads = {thread["name"]: thread for thread in worker["threads"]}
    main, saver = threads["MainThread"], threads["saver-0"]
    assert worker["samples"] >= main["samples"] == saver["samples"] > 10
    assert main["held_up_s"] is not None
    assert saver["held_up_s"] is None
    assert saver["waits_s"] > 0.8 * worker["seconds"]
    assert main["selects_s"] > 0
    for thread in threads.values():
        told_s = thread["works_s"] + thread["selects_s"] + thread["waits_s"]
        assert told_s == pytest.approx(worker["seconds"] * thread["samples"] / worker["samples"], abs=0.01)
    [stack] = [
        stack for stack in worker["stacks"] if (stack["thread"], stack["state"]) == ("saver-0", "waits")
    ]
    assert stack["frames"][-1].startswith("SaverThread._run (engine/saver/thread.py:")
    file = tmp_path / "profile.json"
    done = debug(engine, "profile", "--seconds", "0.3", "--format", "speedscope", "--output-file", str(file))
    assert done.returncode == 0
    assert "the sampler used" in done.stderr
    profile = json.loads(file.read_text())
    assert profile["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    for one in profile["profiles"]:
        assert len(one["samples"]) == len(one["weights"])
        assert sum(one["weights"]) == pytest.approx(one["endValue"], abs=0.001)
        assert max(map(max, one["samples"])) < len(profile["shared"]["frames"])
    done = debug(engine, "profile", "--seconds", "0.3", "--format", "collapsed")
    assert done.returncode == 0
    for line in done.stdout.splitlines():
        assert re.fullmatch(r"worker 0\.0;\S.*\)(;.*\))* \d+", line), line


@pytest.mark.slow
def test_what_is_in_memory_is_counted_by_type(engine: EngineProcess) -> None:
    """Two looks, with 300 tasks more that wait for their time."""
    counts = []
    worker: Any = None
    types: Any = {}
    for _ in range(2):
        [worker] = looked(engine, "heap", "--top", "1000")
        types = {row["type"]: row for row in worker["types"]}
        counts.append(types.get("engine.tasks.task.Task", {}).get("count", 0))
        at = time.time() + 3600
        tasks = "".join(
            f'{{"targets":["http://img.example.com/h{number}"],"start_at":{at}}}\n' for number in range(300)
        )
        assert engine.request("POST", "/v1/engine/tasks", tasks.encode())[0] == 200
    assert 300 <= counts[1] - counts[0] < 310
    assert types["str"]["bytes"] > 1_000_000
    assert types["dict"]["count"] > 1000
    assert worker["rss_bytes"] > worker["bytes"] > 5_000_000
    assert worker["objects"] > 50_000


def test_a_trace_names_the_lines_that_allocate_and_ends_with_its_client(engine: EngineProcess) -> None:
    with asking(engine, "heap?seconds=600&trace=true"):
        wait_until(lambda: status_of(engine, "heap") == 409)
    wait_until(lambda: status_of(engine, "heap?trace=true&seconds=0.1") == 200)  # 409: it is on still
    done = debug(engine, "heap", "--trace", "--seconds", "0.3", "--top", "5")
    assert done.returncode == 0
    assert "traced for 0.3" in done.stderr
    assert re.search(r"^0\.0\t\S+\.py:\d+\t\d+\t\d+$", done.stdout, re.MULTILINE)


def purge(engine: EngineProcess, *paths: str) -> None:
    body = {"targets": [f"http://img.example.com/{path}" for path in paths]}
    status, _, answered = engine.request("POST", "/v1/engine/task", body)
    assert status == 202
    task = json.loads(answered)["task_id"]
    wait_until(lambda: not json.loads(engine.request("GET", f"/v1/engine/task/{task}")[2])["active"])


def exchanges(engine: EngineProcess, count: int, *paths: str) -> list[dict[str, Any]]:
    """Return what passes between the engine and its node while *paths* are purged."""
    with asking(engine, f"nodes/edge-1/wire?seconds=20&count={count}") as client:
        wait_until(lambda: status_of(engine, "nodes/edge-1/wire?seconds=0.1") == 409)
        purge(engine, *paths)
        [worker] = json.loads(client.getresponse().read())["workers"]
    assert SECRET not in json.dumps(worker)
    return list(worker["exchanges"])


def test_what_passes_on_the_wire_is_shown_answer_by_answer_without_secrets(engine: EngineProcess) -> None:
    purge(engine, "before")  # its connection goes on
    shown = exchanges(engine, 8, "a", "chunked/b", "bad/c", "d", "e", "close/f", "g")
    assert [(one["request"][0].split()[1], one["status"], one["body"]) for one in shown] == [
        ("/a", 200, ""),
        ("/chunked/b", 200, "5\\x0d\\x0ahello\\x0d\\x0a0\\x0d\\x0a\\x0d\\x0a"),
        ("/bad/c", 400, "\\x1b[2Jno"),
        ("/d", 200, ""),
        ("/e", 200, ""),
        ("/close/f", 200, "to the end"),
        ("/g", 0, ""),
        ("/g", 200, ""),
    ]
    assert [one["body_bytes"] for one in shown] == [0, 5, 6, 0, 0, 10, 0, 0]
    assert "X-Purge-Pass: (20 bytes, not shown)" in shown[0]["request"]
    assert "Set-Cookie: (20 bytes, not shown)" in shown[1]["answer"]
    lost = shown.pop(-2)
    assert (lost["took_ms"], lost["fault"]) == (None, "closed the connection without an answer")
    assert all(one["took_ms"] > 0 and not one["fault"] for one in shown)
    assert shown[0]["connection"] == 1
    assert shown[-1]["connection"] > 1


def test_the_wire_of_a_node_that_nobody_knows_is_asked_for(engine: EngineProcess) -> None:
    done = debug(engine, "wire", "edge1")
    assert done.returncode == 2
    assert "there is no node 'edge1' in the configuration; did you mean 'edge-1'?" in done.stderr
    done = debug(engine, "wire", "edge-1", "--seconds", "0.2")
    assert done.returncode == 0
    assert "worker 0.0: 0 exchanges on 0 connections; edge-1 is ready" in done.stderr


def test_a_node_is_seen_by_its_probes_and_a_look_ends_when_the_engine_drains(tmp_path: Path) -> None:
    with FakeNode(answers_probes=False) as node:
        node.script = lambda _: [answer(503, b"later")]
        with EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
            engine.request("POST", "/v1/engine/nodes/edge-1/pause")
            engine.request("POST", "/v1/engine/nodes/edge-1/resume")
            done = debug(engine, "wire", "edge-1", "--count", "2", "--seconds", "20")
            with asking(engine, "profile?seconds=600") as client:
                response = client.getresponse()
                os.kill(engine.pid, signal.SIGTERM)
                document = json.loads(response.read())
    assert document == {"workers": [], "troubles": [{"worker": "0.0", "why": "this worker is ending"}]}
    assert done.returncode == 0
    assert done.stdout.count(" probe: 503 after ") == 2, done.stdout
    assert "< (5 bytes of body) later\n" in done.stdout
    assert "answered 503 to a probe" in done.stderr


def test_what_is_asked_wrongly_is_told(engine: EngineProcess) -> None:
    for words, said in (
        (("threads", "--worker", "7"), "there is no worker 7; there are: 0"),
        (("loop", "--threshold", "1"), "threshold_ms: takes a number from 5 to 10000"),
        (("gc", "--seconds", "601"), "seconds: takes a number from 0.1 to 600"),
        (("gc", "--trace", "--seconds", "601"), "seconds: takes a number from 0.1 to 600"),
        (("profile", "--output-file", "/nowhere/profile"), "No such file or directory"),
        (("nothing",), "there is no 'nothing'"),
    ):
        done = debug(engine, *words)
        assert done.returncode in {1, 2}, done
        assert said in done.stderr


def held(request: Request) -> Iterator[bytes | Act]:
    """Answer nothing under /held."""
    yield Act.HANG if "/held" in request.path else OK


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisedEngine]:
    """Two, with a parent that may not answer, an edge, and one that is down."""
    with FakeNode(held) as parent, FakeNode() as edge:
        tables = layer_tables("parent", "edge") + fake_table(parent.url, name="parent-1", layer="parent")
        tables += fake_table(edge.url, name="edge-1") + fake_table(NOBODY, name="edge-2")
        tables += '[[callback]]\nhost = "127.0.0.1"\n'
        folder = tmp_path_factory.mktemp("workers")
        with SupervisedEngine(folder, tables, workers=2, request_timeout_s=60, drain_timeout_s=1) as running:
            yield running
            assert "Traceback" not in running.log()


def parts_of(engine: EngineProcess, task_id: str) -> list[dict[str, Any]]:
    status, _, body = engine.request("GET", f"/v1/engine/debug/task/{task_id}")
    assert status == 200
    return list(json.loads(body)["workers"])


def has_rows(engine: EngineProcess, task_id: str) -> bool:
    return any(rows["rows"] for part in parts_of(engine, task_id) for rows in part["rows"])


def test_a_task_is_shown_where_it_is_with_what_it_waits_for(workers: SupervisedEngine) -> None:
    body = {"id": "task-2", "targets": ["http://img.example.com/2", "http://img.example.com/2/held"]}
    assert (
        workers.request("POST", "/v1/engine/task", body)[0] == 202
    )  # the second is sent behind the first ack
    wait_until(lambda: has_rows(workers, "task-2"), timeout_s=30)
    shown = parts_of(workers, "task-2")
    assert sorted(part["place"] for part in shown) == ["memory", "nowhere"]
    [worker] = [part for part in shown if part["place"] == "memory"]
    nodes = {part["node"]: part for part in worker["subtasks"]}
    assert (nodes["parent-1"]["acked"], nodes["parent-1"]["sent"]) == (1, 1)
    assert (nodes["edge-1"]["acked"], nodes["edge-1"]["blocked"]) == (1, 1)
    assert (nodes["edge-2"]["blocked"], nodes["edge-2"]["delayed"]) == (1, 1)
    assert nodes["edge-2"]["node_state"] == "down"
    [blocked] = nodes["edge-1"]["targets"]
    assert (blocked["target"], blocked["waits_for"]) == ("http://img.example.com/2/held", "parent-1")
    [rows] = worker["rows"]
    assert (rows["node"], rows["rows"], rows["target"]) == ("edge-2", 1, "http://img.example.com/2")
    assert 1 <= rows["first_place"] <= rows["queue"]
    said = debug(workers, "task", "task-2").stdout
    assert "why: edge-1: 1 subtask waits for parent-1 (1 to come)\n" in said
    assert "why: edge-2, which is down: 1 subtask waits in its delay queue, the first at place " in said


def test_a_settled_task_says_that_its_callback_waits(workers: SupervisedEngine) -> None:
    told = {"callback": f"{NOBODY}/told?k={SECRET}", "nodes": ["edge-1"]}
    body = {"id": "told", "targets": ["http://img.example.com/told"], **told}
    assert workers.request("POST", "/v1/engine/task", body)[0] == 202
    wait_until(lambda: any(part["callbacks"] for part in parts_of(workers, "told")))
    shown = parts_of(workers, "told")
    [callback] = [callback for part in shown for callback in part["callbacks"]]
    assert callback["host"] == "127.0.0.1"
    assert "store" in {part["place"] for part in shown}
    assert SECRET not in json.dumps(shown)


def test_of_an_unknown_task_it_is_told_where_it_was_looked_for(workers: SupervisedEngine) -> None:
    status, _, body = workers.request("GET", "/v1/engine/debug/task/nobody")
    assert status == 404
    assert "it was looked for in the memory and the stores of worker 0, 1" in json.loads(body)["detail"]


def test_all_workers_are_looked_into_and_one_that_dies_is_told(workers: SupervisedEngine) -> None:
    assert {worker["worker"][0] for worker in looked(workers, "threads")} == {"0", "1"}
    [worker] = looked(workers, "threads", "--worker", "1")
    with contextlib.ExitStack() as stack:
        client = http.client.HTTPConnection("127.0.0.1", workers.port, timeout=30)
        for _ in range(100):  # a connection of the other worker
            stack.enter_context(contextlib.closing(client))
            client.request("GET", "/v1/engine/version")
            if json.loads(client.getresponse().read())["pid"] != worker["pid"]:
                break
            client = http.client.HTTPConnection("127.0.0.1", workers.port, timeout=30)
        client.request("GET", "/v1/engine/debug/loop?worker=1&seconds=600")
        os.kill(worker["pid"], signal.SIGKILL)
        document = json.loads(client.getresponse().read())
    [trouble] = document["troubles"]
    assert (document["workers"], trouble["worker"]) == ([], worker["worker"])
    assert "does not answer" in trouble["why"]
    wait_until(lambda: len(workers.workers()) == 2, timeout_s=30)


@pytest.mark.redis
def test_of_engines_on_one_redis_the_one_that_works_on_a_task_is_named(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer(tmp_path))
        edge = stack.enter_context(FakeNode(held))
        first, second = (
            stack.enter_context(
                cluster_engine(
                    tmp_path, redis.url, [edge], number=number, request_timeout_s=60, drain_timeout_s=1
                )
            )
            for number in (1, 2)
        )
        body = {"id": "one", "targets": ["http://img.example.com/held"]}
        assert first.request("POST", "/v1/engine/task", body)[0] == 202
        wait_until(lambda: parts_of(first, "one")[0]["subtasks"])
        [own], [other] = parts_of(first, "one"), parts_of(second, "one")
        assert (own["place"], other["place"]) == ("memory", "store")
        assert own["engine"] == other["engine"] != ""
        assert other["why"] == [
            f"it is not in the memory of this worker: the engine {own['engine']} works on it"
        ]

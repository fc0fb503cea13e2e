"""Reloads under load and in the middle of work: no request fails, no task is lost, counts stay exact."""

import json
import os
import signal
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from engine.supervisor.unix import unix_address
from tests.fakes.callback_receiver import RULE, Receiver
from tests.fakes.node import OK, FakeNode, Held, Request, always, answer
from tests.rigs.engine_process import fake_table
from tests.rigs.load import Load, settled
from tests.rigs.raw_client import RawClient, post
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_reloads_under_load_fail_no_request_and_lose_no_task(tmp_path: Path, workers: int) -> None:
    """60 clients, on kept and on new connections; the process id stays.

    A short pause between two requests leaves the new workers what they need to start: about a request each
    three milliseconds, so that every step of the hand-over has some on their way.
    """
    with (
        FakeNode() as node,
        SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1"), workers=workers) as engine,
    ):
        pid = engine.pid
        before = descriptors(pid)
        with Load("127.0.0.1", engine.port, clients=60, pause_s=0.2) as load:
            for _ in range(2):
                wait_until(lambda: len(load.seen.accepted) > 200, what="load")
                engine.reload()
        seen = load.seen
        assert seen.errors == []
        assert engine.pid == pid
        assert len(set(seen.accepted)) == len(seen.accepted) > 200
        assert settled("127.0.0.1", engine.port, seen.accepted) == {"done": len(seen.accepted)}
        wait_until(lambda: len(engine.control(cmd="status")["workers"]) == workers, what="the old ones gone")
        assert descriptors(pid) <= before + 2
        assert "Traceback" not in engine.log()


@pytest.mark.slow
def test_an_engine_without_uvloop_delivers_and_reloads_on_asyncios_own_loop(tmp_path: Path) -> None:
    """It is an extra; its absence is said once at a start, and by ``GET /version``."""
    (tmp_path / "uvloop.py").write_text("raise ImportError('No module named uvloop')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with (
        FakeNode() as node,
        SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1"), env={"PYTHONPATH": path}) as engine,
    ):
        assert engine.get("/version")["loop"] == "asyncio"
        assert engine.log().count("asyncio's own loop") == 1
        assert engine.wait_for(engine.submit(["http://img.example.com/a"]))["state"] == "done"
        before = engine.get("/version")["pid"]
        engine.reload()
        shown = engine.get("/version")
        assert shown["loop"] == "asyncio"
        assert shown["pid"] != before
        assert engine.wait_for(engine.submit(["http://img.example.com/b"]))["state"] == "done"
        assert "Traceback" not in engine.log()


@pytest.mark.slow
def test_sighup_reads_the_configuration_again(tmp_path: Path) -> None:
    """A node that was added is there; a mistake in the file changes nothing and is told."""
    with FakeNode() as node:
        engine = SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1"))
        with engine:
            assert engine.get("/version")["loop"] == "uvloop"
            text = engine.config_path.read_text()
            engine.config_path.write_text(text + fake_table(node.url, name="edge-2"))
            engine.hang_up()
            engine.wait_for_quiet()
            assert [one["name"] for one in engine.get("/v1/engine/nodes")["nodes"]] == ["edge-1", "edge-2"]
            engine.config_path.write_text(text.replace("driver", "drivver"))
            refused = engine.control(cmd="reload", bake_s=0)
            assert not refused["ok"]
            assert "did you mean 'driver'?" in json.dumps(refused)
            assert len(engine.get("/v1/engine/nodes")["nodes"]) == 2


@pytest.mark.slow
def test_a_reload_fails_its_bake_when_a_node_would_turn_unproven(tmp_path: Path) -> None:
    """The answers of an nginx without a mark do not tell whose they are; the reason names what to change."""
    with (
        FakeNode(always(answer(404)), answers_probes=False) as node,
        SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1", driver="nginx")) as engine,
    ):
        engine.wait_for_quiet()
        text = engine.config_path.read_text()
        engine.config_path.write_text(text.replace('evidence = "any"', 'evidence = "strict"'))
        refused = engine.control(cmd="reload", bake_s=5)
        assert not refused["ok"]
        assert "edge-1 would turn unproven" in refused["error"]
        assert "purgeline render nginx" in refused["error"]
        engine.wait_for_quiet()

        def is_unproven() -> bool:
            state: str = engine.get("/v1/engine/nodes")["nodes"][0]["state"]
            return state == "unproven"

        wait_until(is_unproven, what="the workers of before, which read the same configuration")
        engine.reload(bake_s=1)  # it was unproven already


def test_a_task_on_its_way_is_seen_during_a_reload_and_finished_after_it(tmp_path: Path) -> None:
    """The old worker holds it, cannot finish it in time, and the new one goes on with it."""
    held = Held()
    with FakeNode(held) as node, SupervisedEngine(
        tmp_path, fake_table(node.url, name="edge-1"), drain_timeout_s=4, request_timeout_s=30
    ) as engine:  # fmt: skip
        body = {"id": "held", "targets": [f"http://a.com/{n}" for n in range(10)]}
        assert engine.submit(**body) == "held"
        engine.hang_up()
        assert len(engine.workers("draining")) == 1
        for _ in range(5):  # the new worker is asked, the old one has it
            assert engine.task("held")["state"] == "running"
        assert engine.request("POST", "/v1/engine/task", body)[0] == 200
        assert engine.request("POST", "/v1/engine/task", {**body, "soft": True})[0] == 409
        assert [one["task_id"] for one in engine.get("/v1/engine/tasks")["tasks"]] == ["held"]

        def handed_over() -> bool:
            assert engine.task("held")["total"] == 10  # at every moment of it
            return not engine.workers("draining")

        wait_until(handed_over, what="the old worker having left")
        held.released.set()
        assert engine.wait_for("held", "done")["counter"] == 10
        assert "Traceback" not in engine.log()


def test_an_id_repeated_at_the_moment_of_the_hand_over_is_one_task(tmp_path: Path) -> None:
    """Clients repeat the same request all the time; each time it is the same task, or one answer 202."""
    held = Held()
    with FakeNode(held) as node, SupervisedEngine(
        tmp_path, fake_table(node.url, name="edge-1"), drain_timeout_s=2, request_timeout_s=30
    ) as engine:  # fmt: skip
        body = {"id": "again", "targets": ["http://a.com/x"]}
        statuses: Counter[int] = Counter()
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(0.005):
                statuses[engine.request("POST", "/v1/engine/task", body)[0]] += 1
                statuses[engine.request("POST", "/v1/engine/task", {**body, "soft": True})[0]] += 1

        assert engine.submit(**body) == "again"
        threads = [threading.Thread(target=repeat) for _ in range(4)]
        for thread in threads:
            thread.start()
        engine.hang_up()
        wait_until(lambda: not engine.workers("draining"), what="the old worker having left")
        over.set()
        for thread in threads:
            thread.join(30)
        held.released.set()
        assert set(statuses) == {200, 409}
        assert engine.wait_for("again", "done")["counter"] == 1


def test_delay_queues_are_handed_over_and_counts_stay_exact(tmp_path: Path) -> None:
    """Rows parked by the old worker are delivered by the new one, once, together with its own."""
    with FakeNode() as dead, FakeNode() as alive:
        tables = fake_table(dead.url, name="dead") + fake_table(alive.url, name="alive")
        with SupervisedEngine(tmp_path, tables, workers=2, request_timeout_s=1) as engine:
            dead.stop()
            first = [engine.submit([f"http://a.com/1/{n}"], due_s=1) for n in range(10)]
            for task_id in first:
                engine.wait_for(task_id, "partial")
            engine.hang_up()
            second = [engine.submit([f"http://a.com/2/{n}"], due_s=1) for n in range(10)]
            wait_until(lambda: not engine.workers("draining"), what="the old workers having left")
            wait_until(lambda: engine.node("dead")["delayed"] == 20, what="20 rows")
            before = len(dead.requests)
            dead.start()
            for task_id in first + second:
                task = engine.wait_for(task_id, "done")
                assert (task["counter"], task["delayed"], task["failed"]) == (2, 0, 0)
            wait_until(lambda: engine.node("dead")["state"] == "ready", what="the node being ready")
            assert engine.node("dead")["delayed"] == 0
            assert len({one.path for one in dead.requests[before:]}) == 20
            assert "Traceback" not in engine.log()


@pytest.mark.slow
def test_callbacks_that_the_old_worker_could_not_deliver_come_from_the_new_one(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.status = lambda count: 503 if count < 2 else 204
    try:
        with (
            FakeNode() as node,
            SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1") + RULE) as engine,
        ):
            task_id = engine.submit(["http://a.com/x"], callback=f"{receiver.url}/done")
            wait_until(lambda: len(receiver.posts) == 1, what="the first try")
            engine.hang_up()
            wait_until(lambda: not engine.workers("draining"), what="the old worker having left")
            wait_until(lambda: len(receiver.posts) >= 2, timeout_s=40, what="another try")
            assert receiver.posts[-1].document["task_id"] == task_id
    finally:
        receiver.stop()


@pytest.mark.slow
def test_a_new_worker_that_dies_in_a_reload_leaves_its_tasks_to_the_old_one(tmp_path: Path) -> None:
    """Those that it accepted go on where they are found: nobody has to start anew for them."""
    held = Held()
    with FakeNode(held) as node, SupervisedEngine(
        tmp_path, fake_table(node.url, name="edge-1"), drain_timeout_s=20, request_timeout_s=30
    ) as engine:  # fmt: skip
        engine.submit(["http://a.com/old"], id="old")
        engine.hang_up()
        engine.submit(["http://a.com/new"], id="new")
        assert len(engine.workers("draining")) == 1
        (new,) = engine.workers("accepting")
        os.kill(new["pid"], signal.SIGKILL)
        held.released.set()
        assert engine.task("new")["total"] == 1  # asked at once: it is waited for
        for task_id in ("old", "new"):
            assert engine.wait_for(task_id, "done")["counter"] == 1
        assert "Traceback" not in engine.log()


def test_what_a_new_worker_that_died_had_accepted_is_not_denied_while_the_old_one_drains(
    tmp_path: Path,
) -> None:
    """Neither the old worker nor the next one has it, before the old one has left and it is taken over."""
    held = Held()
    with FakeNode(held) as node, SupervisedEngine(
        tmp_path, fake_table(node.url, name="edge-1"), drain_timeout_s=8, request_timeout_s=30
    ) as engine:  # fmt: skip
        body = {"id": "new", "targets": ["http://a.com/new"]}
        engine.submit(["http://a.com/old"], id="old")
        engine.hang_up()
        engine.submit(**body)
        (new,) = engine.workers("accepting")
        os.kill(new["pid"], signal.SIGKILL)
        wait_until(lambda: engine.workers("accepting")[:1] not in ([], [new]), what="the next worker")
        assert len(engine.workers("draining")) == 1
        assert engine.request("POST", "/v1/engine/task", body)[0] in {200, 503}  # no second one
        assert engine.task("new")["total"] == 1
        held.released.set()
        assert engine.wait_for("new", "done")["counter"] == 1
        assert "Traceback" not in engine.log()


@pytest.mark.parametrize(
    "victim",
    ["draining", pytest.param("accepting", marks=pytest.mark.slow)],  # that dies in other tests here, too
)
def test_a_worker_killed_in_the_middle_of_a_hand_over_loses_nothing(tmp_path: Path, victim: str) -> None:
    """The old one while it drains, or the new one while the old one still does."""
    held = Held()
    with FakeNode(held) as node, SupervisedEngine(
        tmp_path, fake_table(node.url, name="edge-1"), drain_timeout_s=5, request_timeout_s=30
    ) as engine:  # fmt: skip
        ids = [engine.submit([f"http://a.com/a/{n}"]) for n in range(20)]
        engine.hang_up()
        ids += [engine.submit([f"http://a.com/b/{n}"]) for n in range(20)]
        (worker,) = engine.workers(victim)
        os.kill(worker["pid"], signal.SIGKILL)
        wait_until(
            lambda: worker["pid"] not in {one["pid"] for one in engine.control(cmd="status")["workers"]},
            what="it being noticed",
        )
        held.released.set()
        wait_until(lambda: engine.request("GET", "/readyz")[0] == 200, what="a ready worker")
        for task_id in ids:
            assert engine.wait_for(task_id, "done")["counter"] == 1, task_id
        wait_until(lambda: len(engine.control(cmd="status")["workers"]) == 1, what="one worker")
        assert "Traceback" not in engine.log()


def test_a_killed_supervisor_takes_its_workers_along_and_nothing_is_lost(tmp_path: Path) -> None:
    """They drain and let go of the address and the store; the next start waits for that."""
    held = Held()
    with FakeNode(held) as node:
        engine = SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1"), workers=2)
        with engine:
            ids = [engine.submit([f"http://a.com/{n}"]) for n in range(20)]
            engine.kill()
            engine.start()
            held.released.set()
            for task_id in ids:
                assert engine.wait_for(task_id, "done")["counter"] == 1


def _state(engine: SupervisedEngine, task_id: str) -> str:
    """Return the state of a task whose document has fields that this version does not describe."""
    with RawClient(engine.port) as client:
        request = f"GET /v1/engine/task/{task_id} HTTP/1.1\r\nHost: engine\r\n\r\n"
        return str(client.ask(request.encode()).json["state"])


def test_records_of_the_next_version_are_read(tmp_path: Path) -> None:
    """A version that knows more fields and rows writes beside us during a reload, and after a way back."""
    with FakeNode(always(OK)) as node:
        engine = SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1"))
        with engine:
            done = engine.submit(["http://a.com/x"])
            engine.wait_for(done, "done")
            wait_until(lambda: engine.get("/v1/engine/stats")["tasks_in_cache"] == 0, what="it being stored")
            _as_next_version_would(tmp_path / "var/tasks-0.db", done)
            assert _state(engine, done) == "done"
            engine.reload()
            assert engine.wait_for("of-next", "done")["counter"] == 1
            assert _state(engine, done) == "done"


def _as_next_version_would(path: Path, task_id: str) -> None:
    import sqlite3  # noqa: PLC0415 - of this test only
    import time  # noqa: PLC0415

    import msgspec  # noqa: PLC0415

    from engine.tasks.records import Accepted  # noqa: PLC0415

    now = time.time()
    body = json.dumps({"id": "of-next", "targets": ["http://a.com/next"]}).encode()
    known = msgspec.structs.astuple(Accepted("of-next", now, 60.0, b"", body))
    record = [*known, "a field that is not known here", 7]
    with sqlite3.connect(path, timeout=10) as connection:
        row = connection.execute("SELECT doc FROM task WHERE id = ?", (task_id,)).fetchone()
        stored = {**json.loads(row[0]), "new_field": {"a": 1}}
        connection.execute("UPDATE task SET doc = ? WHERE id = ?", (json.dumps(stored), task_id))
        connection.execute("INSERT INTO journal(data) VALUES (?)", (msgspec.msgpack.encode([2, [record]]),))
        connection.execute("PRAGMA user_version = 2")
    connection.close()


@pytest.mark.slow
def test_a_slow_answer_that_is_under_way_is_finished_by_the_old_worker(tmp_path: Path) -> None:
    """A client that sends its body slowly over a reload gets its answer, with Connection: close."""

    def script(request: Request) -> list[bytes]:
        return [answer(200)]

    with FakeNode(script) as node, SupervisedEngine(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        data = post({"targets": ["http://a.com/x"], "id": "slow"})
        with RawClient(engine.port) as client:
            client.send(data[:-5])
            engine.hang_up()
            wait_until(lambda: "draining: no new" in engine.log(), what="the old worker draining")
            client.send(data[-5:])
            found = client.answer()
            assert (found.status, found.headers["connection"]) == (202, "close")
            assert client.is_closed()
        assert engine.wait_for("slow", "done")["counter"] == 1


@pytest.mark.slow
def test_a_worker_that_ends_does_not_wait_for_what_another_still_asks_of_it(tmp_path: Path) -> None:
    """The other asks the one that comes after it; a worker that is deaf and still there fails requests."""
    held = Held()
    with FakeNode(held) as node, SupervisedEngine(
        tmp_path,
        fake_table(node.url, name="edge-1"),
        drain_timeout_s=3,
        request_timeout_s=30,
        live_subtasks_max=1,
        saver_push_timeout_s=60,
    ) as engine:  # fmt: skip
        engine.submit(["http://a.com/1"])
        wait_until(lambda: node.requests, what="a purge at the cache, and no room for another")
        body = b'{"id":"waits","targets":["http://a.com/2"]}'
        head = (
            b"POST /worker/task?token=anonymous HTTP/1.1\r\nHost: worker\r\nContent-Length: %d\r\n\r\n"
            % len(body)
        )
        with (
            unix_address(tmp_path / "var/run/w0-g1.sock") as address,
            socket.socket(socket.AF_UNIX) as other_worker,
        ):
            other_worker.connect(address)
            other_worker.sendall(head + body)
            engine.reload()
            assert other_worker.recv(100) == b""
        held.released.set()
        assert engine.wait_for(engine.submit(**json.loads(body)))["state"] == "done"
    wait_until(lambda: "has left (exit code 0)" in engine.log(), what="the line in the log")

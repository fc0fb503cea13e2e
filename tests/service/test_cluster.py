"""Engines on one Redis: any of them shows every task, and what one leaves the others take over."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node import OK, FakeNode, Request, always, answer
from tests.rigs.engine_process import ROOT, EngineProcess, fake_table
from tests.rigs.load import Load, settled
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

URL = "http://a.com/"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def edge() -> Iterator[FakeNode]:
    with FakeNode() as node:
        yield node


class Engines:
    """Engines on one store, each in a folder of its own; all stopped at the end."""

    def __init__(self, folder: Path, url: str, tables: str, **store: object) -> None:
        self._folder = folder
        self.store: dict[str, object] = {"url": url, "takeover_s": 2, "timeout_s": 2, **store}
        self._tables = tables
        self.all: list[EngineProcess] = []

    def start(self, name: str, *, wait: bool = True, workers: int = 0, **settings: object) -> EngineProcess:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        keys: dict[str, Any] = {"name": name, "drain_timeout_s": 2, **settings}
        engine = EngineProcess(folder, _table("store", self.store) + self._tables, workers=workers, **keys)
        self.all.append(engine)
        engine.start(wait=wait)
        return engine

    def stop(self) -> None:
        for engine in self.all:
            with contextlib.suppress(OSError):
                os.kill(engine.pid, signal.SIGCONT)
            engine.stop()


def _table(name: str, keys: dict[str, object]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


@pytest.fixture
def engines(tmp_path: Path, redis: RedisServer, edge: FakeNode) -> Iterator[Engines]:
    made = Engines(tmp_path, redis.url, fake_table(edge.url, name="edge-1", driver="ats"))
    yield made
    made.stop()
    for engine in made.all:
        assert "Traceback" not in engine.log()


class Gate:
    """Keeps a cache's answers back, but for the URLs that are let through."""

    def __init__(self, node: FakeNode, *, through: Callable[[str], bool] = lambda url: False) -> None:
        self._event = threading.Event()
        self._through = through
        node.script = self._answer

    def open(self) -> None:
        self._event.set()

    def _answer(self, request: Request) -> Iterator[bytes]:
        if not self._through(request.url):
            self._event.wait(60)
        yield OK


def consumers(engine: EngineProcess, state: str = "alive") -> list[dict[str, Any]]:
    return [one for one in engine.get("/v1/engine/cluster")["engines"] if one["state"] == state]


def listed(engine: EngineProcess, state: str) -> list[str]:
    return [task["task_id"] for task in engine.get(f"/v1/engine/tasks?state={state}")["tasks"]]


def is_ready(engine: EngineProcess) -> bool:
    return bool(engine.node("edge-1")["state"] == "ready")


def test_an_id_is_one_task_on_every_engine(engines: Engines, edge: FakeNode) -> None:
    one, other = engines.start("one"), engines.start("other")
    edge.stop()
    body = {"id": "same", "targets": [URL + "1", URL + "2"], "due_s": 1}
    assert one.request("POST", "/v1/engine/task", body)[0] == 202
    status, _, text = other.request("POST", "/v1/engine/task", body)
    assert (status, json.loads(text)["total"]) == (200, 2)
    assert other.request("POST", "/v1/engine/task", {**body, "targets": [URL]})[0] == 409
    for engine in (one, other):
        found = engine.wait_for("same", "partial")
        assert (found["delayed"], found["total"]) == (2, 2)
        wait_until(lambda: listed(engine, "partial") == ["same"], what="it in the list")  # noqa: B023 - now
        assert "digest" not in found
    edge.start()
    for engine in (one, other):
        assert engine.wait_for("same")["counter"] == 2
    assert sorted(edge.urls) == [URL + "1", URL + "2"]


def test_a_restart_goes_on_with_what_was_accepted(engines: Engines, edge: FakeNode) -> None:
    engine = engines.start("one")
    gate = Gate(edge)
    ids = [engine.submit([f"{URL}{number}"]) for number in range(50)]
    engine.kill()
    gate.open()
    engine.start()
    for task_id in ids:
        assert engine.wait_for(task_id)["state"] == "done"
    assert {f"{URL}{number}" for number in range(50)} == set(edge.urls)
    wait_until(lambda: engine.get("/v1/engine/cluster")["pending"] == 0, what="an empty journal")


def test_what_a_killed_engine_had_is_done_by_another(
    tmp_path: Path, redis: RedisServer, edge: FakeNode
) -> None:
    """And what it was known to have done is not sent again."""
    with FakeNode() as slow:
        gate = Gate(slow)
        tables = [fake_table(node.url, name=f"edge-{node.port}", driver="ats") for node in (edge, slow)]
        engines = Engines(tmp_path, redis.url, "".join(tables))
        one, other = engines.start("one"), engines.start("other")
        try:
            task_id = one.submit([f"{URL}{number}" for number in range(50)])
            small = [one.submit([f"{URL}small"], id=f"small-{number}") for number in range(30)]
            wait_until(lambda: other.task(task_id)["counter"] == 50, what="progress, seen by the other")
            one.kill()
            gate.open()
            found = other.wait_for(task_id)
            assert (found["state"], found["counter"], found["total"]) == ("done", 100, 100)
            for name in small:
                assert other.wait_for(name)["state"] == "done"
            assert len([url for url in edge.urls if "small" not in url]) == 50
            wait_until(lambda: not other.get("/v1/engine/cluster")["pending"], what="an empty journal")
            wait_until(
                lambda: len(other.get("/v1/engine/cluster")["engines"]) == 1, what="the dead one forgotten"
            )
        finally:
            engines.stop()


def test_a_drained_engine_hands_over_at_once(engines: Engines, edge: FakeNode) -> None:
    """And what was acked there is not sent again, not of a task that has just come either."""
    engines.store["takeover_s"] = 600
    one, other = engines.start("one", drain_timeout_s=0.5), engines.start("other")
    gate = Gate(edge, through=lambda url: url.endswith("acked"))
    task_id = one.submit([f"{URL}acked", URL])
    wait_until(lambda: one.task(task_id)["counter"] == 1, what="the first ack")
    assert one.stop() == 0
    wait_until(lambda: other.get("/v1/engine/stats")["tasks_in_cache"] == 1, what="the takeover")
    gate.open()
    assert other.wait_for(task_id)["state"] == "done"
    assert edge.urls.count(f"{URL}acked") == 1


def test_an_engine_that_was_taken_for_dead_does_no_harm(engines: Engines, edge: FakeNode) -> None:
    """Stopped for longer than its time, then going on: every count is right, one leads."""
    one = engines.start("one")
    other = engines.start("other")
    assert [engine["name"] for engine in consumers(other) if engine["leader"]] == ["one"]
    gate = Gate(edge)
    ids = [one.submit([f"{URL}{number}", f"{URL}{number}b"]) for number in range(20)]
    fence = other.get("/v1/engine/cluster")["fence"]
    lag = {engine["name"]: engine["lag_s"] for engine in consumers(other) if engine["pending"]}
    assert list(lag) == ["one"]
    assert 0 < lag["one"] < 20
    os.kill(one.pid, signal.SIGSTOP)
    wait_until(lambda: other.get("/v1/engine/stats")["tasks_in_cache"] == 20, what="the takeover")
    wait_until(
        lambda: [engine["name"] for engine in consumers(other) if engine["leader"]] == ["other"],
        what="the other leading",
    )
    os.kill(one.pid, signal.SIGCONT)
    gate.open()
    for task_id in ids:
        found = other.wait_for(task_id)
        assert (found["state"], found["counter"], found["failed"]) == ("done", 2, 0)
    wait_until(lambda: len(consumers(one)) == 2, what="the first one being seen again")
    for engine in (one, other):
        wait_until(lambda: engine.get("/v1/engine/stats")["tasks_in_cache"] == 0, what="nothing left")  # noqa: B023
        shown = engine.get("/v1/engine/cluster")
        assert (shown["pending"], shown["fence"]) == (0, fence + 1)
    assert one.wait_for(one.submit([URL + "later"]))["state"] == "done"


def test_rows_of_a_dead_node_are_delivered_once_by_whoever_reaches_it(
    engines: Engines, edge: FakeNode
) -> None:
    one, other = engines.start("one"), engines.start("other")
    edge.stop()
    ids = [
        engine.submit([f"{URL}{number}", f"{URL}same"], due_s=1)
        for number, engine in enumerate([one, other] * 10)
    ]
    for task_id in ids:
        one.wait_for(task_id, "partial")
    one.kill()
    assert wait_until(lambda: other.node("edge-1")["delayed"] == 40, what="the depth") is True
    assert other.node("edge-1")["oldest_delayed_s"] > 0
    edge.start()
    for task_id in ids:
        found = other.wait_for(task_id)
        assert (found["state"], found["counter"], found["delayed"]) == ("done", 2, 0)
    assert sorted(edge.urls) == sorted([*(f"{URL}{number}" for number in range(20)), URL + "same"])
    wait_until(lambda: other.node("edge-1")["delayed"] == 0, what="an empty queue")
    wait_until(lambda: other.node("edge-1")["state"] == "ready", what="the node being ready")


def test_a_node_is_not_ready_before_it_has_what_tasks_at_work_keep_for_it(
    tmp_path: Path, redis: RedisServer, edge: FakeNode
) -> None:
    """Of a task that waits for another cache the rows are in no queue yet. All engines wait for them."""
    with FakeNode() as slow:
        gate = Gate(slow)
        tables = [fake_table(node.url, name=f"edge-{place}") for place, node in enumerate((edge, slow), 1)]
        made = Engines(tmp_path, redis.url, "".join(tables))
        with contextlib.ExitStack() as stack:
            stack.callback(made.stop)
            stack.callback(gate.open)
            one, other = made.start("one"), made.start("other")
            edge.stop()
            for engine in (one, other):
                engine.wait_for(engine.submit([URL + "first"], nodes=["edge-1"]), "partial")
            at_work = one.submit([URL + "kept"])
            wait_until(lambda: one.task(at_work)["delayed"] == 1, what="the row")
            edge.start()
            third = made.start("third")
            for engine in (one, other, third):
                assert engine.wait_for(engine.submit([URL + "new"], nodes=["edge-1"]))["state"] == "done"
                assert engine.node("edge-1")["state"] == "catching_up", engine
            gate.open()
            for engine in (one, other, third):
                wait_until(partial(is_ready, engine), what="the node being ready")
                assert URL + "kept" in edge.urls
            assert one.wait_for(at_work)["state"] == "done"


def test_a_task_is_cancelled_on_an_engine_that_does_not_have_it(engines: Engines, edge: FakeNode) -> None:
    one, other = engines.start("one"), engines.start("other")
    edge.stop()
    waits = one.submit([URL + "parked"])
    wait_until(lambda: other.task(waits)["delayed"] == 1, what="the row")
    status, _, text = other.request("DELETE", f"/v1/engine/task/{waits}")
    assert (status, json.loads(text)["state"]) == (200, "cancelled")
    edge.start()
    wait_until(lambda: one.node("edge-1")["state"] == "ready", what="the node being ready")
    gate = Gate(edge)
    live = one.submit([f"{URL}{number}" for number in range(5000)])
    wait_until(lambda: edge.urls, what="the first request")
    timer = threading.Timer(0.5, gate.open)
    timer.start()
    status, _, text = other.request("DELETE", f"/v1/engine/task/{live}")
    assert (status, json.loads(text)["state"]) == (200, "cancelled")
    timer.join()
    assert one.task(live)["state"] == "cancelled"
    assert URL + "parked" not in edge.urls


def test_a_row_that_another_engine_is_about_to_send_is_not_sent_after_its_task_was_cancelled(
    engines: Engines, edge: FakeNode
) -> None:
    """To the other one the node is ready, so it begins to deliver, and tries to connect for a while."""
    one, other = engines.start("one"), engines.start("other")
    edge.stop()
    task_id = one.submit([URL + "parked"])
    wait_until(lambda: one.task(task_id)["delayed"] == 1, what="the row")
    wait_until(lambda: other.node("edge-1")["waiting"] or other.node("edge-1")["state"] == "down")
    assert one.request("DELETE", f"/v1/engine/task/{task_id}")[0] == 200
    edge.start()
    assert other.wait_for(other.submit([URL + "later"]))["state"] == "done"
    assert URL + "parked" not in edge.urls


def test_a_task_that_a_killed_engine_had_cancelled_is_not_sent_by_another(
    engines: Engines, edge: FakeNode
) -> None:
    one, other = engines.start("one"), engines.start("other")
    gate = Gate(edge)
    task_id = one.submit([f"{URL}{number}" for number in range(5000)])
    wait_until(lambda: edge.urls, what="the first request")
    status, _, text = other.request(
        "DELETE", f"/v1/engine/task/{task_id}"
    )  # although `one` waits for answers
    assert (status, json.loads(text)["state"]) == (200, "cancelled")
    one.kill()
    sent = set(edge.urls)
    gate.open()
    wait_until(lambda: not other.get("/v1/engine/cluster")["pending"], what="an empty journal")
    found = other.task(task_id)
    assert (found["state"], found["counter"], found["cancelled"]) == ("cancelled", 0, 5000)
    assert other.wait_for(other.submit([URL + "later"]))["state"] == "done"
    assert len(edge.urls) < 1000
    assert sent <= set(edge.urls)


def test_a_task_is_cancelled_while_it_changes_hands(engines: Engines, edge: FakeNode) -> None:
    """The engine that has it does not answer; the one that takes it over is asked then."""
    one, other = engines.start("one"), engines.start("other")
    gate = Gate(edge)
    task_id = one.submit([f"{URL}{number}" for number in range(5000)])
    wait_until(lambda: edge.urls, what="the first request")
    os.kill(one.pid, signal.SIGSTOP)
    status, _, text = other.request("DELETE", f"/v1/engine/task/{task_id}")
    assert (status, json.loads(text)["state"]) == (200, "cancelled")
    gate.open()
    os.kill(one.pid, signal.SIGCONT)
    found = other.wait_for(task_id, "cancelled")
    assert found["counter"] + found["cancelled"] == 5000


def test_rows_that_waited_longer_than_they_may_fail_unsent(engines: Engines, edge: FakeNode) -> None:
    engine = engines.start("one", delay_ttl_s=1)
    edge.stop()
    task_id = engine.submit([URL + "old"], due_s=1)
    engine.wait_for(task_id, "partial")
    wait_until(lambda: engine.node("edge-1")["oldest_delayed_s"] > 1.2, what="the row being too old")
    edge.start()
    found = engine.wait_for(task_id)
    assert (found["state"], found["counter"], found["failed"]) == ("failed", 0, 1)
    assert "longer than delay_ttl_s (1)" in found["errors"][-1]["reason"]
    wait_until(lambda: engine.node("edge-1")["state"] == "ready", what="the node being ready")
    assert edge.urls == []


def test_refused_rows_wait_in_the_shared_queue_and_a_refused_prefix_stands_for_nothing(
    tmp_path: Path, redis: RedisServer, edge: FakeNode
) -> None:
    """Two engines: whichever delivers, URLs below the prefix are sent by themselves; then it is mended."""
    made = Engines(tmp_path, redis.url, fake_table(edge.url, name="edge-1"))
    with contextlib.ExitStack() as stack:
        stack.callback(made.stop)
        one, other = made.start("one"), made.start("other")
        edge.script = _refuse_bans
        edge.stop()
        urls = one.submit([f"{URL}{number}" for number in range(5)])
        bans = other.submit([URL, *(f"{URL}{number}/" for number in range(20))], kind="prefix")
        for task_id in (urls, bans):
            one.wait_for(task_id, "partial")
        edge.start()
        assert one.wait_for(urls, "done", timeout_s=40)["counter"] == 5
        for engine in (one, other):
            wait_until(partial(_is_reached, engine), what="a return")
        assert one.wait_for(one.submit([URL + "new"]))["state"] == "done"
        held = one.wait_for(one.submit([URL + "x/"], kind="prefix"), "partial")
        assert (held["failed"], held["delayed"]) == (0, 1)
        task = one.task(bans)
        assert (task["state"], task["counter"], task["failed"], task["delayed"]) == ("partial", 0, 0, 21)
        edge.script = always(OK)
        for task_id in (bans, held["task_id"]):
            assert one.wait_for(task_id, "done", timeout_s=60)["errors"] == []


def _refuse_bans(request: Request) -> Iterator[bytes]:
    yield answer(405, b"no") if request.method == "BAN" else OK


def _is_reached(engine: EngineProcess) -> bool:
    return engine.node("edge-1")["state"] in {"ready", "refusing"}


def test_a_task_that_cannot_go_on_says_what_it_was(
    tmp_path: Path, redis: RedisServer, edge: FakeNode
) -> None:
    """It lost its plan, and the engine that takes it over has no node for it."""
    gate = Gate(edge)
    made = Engines(tmp_path, redis.url, fake_table(edge.url, name="edge-1", driver="varnish"))
    other = Engines(tmp_path, redis.url, fake_table(edge.url, name="edge-1", driver="squid"))
    with contextlib.ExitStack() as stack:
        for part in (made, other):
            stack.callback(part.stop)
        stack.callback(gate.open)
        one = made.start("one")
        one.submit([URL + "a/", URL + "b/"], kind="prefix", id="t")
        wait_until(lambda: edge.requests, what="the request")
        one.kill()
        redis.ask("DEL", *redis.ask("KEYS", "*:plan:*"))
        found = other.start("other").wait_for("t", "failed")
        assert (found["action"], found["kind"]) == ("purge", "prefix")
        assert (found["total"], found["counter"], found["failed"]) == (2, 0, 2)
        assert "cannot go on" in found["errors"][0]["reason"]


def test_another_region_count_is_refused(engines: Engines) -> None:
    engines.start("one")
    engines.store["region_count"] = 8
    other = engines.start("other", wait=False)
    assert other.process is not None
    assert other.process.wait(20) == 1
    assert "region_count=16" in other.log()


def test_the_command_lists_engines(engines: Engines) -> None:
    one = engines.start("one")
    engines.start("other")
    wait_until(lambda: len(consumers(one)) == 2, what="both being seen")
    command = [sys.executable, "-m", "engine", "cluster", "--engine", f"http://127.0.0.1:{one.port}"]
    rows = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(row.split("\t")[:4] for row in rows) == [
        ["one", "alive", "true", "0"],
        ["other", "alive", "false", "0"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_reloads_under_load_on_redis_fail_no_request_and_lose_no_task(
    tmp_path: Path, redis: RedisServer, edge: FakeNode, workers: int
) -> None:
    tables = _table("store", {"url": redis.url}) + fake_table(edge.url, name="edge-1")
    with SupervisedEngine(tmp_path, tables, workers=workers) as engine:
        with Load(
            "127.0.0.1", engine.port, clients=60, pause_s=0.4
        ) as load:  # so Redis and new workers get a turn
            for _ in range(2):
                wait_until(lambda: len(load.seen.accepted) > 200, what="load")
                engine.reload()
        seen = load.seen
        assert seen.errors == []
        assert len(set(seen.accepted)) == len(seen.accepted) > 200
        assert settled("127.0.0.1", engine.port, seen.accepted) == {"done": len(seen.accepted)}
        wait_until(lambda: engine.get("/v1/engine/cluster")["pending"] == 0, what="an empty journal")
        assert "Traceback" not in engine.log()

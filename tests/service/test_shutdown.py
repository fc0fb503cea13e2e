"""SIGTERM and SIGINT: in order, in time, and nothing lost."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node import OK, Act, FakeNode, Request
from tests.rigs.engine_process import ROOT, EngineProcess, fake_table
from tests.rigs.raw_client import RawClient, chunked, post
from tests.waiting import wait_until

READY = b"GET /readyz HTTP/1.1\r\nHost: engine\r\n\r\n"
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])


class Gate:
    """Script of a cache that holds its answers back until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.asked = threading.Event()

    def __call__(self, request: Request) -> Iterator[bytes | Act]:
        self.asked.set()
        self.opened.wait(60)
        yield OK


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


@pytest.fixture
def node(gate: Gate) -> Iterator[FakeNode]:
    with FakeNode(gate) as running:
        yield running
        gate.opened.set()


@pytest.fixture
def make(node: FakeNode, tmp_path: Path) -> Iterator[Callable[..., EngineProcess]]:
    """Return what starts an engine, each on the same data."""
    started: list[EngineProcess] = []

    def start(**engine: Any) -> EngineProcess:
        settings: dict[str, Any] = {"request_timeout_s": 60, **engine}
        table = fake_table(node.url, name="edge-1", driver="ats")
        process = EngineProcess(tmp_path, table, **settings)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()
        assert "Traceback" not in process.log()


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def end_of(engine: EngineProcess, timeout_s: float) -> int:
    assert engine.process is not None
    return engine.process.wait(timeout_s)


@SIGNALS
def test_drains_in_order(make: Callable[..., EngineProcess], gate: Gate, number: signal.Signals) -> None:
    """Not ready, no new connections, requests on open ones answered with close, work finished, exit 0."""
    engine = make(drain_timeout_s=30)
    ids = [engine.submit([f"http://img.example.com/{n}"]) for n in range(5)]
    assert gate.asked.wait(20)
    with RawClient(engine.port) as fast, RawClient(engine.port) as slow, RawClient(engine.port) as asking:
        assert asking.ask(READY).status == 200
        assert slow.ask(READY).status == 200  # now it is in aiohttp's lane
        body = post({"targets": ["http://img.example.com/late"], "id": "late"})
        fast.send(body[:-10])  # under way: the rest comes after the signal
        other = chunked({"targets": ["http://img.example.com/later"], "id": "later"})
        slow.send(other[:-10])
        os.kill(engine.pid, number)
        wait_until(lambda: refuses(engine.port), what="the listener being closed")
        answer = asking.ask(READY)
        assert answer.status == 503
        assert "draining" in answer.detail
        assert answer.headers["connection"] == "close"
        assert asking.is_closed()
        for client, rest in ((fast, body[-10:]), (slow, other[-10:])):
            client.send(rest)
            answer = client.answer()
            assert answer.status == 202
            assert answer.headers["connection"] == "close"
            assert client.is_closed()
    gate.opened.set()
    assert end_of(engine, 30) == 0
    again = make()
    for task_id in [*ids, "late", "later"]:
        assert again.wait_for(task_id)["state"] == "done"


@SIGNALS
def test_a_node_that_never_answers_does_not_hold_it(
    make: Callable[..., EngineProcess], gate: Gate, node: FakeNode, number: signal.Signals
) -> None:
    """Exit 0 within drain_timeout_s; the work is in the store and done by the next start."""
    engine = make(drain_timeout_s=3)
    ids = [engine.submit([f"http://img.example.com/{n}/{place}" for place in range(50)]) for n in range(20)]
    assert gate.asked.wait(20)
    began = time.monotonic()
    os.kill(engine.pid, number)
    assert end_of(engine, 30) == 0
    assert time.monotonic() - began < 3 + 25
    assert "go on at the next start" in engine.log()
    gate.opened.set()
    again = make()
    for task_id in ids:
        assert again.wait_for(task_id)["counter"] == 50


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(
    make: Callable[..., EngineProcess], gate: Gate, first: signal.Signals
) -> None:
    """And nothing that was answered 202 is lost by that either."""
    engine = make(drain_timeout_s=60)
    ids = [engine.submit([f"http://img.example.com/{n}"]) for n in range(50)]
    assert gate.asked.wait(20)
    os.kill(engine.pid, first)
    wait_until(lambda: refuses(engine.port), what="the drain")
    began = time.monotonic()
    os.kill(engine.pid, signal.SIGTERM)
    assert end_of(engine, 30) == 0
    assert time.monotonic() - began < 45
    gate.opened.set()
    again = make()
    for task_id in ids:
        assert again.wait_for(task_id)["state"] == "done"


def test_two_signals_during_load_lose_nothing(make: Callable[..., EngineProcess], gate: Gate) -> None:
    """Clients post while it stops at once; each 202 is done by the next start."""
    gate.opened.set()
    engine = make()
    accepted: list[str] = []

    def load(number: int) -> None:
        try:
            with RawClient(engine.port) as client:
                for count in range(100_000):
                    name = f"{number}-{count}"
                    answer = client.ask(post({"targets": [f"http://img.example.com/{name}"], "id": name}))
                    if answer.status == 202:
                        accepted.append(name)
        except (OSError, AssertionError):
            pass

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(accepted) > 200, what="some load")
    os.kill(engine.pid, signal.SIGTERM)
    os.kill(engine.pid, signal.SIGTERM)
    assert end_of(engine, 30) == 0
    for thread in threads:
        thread.join(30)
    again = make()
    for name in accepted:
        assert again.wait_for(name)["state"] == "done"


def test_idle_connections_do_not_hold_it(make: Callable[..., EngineProcess]) -> None:
    """Clients that are between two requests get a moment, then the connection ends."""
    engine = make(drain_timeout_s=60)
    clients = [RawClient(engine.port) for _ in range(20)]
    try:
        clients[0].ask(READY)
        os.kill(engine.pid, signal.SIGTERM)
        assert end_of(engine, 15) == 0
    finally:
        for client in clients:
            client.__exit__(None, None, None)


LISTEN = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "engine", "serve", "--config", sys.argv[1]])
"""


def test_a_descriptor_handed_down_is_used_instead_of_binding(tmp_path: Path) -> None:
    """As systemd does it: descriptor 3, LISTEN_FDS and LISTEN_PID. ``listen`` is never bound."""
    engine = EngineProcess(tmp_path, "")
    with socket.create_server(("127.0.0.1", engine.port)) as blocker:  # binding would fail
        with engine.log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", LISTEN, str(engine.config_path)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        try:
            assert process.stdout is not None
            with process.stdout:
                engine.port = int(process.stdout.readline())
                engine.process = process
                wait_until(engine._is_ready, what="the engine being ready")
                assert engine.port != blocker.getsockname()[1]
                assert engine.get("/version")["pid"] == process.pid
                assert engine.stop() == 0
        finally:
            process.kill()
            process.wait()


def test_a_descriptor_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """One clear line, not a traceback."""
    engine = EngineProcess(tmp_path, "", env={"LISTEN_FDS": "1"})
    engine.start(wait=False)
    assert end_of(engine, 20) == 2
    assert "LISTEN_FDS" in engine.log()
    assert "Traceback" not in engine.log()

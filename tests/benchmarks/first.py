"""The first figures: intake, fan-out and idle latency, each beside a peer in the same run.

``python -m tests.benchmarks.first`` prints a table. Figures are ratios wherever there is a peer: a
machine's own speed cancels out. It uses real Varnish nodes, wrk, and FastAPI with uvicorn from a venv
that it makes on first use (``.venv-peers``).
"""

import asyncio
import http.client
import json
import re
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import uvloop

from release import caches
from release.origin import Origin
from tests.flow.engine_process import ROOT, EngineProcess, node_table, wait_until

HERE = Path(__file__).parent
PEERS = ROOT / ".venv-peers"
TARGETS = 10_000
ROUNDS = 3


def wrk(url: str, *, seconds: int, script: str = "same.lua", connections: int = 800) -> dict[str, int]:
    """Run wrk and return what its script reports."""
    command = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / script), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    report = re.search(r"RESULT (.*)", output)
    assert report is not None, output
    return {key: int(value) for key, value in (pair.split("=") for pair in report[1].split())}


def rate(report: dict[str, int]) -> float:
    """Return requests per second."""
    return report["requests"] / (report["duration_us"] / 1e6)


@contextmanager
def fastapi_peer() -> Iterator[str]:
    """Run the peer; yields its URL."""
    python = PEERS / "bin" / "python"
    if not (PEERS / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEERS)], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", str(HERE / "peers.txt")], check=True)
        (PEERS / "done").touch()
    port = caches.free_port()
    command = [
        str(python),
        "-m",
        "uvicorn",
        "fastapi_peer:app",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    with subprocess.Popen(command, cwd=HERE) as process:
        try:
            wait_until(lambda: _connects(port), what="uvicorn")
            yield f"http://127.0.0.1:{port}/v1/engine/task"
        finally:
            process.terminate()


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def intake(engine: EngineProcess) -> Iterator[tuple[str, str]]:
    """Durable 202s at 800 connections against FastAPI and a dictionary."""
    url = f"http://127.0.0.1:{engine.port}/v1/engine/task"
    ours, theirs, errors = [], [], 0
    with fastapi_peer() as peer:
        for _ in range(ROUNDS):
            theirs.append(rate(wrk(peer, seconds=5)))
            report = wrk(url, seconds=5)
            ours.append(rate(report))
            errors += sum(report[key] for key in ("status", "connect", "read", "write", "timeout"))
            _settled(engine)
    yield "intake, 800 connections, fsync, validated and dispatched", f"{statistics.median(ours):,.0f}/s"
    yield "  FastAPI + uvicorn, parse and keep in a dict", f"{statistics.median(theirs):,.0f}/s"
    yield "  ratio (floor 3)", f"{statistics.median(ours) / statistics.median(theirs):.2f}; errors {errors}"


def intake_counts(engine: EngineProcess, seconds: int = 30) -> Iterator[tuple[str, str]]:
    """The long run: every 202 is a stored task."""
    before = engine.get("/v1/engine/stats")["qps_boss"]["count"]
    stored_before = _stored(engine)
    report = wrk(f"http://127.0.0.1:{engine.port}/v1/engine/task", seconds=seconds, script="tasks.lua")
    _settled(engine)
    accepted = (engine.get("/v1/engine/stats")["qps_boss"]["count"] - before) // 2
    stored = _stored(engine) - stored_before
    errors = {key: report[key] for key in ("status", "connect", "read", "write", "timeout")}
    yield (
        f"wrk -t2 -c800 -d{seconds}s, own URLs",
        f"{rate(report):,.0f}/s, p99 {report['p99_us'] / 1000:.0f} ms",
    )
    yield "  errors", json.dumps(errors)
    yield (
        "  202 seen by wrk / counted by the engine / stored",
        f"{report['requests']:,} / {accepted:,} / {stored:,}",
    )


def _stored(engine: EngineProcess) -> int:
    """Count the tasks in the store's file."""
    with sqlite3.connect(f"file:{engine.folder}/var/tasks-0.db?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT count(*) FROM task").fetchone()[0])


def _settled(engine: EngineProcess) -> None:
    def is_settled() -> bool:
        stats = engine.get("/v1/engine/stats")
        return not any(stats[key] for key in ("pushing_queue", "tasks_in_cache", "saver_queue"))

    wait_until(is_settled, timeout_s=120, what="every task settling")


def fanout(engine: EngineProcess, varnish: caches.Cache) -> Iterator[tuple[str, str]]:
    """A 10,000-URL purge to one Varnish, against aiohttp's client and a bare socket."""
    ours, theirs, bare = [], [], []
    for number in range(ROUNDS):
        bare.append(_bare(varnish.port, f"b{number}"))
        theirs.append(asyncio.run(_aiohttp(varnish.port, f"a{number}")))
        task_id = engine.submit(
            [f"http://img.example.com/{number}/{i}.jpg" for i in range(TARGETS)], nodes=["edge-1"]
        )
        task = engine.wait_for(task_id, timeout_s=60)
        ours.append(task["counter"] / (task["updated_at"] - task["created_at"]))
    yield f"purge of {TARGETS:,} URLs on one Varnish, acked and tracked", f"{statistics.median(ours):,.0f}/s"
    yield "  aiohttp client, 64 connections", f"{statistics.median(theirs):,.0f}/s"
    yield "  two bare sockets, pipelined, nothing read but counts", f"{statistics.median(bare):,.0f}/s"
    to_aiohttp = statistics.median(ours) / statistics.median(theirs)
    to_bare = statistics.median(ours) / statistics.median(bare)
    yield "  ratio to aiohttp / to the bare sockets", f"{to_aiohttp:.1f} / {to_bare:.2f}"


async def _aiohttp(port: int, name: str) -> float:
    paths = iter(range(TARGETS))

    async def work(session: aiohttp.ClientSession) -> None:
        for path in paths:
            url = f"http://127.0.0.1:{port}/{name}/{path}"
            async with session.request("PURGE", url, headers={"Host": "img.example.com"}) as response:
                await response.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
        begun = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(64)))
        return TARGETS / (time.perf_counter() - begun)


def _bare(port: int, name: str) -> float:
    """Return the rate of the fewest instructions Python can do it with: what Varnish itself takes."""
    begun = time.perf_counter()
    workers = [
        subprocess.Popen([sys.executable, "-c", _BARE, str(port), f"{name}{half}", str(TARGETS // 2)])
        for half in "ab"
    ]
    for worker in workers:
        assert worker.wait() == 0
    started_s = 0.05  # two interpreters
    return TARGETS / (time.perf_counter() - begun - started_s)


_BARE = """
import socket, sys
port, name, total, depth = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 32
s = socket.create_connection(("127.0.0.1", port))
sent = done = 0
tail = b""
while done < total:
    room = min(depth - (sent - done), total - sent)
    if room >= depth // 2 or sent == done:
        s.sendall(b"".join(
            b"PURGE /%s/%d HTTP/1.1\\r\\nHost: img.example.com\\r\\n\\r\\n" % (name.encode(), i)
            for i in range(sent, sent + room)))
        sent += room
    data = tail + s.recv(65536)
    done += data.count(b"\\r\\n\\r\\n") - tail.count(b"\\r\\n\\r\\n")
    tail = data[-3:]
"""


def latency(engine: EngineProcess, count: int = 200) -> Iterator[tuple[str, str]]:
    """One URL on an idle engine, from the POST to the last ack on one parent and two edges."""
    connection = http.client.HTTPConnection("127.0.0.1", engine.port)
    took = []
    for number in range(count):
        body = json.dumps({"targets": [f"http://img.example.com/l{number}"]})
        begun = time.time()
        connection.request("POST", "/v1/engine/task", body, {"Content-Type": "application/json"})
        task_id = json.loads(connection.getresponse().read())["task_id"]
        task = engine.wait_for(task_id)
        took.append(task["updated_at"] - begun)
    took.sort()
    p50, p99 = took[count // 2] * 1000, took[count * 99 // 100] * 1000
    what = "idle purge of one URL, POST to last ack, parent and 2 edges"
    yield what, f"p50 {p50:.2f} ms, p99 {p99:.2f} ms (floor p50 5 ms)"


def main() -> int:
    """Measure and print."""
    uvloop.install()
    with tempfile.TemporaryDirectory(prefix="purgeline-bench-") as name, Origin() as origin:
        folder = Path(name)
        folder.chmod(0o755)
        with (
            caches.start_varnish(folder, name="parent", backend=origin.address, is_parent=True) as parent,
            caches.start_varnish(folder, name="edge1", backend=parent.address) as edge1,
            caches.start_varnish(folder, name="edge2", backend=parent.address) as edge2,
        ):
            tables = '[[layer]]\nname = "parent"\n[[layer]]\nname = "edge"\n' + (
                node_table(parent, name="parent-1", layer="parent")
                + node_table(edge1, name="edge-1", parents=[])
                + node_table(edge2, name="edge-2", parents=["parent-1"])
            )
            with EngineProcess(folder, tables) as engine:
                figures: list[Callable[[], Iterator[tuple[str, str]]]] = [
                    lambda: latency(engine),
                    lambda: fanout(engine, edge1),
                    lambda: intake(engine),
                    lambda: intake_counts(engine),
                ]
                for figure in figures:
                    for what, value in figure():
                        print(f"{what:64} {value}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

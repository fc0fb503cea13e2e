"""System calls of the engine for a task, as strace counts them in all of its threads.

``python -m tests.benchmarks.system_calls --connections 64 --tasks 4000`` counts from when a load begins until
all of it is stored as settled. strace makes each call ten times as slow, so commits hold more tasks then.
"""

import argparse
import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.harness import HOST, PATH, bench, counted, wait_until_idle
from tests.rigs.engine_process import EngineProcess, node_table
from tests.waiting import wait_until

_LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)


def body_of(name: str, number: int, urls: int) -> bytes:
    """Return the body of a task of so many URLs, which no other task has."""
    targets = [f"http://{HOST}/{name}/{number}/{place}.jpg" for place in range(urls)]
    return json.dumps({"targets": targets}, separators=(",", ":")).encode()


async def _client(port: int, bodies: Iterator[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for body in bodies:
        head = f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 202"), answer
        length = re.search(rb"content-length: (\d+)", answer.lower())
        assert length is not None, answer
        await reader.readexactly(int(length[1]))
    writer.close()


async def _clients(port: int, bodies: Iterator[bytes], connections: int) -> None:
    await asyncio.gather(*(_client(port, bodies) for _ in range(connections)))


def load(engine: EngineProcess, name: str, *, tasks: int, urls: int, connections: int) -> None:
    """Hand tasks in over so many connections at a time, and wait until all is stored as settled."""
    before = counted(engine, "tasks_done")
    bodies = (body_of(name, number, urls) for number in range(tasks))
    asyncio.run(_clients(engine.port, bodies, min(connections, tasks)))
    wait_until_idle(engine)
    assert counted(engine, "tasks_done") - before == tasks


def counted_calls(pid: int, out: Path, act: Callable[[], None]) -> dict[str, int]:
    """Return how often a process made each system call while *act* ran."""
    command = ["strace", "-f", "-c", "-o", str(out), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        said = tracer.stderr
        assert said is not None
        wait_until(lambda: b"attached" in said.readline(), what="strace being attached")
        act()
        tracer.send_signal(signal.SIGINT)
    return {name: int(count) for count, name in _LINE.findall(out.read_text()) if name != "total"}


def main() -> None:
    """Count, and print a line for each call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--urls", type=int, default=2, help="of a task")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--driver", default="varnish")
    args = parser.parse_args()
    shape = {"urls": args.urls, "connections": args.connections}
    with (
        bench(is_quick=True) as made,
        made.cache(args.driver) as cache,
        made.engine(node_table(cache, name="edge-1")) as engine,
    ):
        load(engine, "warm", tasks=args.tasks // 4, **shape)
        before = commits(engine)
        calls = counted_calls(
            engine.pid, made.folder / "calls", lambda: load(engine, "load", tasks=args.tasks, **shape)
        )
        committed = commits(engine) - before
    print(f"{args.tasks} tasks of {args.urls} URLs, {args.connections} connections, {committed} commits")
    for name, count in sorted(calls.items(), key=lambda pair: -pair[1]):
        print(f"{name:16} {count / args.tasks:8.3f} a task {count / committed:8.2f} a commit")
    print(f"{'all':16} {sum(calls.values()) / args.tasks:8.3f} a task")


def commits(engine: EngineProcess) -> int:
    """Return how many commits it has made."""
    page = engine.request("GET", "/metrics")[2].decode()
    return sum(
        int(float(found))
        for found in re.findall(r"^purgeline_commit_seconds_count\S* (\S+)$", page, re.MULTILINE)
    )


if __name__ == "__main__":
    main()

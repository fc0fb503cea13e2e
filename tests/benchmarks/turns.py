"""``python -m tests.benchmarks.turns``: the longest turn of the engine's loop under heavy requests.

Heavy bodies, and questions about a history of ``--targets`` (a million); ``--questions`` asks those alone.

The engine runs in this process, and what measures is called once a turn; the client is a process of its own.
Figures, no check: on a busy machine a turn takes as long as others keep the processor, so its CPU time stands
beside it, and the best of some runs is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.rows_history import fill, questions
from tests.fakes.node import FakeNode
from tests.rigs.engine_in_loop import run, running
from tests.rigs.raw_client import RawClient, post

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUNS = 3
_MIB = 1024 * 1024
URL = "http://img.example.com/"


def bodies() -> Iterator[tuple[str, bytes]]:
    """Return a name and the bytes of one or more requests."""
    lines = "/v1/engine/tasks"
    count = range(10_000)
    yield "one good task", post({"targets": [URL + "a.jpg"]})
    for field in ("unknown field", "unknown node"):
        made = [
            {
                "targets": ["http://a/"],
                **({f"tragets{n}": 1} if field == "unknown field" else {"nodes": [f"edgy{n}"]}),
            }
            for n in count
        ]
        yield f"10,000 lines, {field} in each", post(_ndjson(made), path=lines)
    good = _ndjson([{"targets": [f"{URL}{n}.jpg"], "id": f"t-{n}"} for n in count])
    yield "10,000 good lines", post(good, path=lines)
    yield "8 MiB of line ends", post(b"\n" * 8 * _MIB, path=lines)
    yield "10,000 URLs in stored form", post({"targets": [f"{URL}{n}.jpg" for n in count]})
    yield (
        "10,000 URLs that are normalised",
        post({"targets": [f"HTTP://IMG.example.com/{n}.jpg" for n in count]}),
    )
    yield "10,000 URLs of as many hosts", post({"targets": [f"http://h{n}.example.com/" for n in count]})
    yield "10,000 URLs of as many IDNs", post({"targets": [f"http://bücher-{n}.example/" for n in count]})
    long = [f"{URL}{n}/" + "x" * 780 for n in count]
    yield "8 MiB of URLs, with an id", post({"id": "long", "targets": long})
    yield "8 MiB of empty targets", post(b'{"targets":[' + b'"",' * (8 * _MIB // 3 - 100) + b'""]}')
    yield (
        "10,000 patterns",
        post({"kind": "regex", "targets": [f"{URL}(a|b{n})+[0-9]{{1,3}}\\.jpg$" for n in count]}),
    )
    bad = post({"targets": ["http://a/"], "nodes": ["edge-2"]})
    yield "500 pipelined requests, unknown node in each", bad * 500


def requests(targets: int) -> Iterator[tuple[str, bytes]]:
    """Return a name and the bytes of a question, for each question of the benchmark."""
    for name, query in questions(targets):
        yield f"history: {name}", f"GET /v1/engine/history?{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def _ndjson(documents: list[dict[str, object]]) -> bytes:
    return "\n".join(map(json.dumps, documents)).encode()


async def worst_turn(port: int, folder: Path, data: bytes) -> tuple[float, float, float, int]:
    """Send *data* from another process; return the longest turn by clock and by CPU, the whole, a status."""
    loop = asyncio.get_running_loop()
    path = folder / "request"
    path.write_bytes(data)
    worst, before = 0.0, time.perf_counter()
    worst_cpu, cpu_before = 0.0, time.thread_time()
    is_over = False

    def turn() -> None:
        nonlocal worst, before, worst_cpu, cpu_before
        now, cpu = time.perf_counter(), time.thread_time()
        worst, before = max(worst, now - before), now
        worst_cpu, cpu_before = max(worst_cpu, cpu - cpu_before), cpu
        if not is_over:
            loop.call_soon(turn)

    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.turns", "--send", str(port), str(path)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert client.stdout is not None
    await client.stdout.readline()  # it is connected
    began = before = time.perf_counter()
    cpu_before = time.thread_time()
    loop.call_soon(turn)
    out = await client.stdout.readline()
    took = time.perf_counter() - began
    is_over = True
    await client.wait()
    return worst, worst_cpu, took, int(out)


def send(port: int, path: Path) -> None:
    """Be the client."""
    data = path.read_bytes()
    with RawClient(port, timeout_s=120) as client:
        print(flush=True)
        client.send(data)
        answers = [client.answer() for _ in range(max(1, data.count(b"POST /v1")))]
        print(answers[0].status, flush=True)


def main(arguments: list[str]) -> None:
    """Print a line for each question and body."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.turns")
    parser.add_argument("--targets", type=int, default=1_000_000, help="of the history")
    parser.add_argument("--questions", action="store_true", help="no bodies")
    options = parser.parse_args(arguments)
    asked = [*requests(options.targets), *(() if options.questions else bodies())]

    async def scenario() -> None:
        with FakeNode() as node, tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            (folder / "var").mkdir()
            fill(folder / "var", options.targets)
            async with running(folder, node.url, driver="varnish", body_max_bytes=9 * _MIB) as (_, port):
                for name, data in asked:
                    seen = [await worst_turn(port, folder, data) for _ in range(_RUNS)]
                    worst, _, took, status = min(seen)
                    cpu = min(each[1] for each in seen)
                    print(
                        f"{name:48} {len(data):9,} B  {status}  worst turn {worst * 1e3:6.1f} ms, "
                        f"CPU {cpu * 1e3:5.1f} ms; in all {took * 1e3:6.0f} ms",
                        flush=True,
                    )

    run(scenario, limit_s=900 + options.targets / 5000)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        send(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(sys.argv[1:])

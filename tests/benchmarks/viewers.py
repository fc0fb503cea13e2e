"""``python -m tests.benchmarks.viewers``: what those who watch the operators' page cost an engine.

An engine with fake caches takes two tasks a second, so that each node changes all the time. The CPU time of
its process is read over some seconds without viewers, with one, and with 200. What viewers add is a share of
one core, and an engine at its full rate of intake uses one core.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
from pathlib import Path

from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.viewer import EVENTS

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def watch(port: int, seen: list[int]) -> None:
    """Read the stream for ever, and count its bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    while data := await reader.read(1 << 20):
        seen[0] += len(data)


async def load(port: int, per_s: float) -> None:
    """Hand tasks in for ever, one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    while True:
        body = json.dumps({"targets": [f"http://img.example.com/{number}"]}).encode()
        head = f"POST /v1/engine/task HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        length = 0
        while (line := await reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        await reader.readexactly(length)
        number += 1
        await asyncio.sleep(1 / per_s)


async def measure(engine: EngineProcess, viewers: int, seconds: float, per_s: float) -> tuple[float, float]:
    """Return the share of a core that the engine used, and the bytes a second of one viewer."""
    seen = [0]
    tasks = [asyncio.create_task(load(engine.port, per_s))]
    tasks += [asyncio.create_task(watch(engine.port, seen)) for _ in range(viewers)]
    await asyncio.sleep(3)
    before, seen[0] = cpu_s(engine.pid), 0
    await asyncio.sleep(seconds)
    used = (cpu_s(engine.pid) - before) / seconds
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return used, seen[0] / seconds / max(1, viewers)


def main() -> None:
    """Measure, and print a row for each number of nodes and viewers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--nodes", type=int, nargs="*", default=[14, 1000])
    parser.add_argument("--viewers", type=int, nargs="*", default=[0, 1, 200])
    options = parser.parse_args()
    print("nodes  viewers  share of a core  added    bytes/s of a viewer")
    for count in options.nodes:
        with contextlib.ExitStack() as stack:
            node = stack.enter_context(FakeNode())
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            tables = "".join(fake_table(node.url, name=f"edge-{number}") for number in range(count))
            engine = stack.enter_context(EngineProcess(folder, tables, is_forked=False))
            alone = 0.0
            for viewers in options.viewers:
                used, size = asyncio.run(measure(engine, viewers, options.seconds, 2))
                alone = used if not viewers else alone
                print(f"{count:5}  {viewers:7}  {used:15.3%}  {used - alone:7.3%}  {size:10.0f}", flush=True)


if __name__ == "__main__":
    main()

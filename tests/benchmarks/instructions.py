"""Instructions that the engine executes for a task and for a purge, which a busy machine does not change.

``python -m tests.benchmarks.instructions``; it takes valgrind and Varnish. The engine runs under callgrind,
which counts in user space alone, all threads and libraries together, in the form that the finder of
`release.build` finds: compiled after ``./inv build``, interpreted with ``PURGELINE_INTERPRETED=1``. Clients
send in lock-step: each has its answer before any sends again.
"""

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.harness import HOST, PATH, Bench, bench, wait_until_idle
from tests.rigs.engine_process import EngineProcess, node_table

URLS = 10_000  #: of a task of the fan-out
START_S = 300  #: an engine under callgrind takes fifty times as long
_VALGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--fair-sched=yes")


def tasks(engine: EngineProcess, connections: int, rounds: int, name: str) -> int:
    """Hand in a task of one URL on each connection, again and again; return how many."""
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", engine.port)
        opened = [socket.create_connection(address, START_S) for _ in range(connections)]
        clients = [stack.enter_context(client) for client in opened]
        for turn in range(rounds):
            for place, client in enumerate(clients):
                body = json.dumps({"targets": [f"http://{HOST}/{name}/{turn}/{place}.jpg"]}).encode()
                head = f"POST {PATH} HTTP/1.1\r\nHost: engine\r\nContent-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + body)
            for client in clients:
                answer = client.recv(4096)
                assert answer.startswith(b"HTTP/1.1 202 "), answer
    return connections * rounds


def purges(engine: EngineProcess, count: int, name: str) -> int:
    """Hand in tasks of many URLs; return how many purges they are."""
    for task in range(count):
        engine.submit([f"http://{HOST}/{name}/{task}/{place}.jpg" for place in range(URLS)])
    return count * URLS


CASES: dict[str, tuple[str, Callable[[EngineProcess, int, str], int]]] = {
    "task-64": ("task", lambda engine, share, name: tasks(engine, 64, 32 // share, name)),
    "task-800": ("task", lambda engine, share, name: tasks(engine, 800, max(1, 4 // share), name)),
    "fanout": ("purge", lambda engine, share, name: purges(engine, 8 // share, name)),
}
"""By name: what is counted, and what does so many of them, or a part of that, to warm up."""


def measure(made: Bench, case: str, kept: Path | None, **engine_keys: Any) -> str:
    """Run a case; return its line."""
    unit, act = CASES[case]
    out = made.new_folder("callgrind")
    prefix = [*_VALGRIND, f"--callgrind-out-file={out}/{case}.%p"]
    with made.cache() as cache:
        engine = EngineProcess(
            made.new_folder("engine"),
            node_table(cache, name="edge-1"),
            prefix=prefix,
            connect_timeout_s=START_S,
            request_timeout_s=START_S,
            **engine_keys,
        )
        engine.start(timeout_s=START_S)
        try:
            form = "compiled" if engine.get("/version")["compiled"] else "interpreted"
            act(engine, 8, "warm")
            wait_until_idle(engine)
            _control(engine, "--instr=on")
            count = act(engine, 1, "counted")
            wait_until_idle(engine)
            _control(engine, "--instr=off")
            _control(engine, "--dump")
        finally:
            engine.stop(START_S)
    found = sorted(out.glob(f"{case}.*.1"))
    total = sum(map(_total, found))
    if kept is not None:
        shutil.copy(found[0], kept / f"{case}-{form}.out")
    return f"{case:10} {form:12} {total / count:12,.0f} instructions a {unit} ({count:,})"


def _control(engine: EngineProcess, order: str) -> None:
    subprocess.run(["callgrind_control", order, str(engine.pid)], check=True, stdout=subprocess.DEVNULL)


def _total(path: Path) -> int:
    lines = path.read_text().splitlines()
    return next(int(line.split()[1]) for line in reversed(lines) if line.startswith("totals:"))


def main(argv: Sequence[str]) -> int:
    """Count, and print."""
    parser = argparse.ArgumentParser(prog="instructions", description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="which; all, when none is named")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where callgrind's files go")
    parser.add_argument("--history-days", type=float, default=3, help="of the engine; 0: it has no history")
    args = parser.parse_args(argv)
    if shutil.which("valgrind") is None:
        parser.error("valgrind is not installed")
    with bench(is_quick=False) as made:
        for case in args.cases or CASES:
            print(measure(made, case, args.keep, history_days=args.history_days), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

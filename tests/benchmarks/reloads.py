"""Twenty reloads in a row under load: what the clients see, and what the supervisor keeps.

``python -m tests.benchmarks.reloads [--count 20] [--workers 1] [--clients 120] [--pause 0]`` runs an engine
under its supervisor with a real Varnish behind it. Every request must succeed and every task be done.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from release.lab import caches
from release.lab.origin import Origin
from tests.rigs.engine_process import node_table
from tests.rigs.load import Load, settled
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def measure(folder: Path, args: argparse.Namespace) -> bool:
    """Run it and print what was seen; tell whether all was well."""
    with (
        Origin() as origin,
        caches.start_varnish(folder, name="edge-1", backend=origin.address) as cache,
        SupervisedEngine(folder, node_table(cache, name="edge-1"), workers=args.workers) as engine,
    ):
        pid = engine.pid
        times: list[float] = []
        kept: list[tuple[int, float]] = []
        began = time.monotonic()
        with Load("127.0.0.1", engine.port, clients=args.clients, pause_s=args.pause) as load:
            wait_until(lambda: load.seen.accepted, what="load")
            for _ in range(args.count):
                engine.reload()
                times.append(engine.control(cmd="status")["last_reload"]["accepting_after_s"])
                kept.append((descriptors(pid), rss_mib(pid)))
        seen = load.seen
        took_s = time.monotonic() - began
        states = settled("127.0.0.1", engine.port, seen.accepted)
        same = engine.pid == pid
    times.sort()
    print(
        f"{args.count} reloads in {took_s:.1f} s, workers: {args.workers}, clients: {args.clients}, "
        f"pause {args.pause:g} s"
    )
    print(f"requests {seen.requests} ({seen.requests / took_s:,.0f}/s), errors {len(seen.errors)}")
    print(f"accepted {len(seen.accepted)}, found and in state {dict(states)}")
    print(f"latency p99.9 {seen.p999_s():.3f} s, slowest {seen.slowest_s:.3f} s")
    print(f"until the new worker accepts: median {times[len(times) // 2]:.2f} s, slowest {times[-1]:.2f} s")
    print(f"supervisor: same process {same}, descriptors {kept[0][0]} -> {kept[-1][0]}, "
          f"memory {kept[0][1]:.1f} -> {kept[-1][1]:.1f} MiB")  # fmt: skip
    for error in seen.errors[:5]:
        print(" ", error)
    return not seen.errors and states == {"done": len(seen.accepted)}


def main() -> int:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=120)
    parser.add_argument("--pause", type=float, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="purgeline-reloads-") as folder:
        return 0 if measure(Path(folder), args) else 1


if __name__ == "__main__":
    sys.exit(main())

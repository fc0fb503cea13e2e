"""``./inv bench --growth``: what costs grow to, with more nodes, more live subtasks and more workers.

Costs are CPU time of the engine for a unit, saver thread included, so a machine with more cores can be
foretold from one with few. For nodes `fleet` answers, which costs next to nothing; subtasks wait for a
Varnish that is stopped, and go when it goes on; workers take tasks from 64 connections. At the end stands
what a million purges cost, and a month at the price of a core's hour that ``--core-hour`` gives. It writes
JSON after each part, and a chart, and takes some ten minutes. What fails is told, and the other parts are
measured all the same; sizes that the machine has no memory for are left out.
"""

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from release.lab.caches import Cache
from tests.benchmarks import report
from tests.benchmarks.costs import lines_of, measured
from tests.benchmarks.figures import Side
from tests.benchmarks.fleet import fleet
from tests.benchmarks.harness import HOST, Bench, Clock, bench, load, rss, wait_until_idle
from tests.benchmarks.rows_caches import backlog_rate
from tests.rigs.engine_process import EngineProcess, fake_table, node_table
from tests.rigs.supervised_engine import SupervisedEngine

NODES = (1, 10, 100, 1000)
SUBTASKS = (1_000, 10_000, 100_000, 1_000_000, 3_000_000, 10_000_000)
WORKERS = (1, 2, 4, 8, 16)
OF_A_TASK = 10_000  #: subtasks
A_SUBTASK_BYTES = 600  #: that one which waits may take at most, here and in the cache
SPARE_BYTES = 2**29  #: of memory, for everything else
IDLE_S = 10.0


class Point(msgspec.Struct):
    """What one size of one thing came to."""

    size: int
    cpu_us: float  #: of the engine for a unit: a purge, or a task of two URLs
    rate: float  #: units a second, on the cores of this machine
    rss_bytes: int  #: resident while it was so
    idle_cpu_share: float = math.nan  #: of a core, with nothing to do
    unit_bytes: float = math.nan  #: resident for each unit that waits


def nodes(made: Bench, sizes: Sequence[int]) -> Iterator[Point]:
    """Purge on so many nodes, tasks of 10,000 subtasks each."""
    tasks = 2 if made.is_quick else 20
    for size in sizes:
        with fleet(size) as urls:
            tables = "".join(fake_table(url, name=f"edge-{number}") for number, url in enumerate(urls))
            with made.engine(tables, live_subtasks_max=4 * tasks * OF_A_TASK) as engine:
                yield _purged_everywhere(made, engine, size=size, tasks=tasks)


def _purged_everywhere(made: Bench, engine: EngineProcess, *, size: int, tasks: int) -> Point:
    def purge(name: str, count: int) -> float:
        """Return the seconds from the first task to the last ack."""
        began = time.time()
        ids = [
            engine.submit([f"http://{HOST}/{name}/{task}/{url}" for url in range(OF_A_TASK // size)])
            for task in range(count)
        ]
        documents = [engine.wait_for(task_id, timeout_s=300) for task_id in ids]
        assert all(document["state"] == "done" for document in documents), documents[0]
        return max(float(document["updated_at"]) for document in documents) - began

    purge("warm", 1)
    wait_until_idle(engine)
    idle, busy = Side(), Side()
    clock = Clock(engine.pid)
    time.sleep(made.seconds(IDLE_S))
    clock.stop(idle)
    clock = Clock(engine.pid)
    took_s = purge("n", tasks)
    wait_until_idle(engine)
    clock.stop(busy)
    count = tasks * OF_A_TASK
    return Point(
        size,
        busy.cpu_s / count * 1e6,
        count / took_s,
        busy.peak_rss_bytes,
        idle_cpu_share=idle.cpu_s / made.seconds(IDLE_S),
    )


def subtasks(made: Bench, sizes: Sequence[int]) -> Iterator[Point]:
    """Let so many subtasks wait for a cache that hangs, and go when it goes on."""
    settings = {"live_subtasks_max": 2 * max(sizes), "request_timeout_s": 3600, "due_s": 3600}
    with made.cache() as cache:
        for size in sizes:
            if not fits(size, free_bytes()):
                print(f"left out: {size:,} subtasks, this machine has too little memory free", flush=True)
                continue
            turns = max(1, 100_000 // size // (10 if made.is_quick else 1))
            with made.engine(node_table(cache, name="edge-1"), **settings) as engine:
                yield _waited(engine, cache, size=size, turns=turns)


def fits(size: int, free: int) -> bool:
    """Tell whether so many subtasks can wait in this memory."""
    return size * A_SUBTASK_BYTES + SPARE_BYTES <= free


def free_bytes() -> int:
    """Return how much memory programs can still take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024


def _waited(engine: EngineProcess, cache: Cache, *, size: int, turns: int) -> Point:
    engine.wait_for(engine.submit([f"http://{HOST}/w/{place}" for place in range(1000)]))
    wait_until_idle(engine)
    before = rss(engine.pid)
    full: list[int] = []
    tasks, urls = max(1, size // OF_A_TASK), min(size, OF_A_TASK)
    clock, side = Clock(engine.pid), Side()
    for turn in range(turns):
        side.values.append(
            backlog_rate(
                engine,
                cache,
                f"s{turn}",
                tasks=tasks,
                urls=urls,
                when_full=lambda: full.append(rss(engine.pid)),
            )
        )
    wait_until_idle(engine, timeout_s=600)
    clock.stop(side)
    return Point(
        size,
        side.cpu_s / (size * turns) * 1e6,
        side.median,
        max(full),
        unit_bytes=(max(full) - before) / size if size >= 100_000 else math.nan,
    )


def workers(made: Bench, sizes: Sequence[int]) -> Iterator[Point]:
    """Take tasks of two URLs with so many workers."""
    with made.cache() as cache:
        tables = node_table(cache, name="edge-1")
        for size in sizes:
            with SupervisedEngine(made.new_folder("engine"), tables, workers=size) as engine:
                made.note_form(engine)
                load(engine, Side(), seconds=1, connections=64)
                clock, side = Clock(engine.pid), Side()
                rate = load(engine, side, seconds=made.seconds(6), connections=64)
                clock.stop(side)
                assert not side.errors, f"{side.errors} requests failed"
                yield Point(size, side.cpu_us, rate, side.peak_rss_bytes)


def table(name: str, points: Sequence[Point]) -> list[str]:
    """Return lines for a terminal."""
    lines = [f"{name:>12} {'us a unit':>10} {'units/s':>12} {'MiB':>8} {'B a unit':>9} {'idle':>7}"]
    for one in points:
        waits = "" if math.isnan(one.unit_bytes) else f"{one.unit_bytes:.0f}"
        idle = "" if math.isnan(one.idle_cpu_share) else f"{one.idle_cpu_share:.1%}"
        measures = f"{one.cpu_us:10.1f} {one.rate:12,.0f} {one.rss_bytes / 2**20:8,.0f}"
        lines.append(f"{one.size:12,} {measures} {waits:>9} {idle:>7}")
    return lines


def main(argv: Sequence[str]) -> int:
    """Measure, print, write and draw; 1 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, no figures")
    parser.add_argument("--core-hour", type=float, default=0.04, help="price of an hour of a core (0.04)")
    parser.add_argument("--out", type=Path, default=Path("growth.json"))
    args = parser.parse_args(argv)
    uvloop.install()
    machine = report.environment()
    print(machine, flush=True)
    found: dict[str, Any] = {"machine": machine, "failed": {}}
    with bench(is_quick=args.quick) as made:
        parts: dict[str, Callable[[], Any]] = {
            "nodes": functools.partial(nodes, made, NODES[:3] if args.quick else NODES),
            "subtasks": functools.partial(subtasks, made, SUBTASKS[:3] if args.quick else SUBTASKS),
            "workers": functools.partial(workers, made, WORKERS[:2] if args.quick else WORKERS),
            "costs": functools.partial(measured, made),
        }
        for name, part in parts.items():
            _measure(name, part, found)
            found["compiled"] = made.compiled
            args.out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    if (costs := found.get("costs")) is not None:
        print("\n".join(lines_of(costs, core_hour=args.core_hour)))
    print(f"compiled: {str(found['compiled']).lower()}; {args.out}, {report.chart(args.out, 'growth')}")
    for name, why in found["failed"].items():
        print(f"failed: {name}: {why}")
    return 1 if found["failed"] else 0


def _measure(name: str, part: Callable[[], Any], found: dict[str, Any]) -> None:
    """Put what a part comes to into *found*, as far as it gets."""
    try:
        if name == "costs":
            found[name] = part()
            return
        found[name] = []
        for point in part():
            head, line = table(name, [point])
            print(line if found[name] else f"{head}\n{line}", flush=True)
            found[name].append(point)
    except Exception as exc:  # noqa: BLE001 - the other parts are worth having
        found["failed"][name] = f"{type(exc).__name__}: {exc}"
        print(f"failed: {name}: {found['failed'][name]}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

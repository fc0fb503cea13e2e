"""Rows of proof: time to fresh on a parent and two edges, and what verification costs the engine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.benchmarks.figures import Figure, Side, percentiles
from tests.benchmarks.harness import HOST, Bench, Clock, wait_until_idle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.rigs.engine_process import EngineProcess

_P50_MS, _P99_MS = 6, 20
_URLS = 50  #: of a task whose cost is taken
_CASES: dict[str, Any] = {"off": False, "sample of 5": {"sample": 5}, "all": True}


def fresh(bench: Bench) -> Iterator[Figure]:
    """POST to verified on every node, idle, one URL a task; the origin has a new page each time."""
    origin = f'[[origin]]\nhost = "*"\nurl = "{bench.origin.url}"\n[proof]\nrate_per_s = 1000\n'
    count = 50 if bench.is_quick else 400
    with bench.site(store=origin) as (engine, _):
        took_s: list[float] = []
        side = Side()
        _purge(engine, bench, 10)
        clock = Clock(engine.pid)
        took_s = _purge(engine, bench, count)
        clock.stop(side)
        p50, p99 = percentiles(took_s)
        for name, value, limit in (("p50", p50, _P50_MS), ("p99", p99, _P99_MS)):
            yield Figure(
                "time to fresh",
                f"POST to verified on a parent and two edges, idle, {name}",
                value,
                "ms",
                "the target",
                limit,
                limit / value,
                f"<= {limit} ms",
                value <= limit,
                side.cpu_s,
                side.peak_rss_bytes,
            )


def verify_costs(bench: Bench) -> Iterator[Figure]:
    """CPU time of the engine for a subtask, with verification off, of a sample, and of all."""
    origin = f'[[origin]]\nhost = "*"\nurl = "{bench.origin.url}"\n[proof]\nrate_per_s = 100000\n'
    tasks = 10 if bench.is_quick else 60
    with bench.site(store=origin) as (engine, nodes):
        costs: dict[str, float] = {}
        for case, verify in _CASES.items():
            side = Side()
            clock = Clock(engine.pid)
            ids = [
                engine.submit(
                    [f"http://{HOST}/{case[:3]}/{task}/{place}" for place in range(_URLS)], verify=verify
                )
                for task in range(tasks)
            ]
            for task_id in ids:
                task = engine.wait_for(task_id, timeout_s=120)
                assert task["state"] == "done", task
            wait_until_idle(engine)
            clock.stop(side)
            costs[case] = side.cpu_s / (tasks * _URLS * len(nodes)) * 1e6
            yield Figure(
                "verification",
                f"tasks of {_URLS} URLs on a parent and two edges, verify {case}",
                costs[case],
                "us CPU a subtask",
                "verify off",
                costs["off"],
                costs["off"] / costs[case],
                "",
                None,
                side.cpu_s,
                side.peak_rss_bytes,
            )


def _purge(engine: EngineProcess, bench: Bench, count: int) -> list[float]:
    """Purge one URL after the other, verified; return the times to fresh of all, in seconds."""
    took_s: list[float] = []
    for number in range(count):
        bench.origin.version = f"v{number}-{time.monotonic_ns()}"
        task = engine.wait_for(engine.submit([f"http://{HOST}/fresh/{number % 10}"], verify=True))
        assert task["verify"]["verified"] == len(task["nodes"]), task
        took_s.append(max(node["verified_at"] for node in task["nodes"]) - task["created_at"])
    return took_s

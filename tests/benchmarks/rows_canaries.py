"""Rows of canaries: what they take of an engine that purges, and of one that does nothing else."""

import contextlib
import time
from collections.abc import Iterator

from release.lab import caches
from tests.benchmarks.figures import Figure, Side
from tests.benchmarks.harness import Bench, Clock, in_turn
from tests.benchmarks.rows_caches import acks_per_s
from tests.rigs.engine_process import EngineProcess, node_table
from tests.waiting import wait_until

INTERVAL_S = 1.0  #: sixty times as often as one would in earnest


def canaries(bench: Bench) -> Iterator[Figure]:
    """Purges of 10,000 URLs, and an idle engine, with canaries of every kind on a Varnish and without."""
    with contextlib.ExitStack() as stack:
        without = _engine(bench, stack, 0)
        with_canaries = _engine(bench, stack, INTERVAL_S)
        wait_until(lambda: (with_canaries.node("edge-1")["canary"] or {}).get("state") == "fresh")
        numbers = iter(range(1000))
        off, on = Side(), Side()
        in_turn(
            bench.rounds,
            (lambda: acks_per_s(without, numbers), off, [without.pid]),
            (lambda: acks_per_s(with_canaries, numbers), on, [with_canaries.pid]),
        )
        yield Figure(
            "canaries",
            f"tasks of 10,000 URLs on varnish, a canary of each kind every {INTERVAL_S:g} s",
            on.median,
            "acks/s",
            "without canaries",
            off.median,
            on.median / off.median,
            ">= 0.9x",
            on.median / off.median >= 0.9,
            on.cpu_s,
            on.peak_rss_bytes,
            off.cpu_s,
            off.peak_rss_bytes,
            on.spread,
        )
        seconds = bench.seconds(10)
        idle = {engine: _cpu_share(engine, seconds) for engine in (without, with_canaries)}
        yield Figure(
            "canaries",
            f"an idle engine, a canary of each kind every {INTERVAL_S:g} s",
            1000 * (idle[with_canaries] - idle[without]) * INTERVAL_S / 5,
            "ms of CPU time a canary",
        )


def _engine(bench: Bench, stack: contextlib.ExitStack, interval_s: float) -> EngineProcess:
    """Start an engine on a Varnish of its own that fetches canaries from it."""
    engine = EngineProcess(bench.new_folder("engine"), "")
    cache = stack.enter_context(
        caches.start_varnish(
            bench.new_folder("edge-1"),
            name="edge-1",
            backend=bench.origin.address,
            canary=f"127.0.0.1:{engine.port}",
        )
    )
    canary = f"[canary]\ninterval_s = {interval_s}\n"
    engine.configure(canary + node_table(cache, name="edge-1"))
    return stack.enter_context(engine)


def _cpu_share(engine: EngineProcess, seconds: float) -> float:
    side = Side()
    clock = Clock(engine.pid)
    time.sleep(seconds)
    clock.stop(side)
    return side.cpu_s / seconds

"""Rows of how long a client waits: at an idle engine, under load, over reloads."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.figures import Figure, Side, percentiles, short
from tests.benchmarks.harness import HOST, PATH, Bench, Clock, in_turn, load
from tests.rigs.engine_process import EngineProcess, node_table
from tests.rigs.load import Load, settled
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

PAUSING = 200  #: connections of a load that is not as fast as it can be


def purge_once(connection: http.client.HTTPConnection, engine: EngineProcess, target: str) -> float:
    """Purge one URL on all nodes; return the seconds from the POST to the last ack."""
    began = time.time()
    connection.request("POST", PATH, json.dumps({"targets": [target]}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    document = json.loads(answer.read())
    assert answer.status == 202, document
    task = engine.wait_for(document["task_id"])
    assert task["state"] == "done", task
    return float(task["updated_at"]) - began


def latency(bench: Bench) -> Iterator[Figure]:
    """One URL at an idle engine: a parent, then two edges."""
    count = 100 if bench.is_quick else 500
    with bench.site() as (engine, _):
        connection = http.client.HTTPConnection("127.0.0.1", engine.port)
        for number in range(20):
            purge_once(connection, engine, f"http://{HOST}/warm/{number}")
        clock, side = Clock(engine.pid), Side()
        took = [purge_once(connection, engine, f"http://{HOST}/l/{number}") for number in range(count)]
        clock.stop(side)
        connection.close()
    p50, p99 = percentiles(took)
    yield Figure(
        "latency",
        "idle, parent and 2 edges",
        p99,
        "ms p99",
        target="p50 <= 1.5, p99 <= 5 ms",
        ok=p50 <= 1.5 and p99 <= 5,
        cpu_s=side.cpu_s,
        peak_rss_bytes=side.peak_rss_bytes,
        spread=f"p50 {p50:.2f}, slowest {max(took) * 1000:.1f}",
    )


def latency_loaded(bench: Bench) -> Iterator[Figure]:
    """The same at half of the load that this engine can finish."""
    with bench.site() as (engine, _), ThreadPoolExecutor(1) as threads:
        peak = peak_of(engine, bench.seconds(4))
        over = threading.Event()

        def measure() -> list[float]:
            took: list[float] = []
            connection = http.client.HTTPConnection("127.0.0.1", engine.port)
            while not over.wait(0.01):
                took.append(purge_once(connection, engine, f"http://{HOST}/ll/{len(took)}"))
            connection.close()
            return took

        clock, side = Clock(engine.pid), Side()
        measuring = threads.submit(measure)
        try:
            reached = load(
                engine,
                side,
                seconds=bench.seconds(12),
                connections=PAUSING,
                script="paced.lua",
                args=[str(pause_ms(peak))],
                until_idle=over.set,
            )
        finally:
            over.set()
        took = measuring.result()
        clock.stop(side)
    p50, p99 = percentiles(took)
    yield Figure(
        "latency-loaded",
        "half of the peak, parent and 2 edges",
        p99,
        "ms p99",
        target="p99 <= 20 ms",
        ok=p99 <= 20 and not side.errors and reached >= 0.4 * peak,
        cpu_s=side.cpu_s,
        peak_rss_bytes=side.peak_rss_bytes,
        spread=f"p50 {p50:.2f}, slowest {max(took) * 1000:.1f}",
        note=f"{reached / peak:.0%} of {short(peak)} tasks/s, {len(took)} purges timed; errors {side.errors}",
    )


def peak_of(engine: EngineProcess, seconds: float) -> float:
    """Return how many tasks a second an engine takes and finishes."""
    side = Side()
    began = time.monotonic()
    taken = seconds * load(engine, side, seconds=seconds, connections=64, script="paced.lua", args=["0"])
    if side.errors:
        raise RuntimeError(f"{side.errors} of some {taken:.0f} requests failed")
    return taken / (time.monotonic() - began)


def pause_ms(peak: float) -> int:
    """Return how long each of `PAUSING` connections pauses for half of *peak*."""
    return max(1, round(1000 * PAUSING / (peak / 2)))


def reload(bench: Bench) -> Iterator[Figure]:
    """Five reloads under 120 clients, against the same load without."""
    count = 2 if bench.is_quick else 5
    steady, moving = Side(), Side()
    with (
        bench.cache() as cache,
        SupervisedEngine(bench.new_folder("engine"), node_table(cache, name="edge-1")) as engine,
    ):

        def clients(*, reloads: int, side: Side) -> float:
            with Load("127.0.0.1", engine.port, clients=120) as running:
                wait_until(lambda: running.seen.accepted, what="load")
                for _ in range(reloads):
                    engine.reload()
                if not reloads:
                    time.sleep(bench.seconds(3))
            seen = running.seen
            states = settled("127.0.0.1", engine.port, seen.accepted)
            side.errors += len(seen.errors) + len(seen.accepted) - states["done"]
            return seen.p999_s()

        clients(reloads=0, side=Side())
        in_turn(
            1,
            (lambda: clients(reloads=0, side=steady), steady, ()),
            (lambda: clients(reloads=count, side=moving), moving, ()),
        )
    yield Figure(
        "reload",
        f"{count} reloads, 120 clients",
        moving.median,
        "s p99.9",
        "no reload",
        steady.median,
        steady.median / moving.median,
        "<= 1 s, errors 0",
        moving.median <= 1 and not moving.errors,
        note=f"failed or lost {moving.errors} / {steady.errors}",
    )

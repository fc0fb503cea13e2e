"""Rows of the way in: how fast tasks are taken, and how long a client waits."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from release.lab.caches import free_port
from tests.benchmarks.harness import (
    HOST,
    PATH,
    Bench,
    Clock,
    Figure,
    Side,
    errors_of,
    fastapi,
    in_turn,
    load,
    percentiles,
    rate,
    short,
    wrk,
)
from tests.rigs.engine_process import EngineProcess, node_table
from tests.rigs.load import Load, settled
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

URLS = 100
LINES = 20
PAUSING = 200  #: connections of a load that is not as fast as it can be


def intake(bench: Bench) -> Iterator[Figure]:
    """Durable 202s of two URLs, validated, fsynced and dispatched, against FastAPI and a dictionary."""
    with (
        bench.cache() as cache,
        bench.engine(node_table(cache, name="edge-1")) as engine,
        fastapi() as (peer, pid),
    ):
        load(engine, Side(), seconds=1, connections=64)
        wrk(peer, seconds=1, script="tasks.lua", connections=64)
        for connections in (64, 800):
            ours, theirs = Side(), Side()
            seconds = bench.seconds(4)

            def ask_peer(
                connections: int = connections, theirs: Side = theirs, seconds: float = seconds
            ) -> float:
                report = wrk(peer, seconds=seconds, script="tasks.lua", connections=connections)
                theirs.errors += errors_of(report)
                return rate(report)

            in_turn(
                bench.rounds,
                (lambda: load(engine, ours, seconds=seconds, connections=connections), ours, [engine.pid]),  # noqa: B023
                (ask_peer, theirs, [pid]),
            )
            ratio = ours.median / theirs.median
            yield Figure(
                "intake",
                f"{connections} connections",
                ours.median,
                "202/s",
                "FastAPI, in memory",
                theirs.median,
                ratio,
                ">= 5x",
                ratio >= 5 and not ours.errors,
                ours.cpu_s,
                ours.peak_rss_bytes,
                theirs.cpu_s,
                theirs.peak_rss_bytes,
                ours.spread,
                f"errors {ours.errors} / {theirs.errors}",
            )


def intake_batch(bench: Bench) -> Iterator[Figure]:
    """URLs a second in tasks of 100, one a request and 20 lines a request; taken in, not yet purged."""
    limits = {"live_subtasks_max": 20_000_000}
    for lines in (0, LINES):
        with bench.cache() as cache, bench.engine(node_table(cache, name="edge-1"), **limits) as engine:
            side = Side()
            in_turn(
                bench.rounds,
                (
                    lambda: (
                        URLS
                        * load(
                            engine,
                            side,  # noqa: B023
                            seconds=bench.seconds(3),
                            connections=256,
                            script="batch.lua",
                            args=[str(lines), "edge-1"],  # noqa: B023
                            per_request=max(1, lines),  # noqa: B023
                        )
                    ),
                    side,
                    [engine.pid],
                ),
            )
            yield Figure(
                "intake-batch",
                f"NDJSON, {lines} lines of {URLS} URLs" if lines else f"a task of {URLS} URLs a request",
                side.median,
                "URL/s",
                target=">= 400,000 URL/s",
                ok=side.median >= 400_000 and not side.errors,
                cpu_s=side.cpu_s,
                peak_rss_bytes=side.peak_rss_bytes,
                spread=side.spread,
                note=f"durable; purges follow later; {'20' if lines else '200'} bodies; errors {side.errors}",
            )


def door(bench: Bench) -> Iterator[Figure]:
    """Purges by a door, a URL each and 64 kept connections, against the same by the fast lane."""
    port = free_port()
    table = f'[[door]]\nkind = "purge"\nlisten = "127.0.0.1:{port}"\n'
    with bench.cache() as cache, bench.engine(node_table(cache, name="edge-1") + table) as engine:
        by_door, by_lane = Side(), Side()

        def measure(side: Side, script: str, url: str = "", seconds: float = bench.seconds(4)) -> float:
            return load(engine, side, seconds=seconds, connections=64, script=script, url=url)

        address = f"http://127.0.0.1:{port}/"
        measure(Side(), "purge.lua", address, 1)
        measure(Side(), "url.lua", seconds=1)
        in_turn(
            bench.rounds,
            (lambda: measure(by_door, "purge.lua", address), by_door, [engine.pid]),
            (lambda: measure(by_lane, "url.lua"), by_lane, [engine.pid]),
        )
    ratio = by_door.median / by_lane.median
    yield Figure(
        "door",
        "PURGE, 64 connections",
        by_door.median,
        "200/s",
        "the fast lane, tasks of one URL",
        by_lane.median,
        ratio,
        ">= 0.8x",
        ratio >= 0.8 and not by_door.errors,
        by_door.cpu_s,
        by_door.peak_rss_bytes,
        by_lane.cpu_s,
        by_lane.peak_rss_bytes,
        by_door.spread,
        f"errors {by_door.errors} / {by_lane.errors}",
    )


def workers(bench: Bench) -> Iterator[Figure]:
    """Intake with one worker and with two."""
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(bench.cache())
        tables = node_table(cache, name="edge-1")
        sides = []
        for count in (1, 2):
            engine = stack.enter_context(SupervisedEngine(bench.new_folder("engine"), tables, workers=count))
            load(engine, Side(), seconds=1, connections=64)
            sides.append((engine, Side()))

        def measure(engine: EngineProcess, side: Side) -> float:
            return load(engine, side, seconds=bench.seconds(4), connections=64)

        in_turn(
            bench.rounds,
            *((lambda one=one, side=side: measure(one, side), side, [one.pid]) for one, side in sides),
        )
    (_, one), (_, two) = sides
    yield Figure(
        "workers",
        "2 workers, 64 connections",
        two.median,
        "202/s",
        "1 worker",
        one.median,
        two.median / one.median,
        cpu_s=two.cpu_s,
        peak_rss_bytes=two.peak_rss_bytes,
        peer_cpu_s=one.cpu_s,
        peer_peak_rss_bytes=one.peak_rss_bytes,
        spread=two.spread,
        note=f"errors {two.errors} / {one.errors}",
    )


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
        target="p50 <= 3, p99 <= 10 ms",
        ok=p50 <= 3 and p99 <= 10,
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
        target="p99 <= 50 ms",
        ok=p99 <= 50 and not side.errors and reached >= 0.4 * peak,
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

"""Rows of the way in: how fast tasks are taken, and how long a client waits."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator

from tests.benchmarks.harness import (
    HOST,
    Bench,
    Clock,
    Figure,
    Side,
    errors_of,
    fastapi,
    in_turn,
    percentiles,
    rate,
    short,
    wait_until_idle,
    wrk,
)
from tests.flow.engine_process import EngineProcess, node_table, wait_until
from tests.flow.load import Load, settled
from tests.flow.supervised import SupervisedEngine

PATH = "/v1/engine/task"
URLS = 100
LINES = 20


def url_of(engine: EngineProcess, path: str = PATH) -> str:
    """Return the address that load goes to."""
    return f"http://127.0.0.1:{engine.port}{path}"


def intake(bench: Bench) -> Iterator[Figure]:
    """Durable 202s of two URLs, validated, fsynced and dispatched, against FastAPI and a dictionary."""
    with (
        bench.cache() as cache,
        bench.engine(node_table(cache, name="edge-1")) as engine,
        fastapi() as (peer, pid),
    ):
        for target in (url_of(engine), peer):
            wrk(target, seconds=1, script="same.lua", connections=64)
        for connections in (64, 800):
            ours, theirs = Side(), Side()

            def load(target: str, side: Side, connections: int = connections) -> float:
                wait_until_idle(engine)
                report = wrk(target, seconds=bench.seconds(4), script="same.lua", connections=connections)
                side.errors += errors_of(report)
                return rate(report)

            in_turn(
                bench.rounds,
                (lambda: load(url_of(engine), ours), ours, [engine.pid]),  # noqa: B023
                (lambda: load(peer, theirs), theirs, [pid]),  # noqa: B023
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
                f"errors {ours.errors}",
            )
        wait_until_idle(engine)


def intake_batch(bench: Bench) -> Iterator[Figure]:
    """URLs a second in tasks of 100, one a request and 20 lines a request."""
    limits = {"live_subtasks_max": 20_000_000}
    for lines in (0, LINES):
        with bench.cache() as cache, bench.engine(node_table(cache, name="edge-1"), **limits) as engine:
            side = Side()

            def load(lines: int = lines, engine: EngineProcess = engine, side: Side = side) -> float:
                report = wrk(
                    url_of(engine),
                    seconds=bench.seconds(3),
                    script="batch.lua",
                    connections=256,
                    args=[str(lines), "edge-1"],
                )
                side.errors += errors_of(report)
                return rate(report) * URLS * max(1, lines)

            clock = Clock(engine.pid)
            for _ in range(bench.rounds):
                side.values.append(load())
                wait_until_idle(engine)
            clock.stop(side)
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
                note=f"errors {side.errors}",
            )


def workers(bench: Bench) -> Iterator[Figure]:
    """Intake with one worker and with two."""
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(bench.cache())
        tables = node_table(cache, name="edge-1")
        sides = []
        for count in (1, 2):
            engine = stack.enter_context(SupervisedEngine(bench.new_folder("engine"), tables, workers=count))
            sides.append((engine, Side()))

        def load(engine: EngineProcess) -> float:
            wait_until_idle(engine)
            return rate(wrk(url_of(engine), seconds=bench.seconds(4), script="tasks.lua", connections=64))

        in_turn(
            bench.rounds,
            *((lambda engine=engine: load(engine), side, [engine.pid]) for engine, side in sides),
        )
        wait_until_idle(*(engine for engine, _ in sides))
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


def _latency_figure(
    name: str, case: str, took: list[float], side: Side, p50_ms: float, p99_ms: float
) -> Figure:
    p50, p99 = percentiles(took)
    target = f"p50 <= {p50_ms:g}, p99 <= {p99_ms:g} ms" if p50_ms else f"p99 <= {p99_ms:g} ms"
    return Figure(
        name,
        case,
        p99,
        "ms p99",
        target=target,
        ok=(not p50_ms or p50 <= p50_ms) and p99 <= p99_ms,
        cpu_s=side.cpu_s,
        peak_rss_bytes=side.peak_rss_bytes,
        spread=f"p50 {p50:.2f}, slowest {max(took) * 1000:.1f}",
    )


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
    yield _latency_figure("latency", "idle, parent and 2 edges", took, side, 3, 10)


def latency_loaded(bench: Bench) -> Iterator[Figure]:
    """The same at half of the load that this engine can finish."""
    with bench.site() as (engine, _):
        peak = peak_of(engine, bench.seconds(4))
        connections = 200
        pause_ms = max(1, round(1000 * connections / (peak / 2)))
        took: list[float] = []
        over = threading.Event()

        def measure() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", engine.port)
            while not over.is_set():
                took.append(purge_once(connection, engine, f"http://{HOST}/ll/{len(took)}"))
                time.sleep(0.01)
            connection.close()

        clock, side = Clock(engine.pid), Side()
        thread = threading.Thread(target=measure)
        thread.start()
        report = wrk(
            url_of(engine),
            seconds=bench.seconds(12),
            script="paced.lua",
            connections=connections,
            args=[str(pause_ms)],
        )
        over.set()
        thread.join()
        clock.stop(side)
        wait_until_idle(engine)
    figure = _latency_figure(
        "latency-loaded", f"{rate(report) / peak:.0%} of {short(peak)} tasks/s", took, side, 0, 50
    )
    figure.note = f"errors {errors_of(report)}"
    yield figure


def peak_of(engine: EngineProcess, seconds: float) -> float:
    """Return how many tasks a second an engine takes and finishes."""
    began = time.monotonic()
    report = wrk(url_of(engine), seconds=seconds, script="paced.lua", connections=64, args=["0"])
    wait_until_idle(engine)
    return report["requests"] / (time.monotonic() - began)


def reload(bench: Bench) -> Iterator[Figure]:
    """Five reloads under 120 clients, against the same load without."""
    steady, moving = Side(), Side()
    errors = 0
    with (
        bench.cache() as cache,
        SupervisedEngine(bench.new_folder("engine"), node_table(cache, name="edge-1")) as engine,
    ):

        def load(*, reloads: int, side: Side) -> float:
            nonlocal errors
            with Load("127.0.0.1", engine.port, clients=120) as clients:
                wait_until(lambda: clients.seen.accepted, what="load")
                for _ in range(reloads):
                    engine.reload()
                if not reloads:
                    time.sleep(bench.seconds(3))
            seen = clients.seen
            states = settled("127.0.0.1", engine.port, seen.accepted)
            errors += len(seen.errors) + len(seen.accepted) - states["done"]
            return seen.p999_s()

        in_turn(
            1,
            (lambda: load(reloads=0, side=steady), steady, [engine.pid]),
            (lambda: load(reloads=2 if bench.is_quick else 5, side=moving), moving, [engine.pid]),
        )
    yield Figure(
        "reload",
        "5 reloads, 120 clients",
        moving.median,
        "s p99.9",
        "no reload",
        steady.median,
        steady.median / moving.median,
        "<= 1 s, errors 0",
        moving.median <= 1 and not errors,
        moving.cpu_s,
        moving.peak_rss_bytes,
        steady.cpu_s,
        steady.peak_rss_bytes,
        note=f"failed or lost {errors}",
    )

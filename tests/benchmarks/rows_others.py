"""Rows of the logs and of the store on Redis."""

import http.client
import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.figures import Figure, Side, beside, percentiles
from tests.benchmarks.harness import HOST, PATH, Bench, in_turn, load, wait_until_idle
from tests.benchmarks.peering import run_peer
from tests.benchmarks.rows_caches import acks_per_s, hand_in
from tests.rigs.engine_process import ROOT, EngineProcess, node_table
from tests.rigs.redis_servers import RedisServer

# An idle engine asks each of its 16 regions for the same at once, every second or every five.
_BURST = 16
_LINES = """
import sys, time
from engine.observe.log_lines import LogLine, as_dict, as_struct
form = {"struct": as_struct, "dict": as_dict}[sys.argv[1]]
def run(count):
    for _ in range(count):
        form(LogLine(
            1732400000.123456, "INFO", "subtask", "purgeline/1.4.2", "purge", "1a20ec28663bfbac4b3190020b2",
            "edge-1", "http://img.example.com/a/b/c.jpg", "purge_url", 200, "acked", 1.25,
        ))
run(20_000)
count = 300_000
began = time.perf_counter()
run(count)
print(count / (time.perf_counter() - began))
"""


def logs(bench: Bench) -> Iterator[Figure]:
    """A JSON line from its parts, and what a line per answer costs the engine."""

    def ours(kind: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", _LINES, kind], cwd=ROOT, check=True, capture_output=True, text=True
        )
        return float(done.stdout)

    sides = {name: Side() for name in ("struct", "dict", "stdlib", "loguru")}
    in_turn(
        bench.rounds,
        (lambda: ours("struct"), sides["struct"], ()),
        (lambda: run_peer("log_lines.py", "stdlib", side=sides["stdlib"]), sides["stdlib"], ()),
        (lambda: ours("dict"), sides["dict"], ()),
        (lambda: run_peer("log_lines.py", "loguru", side=sides["loguru"]), sides["loguru"], ()),
    )
    for name, peer, target in (("struct", "stdlib", 5.0), ("dict", "stdlib", 0.0), ("struct", "loguru", 0.0)):
        ratio = sides[name].median / sides[peer].median
        yield Figure(
            "logs",
            f"{name} line, encoded" + (" (loguru: a whole call)" if peer == "loguru" else ""),
            sides[name].median,
            "lines/s",
            "loguru, serialize=True" if peer == "loguru" else "stdlib json of a dict",
            sides[peer].median,
            ratio,
            f">= {target:g}x" if target else "",
            ratio >= target if target else None,
            peer_cpu_s=sides[peer].cpu_s,
            peer_peak_rss_bytes=sides[peer].peak_rss_bytes,
            spread=sides[name].spread,
        )
    yield _subtask_lines(bench)


def _subtask_lines(bench: Bench) -> Figure:
    on, off = Side(), Side()
    with (
        bench.cache() as cache,
        bench.engine(node_table(cache, name="edge-1"), log_subtasks=True) as with_lines,
        bench.engine(node_table(cache, name="edge-1")) as without,
    ):
        numbers = iter(range(1000))

        def purge(engine: EngineProcess) -> float:
            return acks_per_s(engine, numbers)

        for engine in (with_lines, without):
            purge(engine)
        in_turn(
            bench.rounds + 2,
            (lambda: purge(with_lines), on, [with_lines.pid]),
            (lambda: purge(without), off, [without.pid]),
        )
    ratio = on.median / off.median
    return Figure(
        "logs",
        "engine, a line per answer",
        on.median,
        "acks/s",
        "no lines",
        off.median,
        ratio,
        ">= 0.9x",
        ratio >= 0.9,
        on.cpu_s,
        on.peak_rss_bytes,
        off.cpu_s,
        off.peak_rss_bytes,
        on.spread,
    )


def redis(bench: Bench) -> Iterator[Figure]:
    """Intake and end-to-end on Redis (AOF everysec) against the embedded store, and what that costs Redis."""
    with RedisServer(bench.new_folder("redis"), fsync="everysec") as server:
        store = f'[store]\nurl = "{server.url}"\n'
        with (
            bench.cache() as cache,
            bench.engine(store + node_table(cache, name="edge-1"), name="bench") as shared,
            bench.engine(node_table(cache, name="edge-1")) as embedded,
        ):
            for engine in (shared, embedded):
                load(engine, Side(), seconds=1, connections=64)
            for connections in (64, 800):
                ours, theirs = Side(), Side()

                def measure(engine: EngineProcess, side: Side, connections: int = connections) -> float:
                    return load(engine, side, seconds=bench.seconds(4), connections=connections)

                in_turn(
                    bench.rounds,
                    (lambda: measure(shared, ours), ours, [shared.pid, server.pid]),  # noqa: B023
                    (lambda: measure(embedded, theirs), theirs, [embedded.pid]),  # noqa: B023
                )
                yield _against_embedded(
                    f"intake, {connections} connections", "202/s", ours, theirs, least=0.7
                )
            yield _reads(bench, shared)
            yield from _use_of_redis(server, shared)
        with bench.site(store=store + 'prefix = "e2e"\n') as (shared, _), bench.site() as (embedded, _):
            ours, theirs = Side(), Side()
            tasks = 100 if bench.is_quick else 300
            numbers = iter(range(1000))
            for engine in (shared, embedded):
                hand_in(engine, "warm", tasks=20)
            in_turn(
                bench.rounds,
                (lambda: hand_in(shared, f"s{next(numbers)}", tasks=tasks), ours, [shared.pid, server.pid]),
                (lambda: hand_in(embedded, f"e{next(numbers)}", tasks=tasks), theirs, [embedded.pid]),
            )
            yield _against_embedded(
                "end-to-end, parent and 2 edges", "node-purges/s", ours, theirs, least=0.5
            )
        yield _ceiling(server)


def _against_embedded(case: str, unit: str, ours: Side, theirs: Side, *, least: float) -> Figure:
    figure = beside("redis", case, unit, ours, "embedded store", theirs, least=least)
    figure.note = f"with Redis's CPU and memory; errors {ours.errors}"
    return figure


def _reads(bench: Bench, engine: EngineProcess) -> Figure:
    """How long a ``GET`` of a task takes while 64 clients hand tasks in without pause."""
    ids = [engine.submit([f"http://{HOST}/read/{number}"]) for number in range(300)]
    wait_until_idle(engine)
    over = threading.Event()

    def read() -> list[float]:
        took = []
        connection = http.client.HTTPConnection("127.0.0.1", engine.port)
        for task_id in itertools.cycle(ids):
            began = time.perf_counter()
            connection.request("GET", f"{PATH}/{task_id}")
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            took.append(time.perf_counter() - began)
            if over.wait(0.01):
                break
        connection.close()
        return took

    side = Side()
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        try:
            reached = load(engine, side, seconds=bench.seconds(8), connections=64, until_idle=over.set)
        finally:
            over.set()
        took = reading.result()
    p50, p99 = percentiles(took)
    return Figure(
        "redis",
        "GET of a stored task under that load",
        p99,
        "ms p99",
        target="<= 8 ms",
        ok=p99 <= 8 and not side.errors,
        spread=f"p50 {p50:.2f}, slowest {max(took) * 1000:.1f}",
        note=f"{reached:,.0f} tasks/s, {len(took)} reads; errors {side.errors}",
    )


def _use_of_redis(server: RedisServer, engine: EngineProcess) -> Iterator[Figure]:
    """Commands for tasks of 100 URLs on one node, one after the other and many at once."""
    window_s = 12.0
    server.ask("CONFIG", "RESETSTAT")
    time.sleep(window_s)
    idle = _calls(server)
    for case, batch in (("one at a time", 1), ("100 at a time", 100)):
        count = 400
        server.ask("CONFIG", "RESETSTAT")
        over_at = time.monotonic() + window_s
        for start in range(0, count, batch):
            hand_in(engine, f"use-{batch}-{start}", tasks=batch, is_checked=False)
        time.sleep(max(0.0, over_at - time.monotonic()))
        more = _calls(server)
        more.subtract(idle)
        value = sum(calls for calls in more.values() if abs(calls) > _BURST) / count
        yield Figure(
            "redis",
            f"commands for a task of 100 URLs, {case}",
            value,
            "commands",
            target="<= 12",
            ok=round(value, 1) <= 12,  # a sign of life more or less
            note=f"with those in scripts, less an idle engine's; scripts: {more['evalsha'] / count:.1f}",
        )


def _calls(server: RedisServer) -> Counter[str]:
    """Return how often Redis has run each command, in scripts too."""
    found = server.info("commandstats").items()
    return Counter({name.removeprefix("cmdstat_"): int(facts["calls"]) for name, facts in found})


def _ceiling(server: RedisServer) -> Figure:
    """What this Redis does at most here: pipelined SETs of redis-benchmark."""
    command = [
        "redis-benchmark",
        "-p",
        str(server.port),
        "-t",
        "set",
        "-n",
        "300000",
        "-P",
        "64",
        "-c",
        "4",
        "-q",
        "--csv",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    value = float(done.stdout.splitlines()[-1].split(",")[1].strip('"'))
    return Figure(
        "redis", "redis-benchmark, SET, 64 in a pipeline", value, "SET/s", note="the ceiling, not ours"
    )

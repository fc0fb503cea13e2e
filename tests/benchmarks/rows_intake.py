"""Rows of the way in: how fast tasks are taken."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from release.lab.caches import free_port
from tests.benchmarks.figures import Figure, Side, beside, cpu_of_unit
from tests.benchmarks.harness import Bench, errors_of, in_turn, load, rate, wrk
from tests.benchmarks.peering import NO_GO, fastapi, go_server, go_version, granian
from tests.rigs.engine_process import EngineProcess, node_table
from tests.rigs.supervised_engine import SupervisedEngine

URLS = 100
LINES = 20
Peer = Callable[[], contextlib.AbstractContextManager[tuple[str, int]]]

_PEERS: dict[str, Peer] = {
    "FastAPI, in memory": fastapi,
    "Granian, RSGI echo": granian,
    "Go net/http, one proc, in memory": go_server,
}
_FASTAPI, _GRANIAN, _GO = _PEERS
#: Times the peer, by connections.
_TARGETS = {64: {_FASTAPI: 3.0, _GRANIAN: 0.5}, 800: {_FASTAPI: 5.5, _GRANIAN: 0.5, _GO: 1.0}}
_CPU_TARGET_US = 40.0


def intake(bench: Bench) -> Iterator[Figure]:
    """Durable 202s of two URLs, validated, fsynced and dispatched, beside servers that fsync nothing."""
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(bench.cache())
        engine = stack.enter_context(bench.engine(node_table(cache, name="edge-1")))
        there = [name for name in _PEERS if name != _GO or go_version()]
        peers = {name: stack.enter_context(_PEERS[name]()) for name in there}
        load(engine, Side(), seconds=1, connections=64)
        for url, _ in peers.values():
            wrk(url, seconds=1, script="tasks.lua", connections=64)
        for connections, targets in _TARGETS.items():
            yield from _intake(bench, engine, peers, connections=connections, targets=targets)


def _intake(
    bench: Bench,
    engine: EngineProcess,
    peers: Mapping[str, tuple[str, int]],
    *,
    connections: int,
    targets: Mapping[str, float],
) -> Iterator[Figure]:
    ours = Side()
    sides = {name: Side() for name in peers}

    def ask(name: str) -> float:
        seconds = bench.seconds(4 if name == _FASTAPI else 2)
        report = wrk(peers[name][0], seconds=seconds, script="tasks.lua", connections=connections)
        sides[name].errors += errors_of(report)
        return rate(report)

    in_turn(
        bench.rounds,
        (lambda: load(engine, ours, seconds=bench.seconds(4), connections=connections), ours, [engine.pid]),
        *((lambda name=name: ask(name), side, [peers[name][1]]) for name, side in sides.items()),
    )
    for name, side in sides.items():
        case = f"{connections} connections" + ("" if name == _FASTAPI else f" ({name.partition(',')[0]})")
        yield beside("intake", case, "202/s", ours, name, side, least=targets.get(name))
    if _GO not in peers:
        case = f"{connections} connections (Go net/http)"
        yield Figure("intake", case, ours.median, "202/s", _GO, note=NO_GO)
    if connections == max(_TARGETS):
        case = f"CPU of a task, {connections} connections"
        yield cpu_of_unit("intake", case, "us a task", ours, most_us=_CPU_TARGET_US)


def intake_batch(bench: Bench) -> Iterator[Figure]:
    """URLs a second in tasks of 100, one a request and 20 lines a request; taken in, not yet purged."""
    limits = {"live_subtasks_max": 20_000_000}
    for lines, target in ((0, 600_000), (LINES, 1_200_000)):
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
                target=f">= {target:,} URL/s",
                ok=side.median >= target and not side.errors,
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
    peer = "the fast lane, tasks of one URL"
    yield beside("door", "PURGE, 64 connections", "200/s", by_door, peer, by_lane, least=0.8)


def workers(bench: Bench) -> Iterator[Figure]:
    """Intake with one worker and with two."""
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(bench.cache())
        tables = node_table(cache, name="edge-1")
        sides = []
        for count in (1, 2):
            engine = stack.enter_context(SupervisedEngine(bench.new_folder("engine"), tables, workers=count))
            bench.note_form(engine)
            load(engine, Side(), seconds=1, connections=64)
            sides.append((engine, Side()))

        def measure(engine: EngineProcess, side: Side) -> float:
            return load(engine, side, seconds=bench.seconds(4), connections=64)

        in_turn(
            bench.rounds,
            *((lambda one=one, side=side: measure(one, side), side, [one.pid]) for one, side in sides),
        )
    (_, one), (_, two) = sides
    yield beside("workers", "2 workers, 64 connections", "202/s", two, "1 worker", one)

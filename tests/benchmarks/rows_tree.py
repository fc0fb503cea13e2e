"""Rows of a tree of engines: the same eight caches below one engine, and below two and three levels of them.

The caches are `fleet`, which cost next to nothing: what is measured are the engines, all on this machine, so
that more levels also share its cores. CPU time for a leaf purge tells what a level costs where each engine
has a machine of its own.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from tests.benchmarks.figures import Figure, Side, percentiles, short
from tests.benchmarks.fleet import fleet
from tests.benchmarks.harness import HOST, Bench, Clock, counted, wait_until_idle
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.tree import region_table, wait_state
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAVES: Final = 8
LEVELS: Final = {
    1: "1 level: an engine",
    2: "2 levels: a root, 2 regions",
    3: "3 levels: a root, 2 countries, 4 regions",
}
_URLS: Final = 100  #: of a task of the load


def tree(bench: Bench) -> Iterator[Figure]:
    """Leaf purges a second, CPU time of each, and the time to done and to fresh, by levels."""
    first: dict[str, float] = {}
    for depth in LEVELS:
        with engines_of(bench, depth) as levels:
            for figure in (*_loads(bench, levels), *_times(bench, levels[0][0])):
                same = f"{figure.case} {figure.unit}"
                if depth > 1:
                    _set_beside(figure, first[same])
                else:
                    first[same] = figure.value
                figure.case += f", {LEVELS[depth]}"
                yield figure


def _set_beside(figure: Figure, one_level: float) -> None:
    """Compare a figure with that of one level; more is better of rates alone."""
    figure.peer, figure.peer_value = "an engine", one_level
    is_rate = figure.unit.endswith("/s")
    ours, theirs = figure.value, figure.peer_value
    figure.ratio = ours / theirs if is_rate else theirs / ours
    if figure.unit.startswith("ms"):
        figure.note = f"{ours - theirs:+.2f} ms"


@contextlib.contextmanager
def engines_of(bench: Bench, depth: int) -> Iterator[list[list[EngineProcess]]]:
    """Run engines in so many levels above `LEAVES` caches; yields them by level, the root's first."""
    with contextlib.ExitStack() as stack:
        urls = stack.enter_context(fleet(LEAVES + 1))
        truth = f'[[origin]]\nhost = "*"\nurl = "{urls[LEAVES]}"\n[proof]\nrate_per_s = 100000\n'
        lowest = 2 ** (depth - 1)
        share = LEAVES // lowest
        tables = [
            "".join(
                fake_table(urls[place], name=f"edge-{place}")
                for place in range(number * share, (number + 1) * share)
            )
            for number in range(lowest)
        ]
        levels: list[list[EngineProcess]] = []
        while True:
            names = [f"level-{depth - len(levels)}-{number}" for number in range(len(tables))]
            made = [
                stack.enter_context(bench.engine(truth + table, name=name))
                for name, table in zip(names, tables, strict=True)
            ]
            levels.insert(0, made)
            if len(made) == 1:
                break
            nodes = [region_table(engine, name=engine.folder.name) for engine in made]
            tables = ["".join(nodes[place : place + 2]) for place in range(0, len(nodes), 2)]
        for engine in [engine for level in levels for engine in level]:
            for node in engine.get("/v1/engine/nodes")["nodes"]:
                wait_state(engine, node["name"], "ready")
        yield levels


def _loads(bench: Bench, levels: list[list[EngineProcess]]) -> Iterator[Figure]:
    for urls, tasks in ((_URLS, 100), (1, 2000)):
        count = tasks // (10 if bench.is_quick else 1)
        _hand_in(levels[0][0], f"w{urls}", tasks=max(10, count // 10), urls=urls)
        sides = [Side() for _ in levels]
        rates = []
        for turn in range(bench.rounds):
            clocks = [Clock(*(engine.pid for engine in level)) for level in levels]
            rates.append(LEAVES * _hand_in(levels[0][0], f"l{urls}-{turn}", tasks=count, urls=urls))
            for clock, side in zip(clocks, sides, strict=True):
                clock.stop(side)
        purges = LEAVES * urls * count * bench.rounds
        own = [side.cpu_s / purges * 1e6 for side in sides]
        case = f"tasks of {urls} URL{'s' if urls > 1 else ''} on {LEAVES} caches"
        rate = sorted(rates)[len(rates) // 2]
        yield Figure("tree", case, rate, "leaf purges/s")
        yield Figure(
            "tree, CPU",
            case,
            sum(own),
            "us a leaf purge",
            cpu_s=sum(side.cpu_s for side in sides),
            peak_rss_bytes=max(side.peak_rss_bytes for side in sides),
            spread=", ".join(f"{level}: {short(each)}" for level, each in enumerate(own, 1))
            + " by level, the root's first",
        )


def _hand_in(engine: EngineProcess, name: str, *, tasks: int, urls: int) -> float:
    """Hand tasks in, and wait until all are done; return targets a second."""
    before = _done(engine)
    lines = [
        b'{"targets":[%b]}'
        % b",".join(
            b'"http://%b/%b/%d/%d"' % (HOST.encode(), name.encode(), task, place) for place in range(urls)
        )
        for task in range(tasks)
    ]
    began = time.perf_counter()
    for place in range(0, tasks, 100):
        status, _, text = engine.request("POST", "/v1/engine/tasks", b"\n".join(lines[place : place + 100]))
        assert status == 200, text[:300]
        assert b'"status"' not in text, text[:300]
    wait_until(lambda: _done(engine) - before == tasks, what="all being done", timeout_s=240)
    took_s = time.perf_counter() - began
    wait_until_idle(engine)
    return tasks * urls / took_s


def _done(engine: EngineProcess) -> int:
    return counted(engine, "tasks_done")


def _times(bench: Bench, root: EngineProcess) -> Iterator[Figure]:
    count = 30 if bench.is_quick else 300
    for case, fields in (("done", {}), ("fresh", {"verify": True})):
        _purged(root, count=10, **fields)
        took = _purged(root, count=count, **fields)
        p50, p99 = percentiles(took)
        unit = f"ms p50 to {case}"
        yield Figure("tree, time", f"one URL on {LEAVES} caches, idle", p50, unit, spread=f"p99 {p99:.2f}")


def _purged(root: EngineProcess, *, count: int, **fields: Any) -> list[float]:
    """Purge one URL after the other; return the seconds from each POST to what is asked of all leaves."""
    took = []
    for number in range(count):
        task = root.wait_for(root.submit([f"http://{HOST}/t/{number}"], **fields))
        assert task["state"] == "done", task
        took.append(float(task["updated_at"]) - float(task["created_at"]))
    return took

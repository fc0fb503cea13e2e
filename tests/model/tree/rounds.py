"""Rounds of storms in a tree, each with the next seed; or one in which a region is cut off for long."""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from release.lab.caches import available
from tests.model.figures import Figures
from tests.model.fleet.network import Network, needs, run_inside
from tests.model.fleet.rounds import inside, kept
from tests.model.tree.broken import BROKEN
from tests.model.tree.places import LEAVES
from tests.model.tree.storm import TreeStorm
from tests.model.tree.timetable import draw, one_cut
from tests.rigs.memory import MEMORY
from tests.rigs.redis_servers import has_redis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.model.tree.timetable import Track

_STORM_S: Final = 40.0
_STORM_MIN_S: Final = 10.0
_BEFORE_CUT_S: Final = 5.0
_AFTER_CUT_S: Final = 10.0
_SHOWN: Final = 5
_BROKEN_ROUNDS: Final = 4


def missing() -> str:
    """Return what is missing for a tree; empty: nothing."""
    servers = sorted({*LEAVES.values()} - {*available()})
    return needs() or ("" if has_redis() else "redis-server is missing") or ", ".join(servers)


def begin(argv: Sequence[str]) -> int:
    """Run *argv* in a network of its own; return its exit code."""
    if what := missing():
        sys.exit(f"a tree of real engines and caches: {what}")
    return run_inside(argv)


def go_on(*, number: int, minutes: float, faults: frozenset[str]) -> int:
    """Make rounds for so many minutes; return 0 when no rule was broken, otherwise 1."""
    network, figures = inside(), Figures()
    until = time.monotonic() + minutes * 60
    while (left_s := until - time.monotonic()) > 0:
        seconds = min(_STORM_S, max(_STORM_MIN_S, left_s * 0.6))
        if one(draw(number, faults, seconds), number, network, figures, seconds=seconds):
            return 1
        number += 1
    return 0


def cut(seconds: float, *, number: int) -> int:
    """Cut a region off for so long, under load; return 0 when no rule was broken, otherwise 1."""
    tracks = one_cut(_BEFORE_CUT_S, seconds)
    whole_s = _BEFORE_CUT_S + seconds + _AFTER_CUT_S
    return 1 if one(tracks, number, inside(), Figures(), seconds=whole_s) else 0


def find_broken(rules: Sequence[str], *, number: int) -> int:
    """Break each of *rules*, and find that; return how many were not found."""
    network, missed = inside(), 0
    for name in rules:
        broken = BROKEN[name]
        found: list[str] = []
        rounds = 0
        while not found and rounds < _BROKEN_ROUNDS:
            tracks = draw(number + rounds, broken.faults, _STORM_MIN_S)
            found = one(tracks, number + rounds, network, Figures(), seconds=_STORM_MIN_S, broken=name)
            rounds += 1
        missed += not found
        said = found[0].partition("\n")[0][:200] if found else "not found"
        print(f"{broken.rule}: {rounds} rounds: {said}", flush=True)
    return missed


def one(
    tracks: Sequence[Track],
    number: int,
    network: Network,
    figures: Figures,
    *,
    seconds: float,
    broken: str = "",
) -> list[str]:
    """Make one round; return what was broken, which is printed too, with all that led to it."""
    figures.runs += 1
    figures.steps += sum(map(len, tracks))
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)

        async def run() -> TreeStorm:
            storm = TreeStorm(tracks, number, network, folder, figures, seconds=seconds, broken=broken)
            try:
                await storm.run()
            finally:
                await storm.close()
                (folder / "trace").write_text("\n".join(storm.trace))
            return storm

        try:
            storm = asyncio.run(run())
        except BaseException:
            print(f"the logs are kept: {kept(folder, number)}", flush=True)
            raise
        found = storm.rules.found
        figures.violations += len(found)
        if found:
            (folder / "broken").write_text("\n".join(found))
            for what in found[:_SHOWN]:
                print(f"seed {number}: {what}\n")
            print(f"the logs are kept: {kept(folder, number)}", flush=True)
    print(f"seed {number}: {len(found) or 'no'} rules broken; {_said(storm)}; so far {figures}", flush=True)
    if len(storm.windows) and "clock" not in figures.faults and figures.faults["cut off"]:
        print(_said_of_cut(storm), flush=True)
    return found


def _said_of_cut(storm: TreeStorm) -> str:
    """Tell how long after the end of a cut the last task was done that came before that."""
    ended_at = next((one.ended_at for one in storm.windows if one.kind == "cut off"), 0.0)
    before = [one for one in storm.all_records() if one.sent_at < ended_at and one.document["settled_at"]]
    last = max((one.document["settled_at"] for one in before), default=0.0)
    took_s = last - storm.wall_of(ended_at)
    return f"{len(before)} tasks came before the end of the cut; the last was settled {took_s:.1f} s after it"


def _said(storm: TreeStorm) -> str:
    ordered = sorted(storm.done_after_s) or [0.0]
    half, most = (ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        f"done after p50 {half:.2f} s, p99 {most:.2f} s; the last one {storm.settled_after_s:.1f} s after "
        f"the end; CPU of engines and caches {used.ru_utime + used.ru_stime:.0f} s"
    )

"""What came of a round, when everything has been well for a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from tests.model.fleet.reasons import ONCE, reason, repeats

if TYPE_CHECKING:
    from tests.model.fleet.storm import Storm

_TOLD_LIMIT: Final = 100  #: times that engines are asked for a task
_EMPTY_LIMIT: Final = 150  #: times that an engine is asked whether the journal is empty
_PAUSE_S: Final = 0.1


async def judge(storm: Storm) -> None:
    """Write down each rule that was broken, and count."""
    rules = storm.rules
    await _see_all(storm)
    lost = [rules.records[name] for name in sorted(storm.clients.missing)]
    for record in lost:
        rules.fail(f"lost: {record}")
    rules.is_end = True
    rules.check_all_objects()
    rules.check_pauses()
    rules.check_end(gone=set(), changed=set())
    await _judge_engines(storm)
    storm.figures.seen["lost"] += len(lost)
    storm.figures.seen["falsely done"] += sum("was never" in what for what in rules.found)
    _count(storm)


async def _see_all(storm: Storm) -> None:
    """Ask for every task once more, also for those that were over: they are so for ever."""
    for record in storm.rules.records.values():
        for _ in range(_TOLD_LIMIT):
            if await storm.clients.see(record):
                break
            await asyncio.sleep(_PAUSE_S)
        else:
            storm.rules.fail(f"no engine tells of {record}")
            return


async def _judge_engines(storm: Storm) -> None:
    for engine in storm.engines:
        log = engine.log()
        if not engine.is_up:
            storm.rules.fail(f"{engine.name} has ended by itself: {log[-3000:]}")
        for line in log.splitlines():
            if "Traceback" not in line:
                continue
            if storm.old is not None and f"{storm.old}/" in line:
                storm.figures.seen["errors of the version before"] += 1  # which has been mended since
            else:
                storm.rules.fail(f"{engine.name} logged an error:\n{line[:3500]}")
                break
    if storm.rules.found:
        return
    shown: dict[str, Any] = {}
    for _ in range(_EMPTY_LIMIT):
        shown = await asyncio.to_thread(storm.engines[0].get, "/v1/engine/cluster")
        if not any(one["pending"] for one in shown["engines"]):
            return
        await asyncio.sleep(_PAUSE_S)
    storm.rules.fail(f"all tasks are over, and the journal has entries: {shown}")


def _count(storm: Storm) -> None:
    seen, again = storm.figures.seen, storm.figures.again
    for record in storm.rules.records.values():
        seen[f"tasks {record.document.get('state', 'accepted')}"] += 1
        seen["settled"] += record.is_over
    seen["objects checked"] += storm.rules.checks
    for cache in storm.caches.values():
        seen["purges at caches"] += len(cache.acts)
        seen["purges to come once"] += sum(act.target.startswith(ONCE) for act in cache.acts)
        parents = [parent.name for parent in cache.parents]
        for one, two in repeats(cache):
            why = reason(cache.name, parents, (one, two), storm.windows, storm.name_of)
            again[why or "unexplained"] += 1
            if not why:
                by = f"{storm.name_of(one.by)}, {storm.name_of(two.by)}"
                storm.note(
                    f"unexplained: {cache.name} {one.target} by {by}, at {storm.at(one.at):.3f} and "
                    f"{two.at - one.at:.3f} s later"
                )

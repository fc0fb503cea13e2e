"""What came of a round, when everything has been well for a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tests.model.fleet.reasons import ONCE
from tests.model.tree.reasons import reason, repeats

if TYPE_CHECKING:
    from tests.model.tree.storm import TreeStorm

_TOLD_LIMIT: Final = 50  #: times that the root is asked for a task
_EMPTY_LIMIT_S: Final = 60.0  #: until no engine has rows
_PAUSE_S: Final = 0.2


async def judge(storm: TreeStorm) -> None:
    """Write down each rule that was broken, and count."""
    await _see_all(storm)
    storm.rules.check_end(gone=set(), changed=set())
    await _judge_engines(storm)
    seen = storm.figures.seen
    for record in storm.rules.records.values():
        seen[f"tasks {record.document.get('state', 'accepted')}"] += 1
    seen["pages of caches checked"] += storm.rules.checks
    seen["falsely done"] += sum("was never" in what or "serves" in what for what in storm.rules.found)
    for leaf, cache in storm.caches.items():
        seen["purges at caches"] += sum(url.startswith(ONCE) for _, url in cache.acts)
        for first_at, again_at in repeats(cache):
            why = reason(cache, first_at, again_at, storm.windows)
            storm.figures.again[why or "unexplained"] += 1
            if not why:
                storm.note(
                    f"unexplained: {leaf} at {storm.at(first_at):.3f} and {again_at - first_at:.3f} s later"
                )
    if storm.figures.again["unexplained"]:
        storm.rules.fail("purges came twice, and no fault explains it")


async def _see_all(storm: TreeStorm) -> None:
    """Ask for every task once more, also for those that were over: they are so for ever."""
    for record in storm.all_records():
        for _ in range(_TOLD_LIMIT):
            if await storm.clients.see(record):
                break
            await asyncio.sleep(_PAUSE_S)
        else:
            storm.rules.fail(f"the root does not tell of {record}")
            return
    await storm.clients.end()


async def _judge_engines(storm: TreeStorm) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + _EMPTY_LIMIT_S
    for engine in storm.engines.values():
        log = engine.log()
        if not engine.is_up:
            storm.rules.fail(f"{engine.name} has ended by itself: {log[-3000:]}")
            continue
        errors = [line for line in log.splitlines() if "Traceback" in line]
        if errors:
            storm.rules.fail(f"{engine.name} logged {len(errors)} errors:\n{errors[0][:3500]}")
        while True:
            nodes = (await asyncio.to_thread(engine.get, "/v1/engine/nodes"))["nodes"]
            left = {node["name"]: node["delayed"] for node in nodes if node["delayed"]}
            if not left or loop.time() > until:
                break
            await asyncio.sleep(_PAUSE_S)
        if left:
            storm.rules.fail(f"all tasks are over, and {engine.name} has rows: {left}")

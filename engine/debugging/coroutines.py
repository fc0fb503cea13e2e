"""The tasks of the loop, and what each waits for; those at one place together."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Final

import msgspec

from engine.debugging.stacks import chain_of

_TURN_S: Final = 0.005  #: that the loop is kept busy at a time
_NAMES_MAX: Final = 5


class DebugTaskGroup(msgspec.Struct):
    """Tasks of the loop that wait at one place."""

    count: int
    waits_for: str
    stack: Annotated[list[str], msgspec.Meta(description="the outermost call first")]
    names: Annotated[list[str], msgspec.Meta(description="the first of them")]


class DebugTasksOfWorker(msgspec.Struct):
    """The tasks of one worker's loop, the largest group first."""

    worker: str
    pid: int
    count: int
    groups: list[DebugTaskGroup]


async def look() -> tuple[int, list[DebugTaskGroup]]:
    """Return how many tasks the loop has, and where they are; the one that looks is left out."""
    groups: dict[tuple[str, ...], DebugTaskGroup] = {}
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    until = time.perf_counter() + _TURN_S
    for task in tasks:
        stack, waits_for = chain_of(task.get_coro()), _waits_of(task)
        key = (*stack, waits_for)
        group = groups.get(key)
        if group is None:
            group = groups[key] = DebugTaskGroup(0, waits_for, stack, [])
        group.count += 1
        if len(group.names) < _NAMES_MAX:
            group.names.append(task.get_name())
        if time.perf_counter() > until:
            await asyncio.sleep(0)
            until = time.perf_counter() + _TURN_S
    return len(tasks), sorted(groups.values(), key=lambda group: -group.count)


def _waits_of(task: asyncio.Task[Any]) -> str:
    if task.done():
        return ""
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None:
        return "its turn"
    if isinstance(waiter, asyncio.Task):
        return "another task"
    stack = chain_of(task.get_coro())
    inner = stack[-1] if stack else ""
    for what, place in _AWAITS.items():
        if place in inner:
            return what
    return "several of them" if type(waiter).__name__ == "_GatheringFuture" else "a future"


_AWAITS: Final = {
    "a pause": "sleep (asyncio/tasks.py",
    "an event": "Event.wait (asyncio/locks.py",
    "a lock": "Lock.acquire (asyncio/locks.py",
    "other tasks": "_wait (asyncio/tasks.py",
    "a queue that is empty": "Queue.get (asyncio/queues.py",
    "bytes of a connection": "StreamReader._wait_for_data (asyncio/streams.py",
    "the next request of a connection": "RequestHandler.start (aiohttp/",
}

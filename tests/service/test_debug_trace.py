"""The trace of the garbage collector, in an engine inside the test's loop."""

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from engine.api import debug_trace
from tests.rigs.engine_in_loop import run, running
from tests.waiting import until

COUNT = 1200  #: lines, of which 1000 may wait


@contextlib.asynccontextmanager
async def traced(port: int, seconds: float) -> AsyncIterator[asyncio.StreamReader]:
    """Read a trace that has begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /v1/engine/debug/gc/trace?seconds=%g HTTP/1.0\r\nHost: a\r\n\r\n" % seconds)
        await reader.readuntil(b"\r\n\r\n")
        yield reader
    finally:
        writer.close()


def coroutines() -> dict[asyncio.Task[Any], Any]:
    return {task: task.get_coro() for task in asyncio.all_tasks()}


def parts() -> list[Any]:
    """Return the parts of traces that go on."""
    codes = [getattr(coroutine, "cr_code", None) for coroutine in coroutines().values()]
    return [code for code in codes if code and code.co_filename == debug_trace.__file__]


def test_lines_that_a_trace_has_no_room_for_are_counted_at_its_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as (_, port), traced(port, 0.5) as reader:
            for _ in range(COUNT):  # in one turn of the loop: nothing is written meanwhile
                gc.collect(0)
            *lines, last = (await reader.read(-1)).splitlines()
            assert 1000 <= len(lines) < COUNT
            count, _, why = json.loads(last)["why"].partition(" ")
            assert int(count) >= COUNT - len(lines)
            assert why == "lines are missing, not read in time"

    run(scenario)


def test_a_trace_that_is_cancelled_leaves_nothing_at_work(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as (_, port), traced(port, 60):
            assert parts()
            for task, coroutine in coroutines().items():
                if coroutine.__qualname__ == "RequestHandler.start":
                    task.cancel()
            await until(lambda: not parts(), timeout_s=5)
            assert not [one for one in gc.callbacks if getattr(one, "__module__", "").startswith("engine.")]

    run(scenario)

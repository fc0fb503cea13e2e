"""Where memory is allocated: tracemalloc, for a while, and off again whatever happens.

It notes each allocation while it is on, which makes all that allocates slower; docs/debug.md says how much.
To be read it stops the process, longer with each block, so it ends early when it has noted very many.
"""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from typing import Final

from engine.debugging.heap import DebugAllocated, DebugTrace
from engine.debugging.stacks import file_of
from engine.errors import RequestError

_OWN_MAX_BYTES: Final = 16 * 1024 * 1024  #: some 200,000 blocks
_LOOK_S: Final = 0.1


async def trace(seconds: float, top: int) -> DebugTrace:
    """Trace for so long, and return the lines that have allocated most of what is still there.

    Raises:
        RequestError: 409, somebody else traces (``PYTHONTRACEMALLOC``).
    """
    if tracemalloc.is_tracing():
        raise RequestError(409, "tracemalloc is on already (PYTHONTRACEMALLOC)")
    began = time.perf_counter()
    own_bytes = 0
    tracemalloc.start(1)
    try:
        while (left_s := began + seconds - time.perf_counter()) > 0 and own_bytes < _OWN_MAX_BYTES:
            await asyncio.sleep(min(_LOOK_S, left_s))
            own_bytes = tracemalloc.get_tracemalloc_memory()
        traced_s = time.perf_counter() - began
        reading = time.perf_counter()
        snapshot = tracemalloc.take_snapshot()
        pause_s = time.perf_counter() - reading
    finally:
        tracemalloc.stop()
    lines = await asyncio.to_thread(snapshot.statistics, "lineno")
    return DebugTrace(
        round(traced_s, 3),
        sum(line.count for line in lines),
        sum(line.size for line in lines),
        own_bytes,
        own_bytes >= _OWN_MAX_BYTES,
        round(pause_s * 1000, 3),
        [
            DebugAllocated(
                f"{file_of(line.traceback[0].filename)}:{line.traceback[0].lineno}", line.count, line.size
            )
            for line in lines[:top]
        ],
    )

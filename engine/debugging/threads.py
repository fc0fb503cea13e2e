"""The threads of this process: where each is, and what it waits for.

Two looks a moment apart, from a thread of their own: one that has used no CPU in between, at the same
instruction, waits. Thread ids are those of the kernel (``top -H``, ``py-spy``).
"""

from __future__ import annotations

import asyncio
import linecache
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from engine.debugging.stacks import file_of, stack_of
from engine.debugging.stacks import frames as current_frames

if TYPE_CHECKING:
    from types import FrameType

_APART_S: Final = 0.03
_IDLE_S: Final = 0.0015  #: of CPU between two looks
_BEFORE_S: Final = 0.005  #: for the turn of the loop that asks
SELECT: Final = "sockets and timers"
_WAITS: Final = {
    ("asyncio/runners.py", "run"): SELECT,  # uvloop: what stands below it is no Python
    ("asyncio/base_events.py", "run_forever"): SELECT,
    ("selectors.py", "select"): SELECT,
    ("concurrent/futures/thread.py", "_worker"): "work: an idle thread of a pool",
    ("threading.py", "_wait_for_tstate_lock"): "the end of another thread",
    ("threading.py", "wait"): "an event or condition",
    ("queue.py", "get"): "a queue that is empty",
    ("queue.py", "put"): "a queue that is full",
}


class DebugThread(msgspec.Struct):
    """One thread."""

    name: str
    thread_id: Annotated[int, msgspec.Meta(description="the kernel's")]
    state: Literal["works", "waits"]
    waits_for: Annotated[str, msgspec.Meta(description="as far as it can be told; empty: it works")]
    cpu_s: Annotated[float, msgspec.Meta(description="that it has used since its start")]
    stack: Annotated[list[str], msgspec.Meta(description="the outermost call first")]


class DebugThreadsOfWorker(msgspec.Struct):
    """The threads of one worker, busiest first."""

    worker: str
    pid: int
    threads: list[DebugThread]


def cpu_s(thread_id: int) -> float:
    """Return the seconds of CPU that a thread of this process has used; 0: it is gone.

    The kernel's number of a thread's clock is made from its id, as glibc does; `time.pthread_getcpuclockid`
    crashes the process when the thread has just ended.
    """
    try:
        return time.clock_gettime((~thread_id << 3) | 6)
    except OSError:
        return 0.0


def is_in_loop(frame: FrameType) -> bool:
    """Tell whether a thread is in its loop's own code: it waits for sockets and timers, or uses them."""
    return waits_of(frame) == SELECT


def waits_of(frame: FrameType) -> str:
    """Return what a thread waits for that stands in *frame*; empty: its code does not tell."""
    return _waits_in(frame.f_code.co_filename, frame.f_code.co_name)


@lru_cache(4096)
def _waits_in(file: str, function: str) -> str:
    name = file_of(file)
    waits = (what for (where, who), what in _WAITS.items() if function == who and name.endswith(where))
    return next(waits, "")


async def look() -> list[DebugThread]:
    """Return the threads, busiest first; without the one that looks."""
    return await asyncio.to_thread(_look)


def _look() -> list[DebugThread]:
    time.sleep(_BEFORE_S)
    own = threading.get_ident()
    known = {thread.ident: thread for thread in threading.enumerate() if thread.ident != own}
    before = {ident: cpu_s(thread.native_id or 0) for ident, thread in known.items()}
    places = {ident: (id(frame), frame.f_lasti) for ident, frame in current_frames().items()}
    time.sleep(_APART_S)
    frames = current_frames()
    found: list[tuple[float, DebugThread]] = []
    for ident, thread in known.items():
        frame = frames.get(ident or 0)
        if frame is None:
            continue
        used_s = cpu_s(thread.native_id or 0)
        is_same = places.get(ident or 0) == (id(frame), frame.f_lasti)
        is_idle = is_same and used_s - before[ident] < _IDLE_S
        shown = DebugThread(
            thread.name,
            thread.native_id or 0,
            "waits" if is_idle else "works",
            (waits_of(frame) or _call_of(frame)) if is_idle else "",
            round(used_s, 3),
            stack_of(frame),
        )
        found.append((used_s - before[ident], shown))
    found.sort(key=lambda each: (-each[0], -each[1].cpu_s))
    return [shown for _, shown in found]


def _call_of(frame: FrameType) -> str:
    """Return the line of the source that a thread stands in."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return f"a call: {line}" if line else "a call"

"""A profile: where the threads are, looked at so many times a second by a thread of its own.

Whether a thread works where it is seen, or waits there, is told by the CPU that it has used: each look gives
it credit for as much, and a look at which it works takes one. So the looks that find a thread at work are as
many as it has used CPU. The thread of a loop is known better: in a callback it never waits but for the
interpreter (the GIL) or for a core, which is `DebugSampled.held_up_s`; and out of one it selects, or does the
loop's own work. How late the sampler comes to run says how long any thread waits for the interpreter: the
sampler needs it, too.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from engine.debugging.spread import DebugSpread, Spread
from engine.debugging.stacks import DEPTH_MAX, file_of, frames
from engine.debugging.threads import cpu_s, is_in_loop

if TYPE_CHECKING:
    from types import CodeType, FrameType

STACKS_MAX: Final = 10_000  #: different ones that are kept apart; the others are counted together
_WORKS, _SELECTS, _WAITS = range(3)
_WORDS: Final = ("works", "selects", "waits")
_CREDIT_MAX: Final = 2.0

Key = tuple[int, int, "tuple[CodeType, ...]"]


class DebugSampled(msgspec.Struct):
    """One thread of a profile; seconds are of the profile's, as its samples tell unless said otherwise."""

    name: str
    thread_id: int
    samples: int
    cpu_s: Annotated[float, msgspec.Meta(description="as the kernel tells")]
    works_s: float
    held_up_s: Annotated[
        float | None,
        msgspec.Meta(
            description="of these without CPU: waited for the interpreter (GIL), or for a core; null: it "
            "has no loop, and that cannot be told"
        ),
    ]
    selects_s: Annotated[float, msgspec.Meta(description="waited in the select of its loop")]
    waits_s: Annotated[float, msgspec.Meta(description="waited in other calls")]


class DebugStack(msgspec.Struct):
    """A stack, and how often a thread was there."""

    thread: str
    state: str
    count: int
    frames: Annotated[list[str], msgspec.Meta(description="functions, the outermost first")]


class DebugProfileOfWorker(msgspec.Struct):
    """The profile of one worker."""

    worker: str
    pid: int
    seconds: float
    rate: float
    samples: Annotated[int, msgspec.Meta(description="looks that were taken")]
    missed: Annotated[int, msgspec.Meta(description="looks for which the sampler came too late")]
    cost_s: Annotated[float, msgspec.Meta(description="CPU of the sampler")]
    lag: Annotated[
        DebugSpread,
        msgspec.Meta(
            description="from the time of a look to the look: the wait for the interpreter and a core"
        ),
    ]
    threads: list[DebugSampled]
    stacks: Annotated[list[DebugStack], msgspec.Meta(description="the most frequent first")]
    left_out: Annotated[int, msgspec.Meta(description="samples of stacks that were too many")]


class _Seen:
    """What is known of one thread."""

    __slots__ = ("codes", "counts", "cpu_s", "credit", "first_cpu_s", "has_loop", "last", "name", "native_id")

    def __init__(self, name: str, native_id: int) -> None:
        self.name = name
        self.native_id = native_id
        self.cpu_s = self.first_cpu_s = cpu_s(native_id)
        self.counts = [0, 0, 0]
        self.credit = 0.0
        self.has_loop = False
        self.last = (0, 0)  # frame, instruction
        self.codes: tuple[CodeType, ...] = ()

    def codes_of(self, frame: FrameType) -> tuple[CodeType, ...]:
        """Return the functions of its stack, the innermost first; walked again when it has moved."""
        last = (id(frame), frame.f_lasti)
        if last != self.last:
            self.last, self.codes = last, _codes(frame)
        return self.codes

    def state(self, frame: FrameType, since_s: float) -> int:
        """Return what it does, *since_s* after the look before."""
        used_s = cpu_s(self.native_id) or self.cpu_s  # 0: it has just ended
        self.credit = min(_CREDIT_MAX, self.credit + (used_s - self.cpu_s) / since_s)
        self.cpu_s = used_s
        is_selecting = is_in_loop(frame)
        self.has_loop = self.has_loop or is_selecting
        if self.credit >= 1 or (self.has_loop and not is_selecting):
            self.credit = max(0.0, self.credit - 1)
            return _WORKS
        return _SELECTS if is_selecting else _WAITS


class Sampler:
    """Takes looks until it is stopped.

    Args:
        rate: a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._interval_s = 1 / rate
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="debug-profile", daemon=True)
        self._seen: dict[int, _Seen] = {}  # by `threading.get_ident`
        self._counts: Counter[Key] = Counter()
        self._left_out = self._samples = self._missed = 0
        self._lag = Spread()
        self._began_at = self._ended_at = self._looked_at = self._cost_s = 0.0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; the last look is being taken."""
        self._is_over.set()

    async def document(self, worker: str, pid: int) -> DebugProfileOfWorker:
        """Return what was seen, after the end; a thread writes it down."""
        return await asyncio.to_thread(self._document, worker, pid)

    def _run(self) -> None:
        self._began_at = due_at = self._looked_at = time.perf_counter()
        while not self._is_over.wait(max(0.0, due_at - time.perf_counter())):
            now = time.perf_counter()
            self._lag.add(max(0.0, now - due_at))
            self._look(frames(), now)
            due_at += self._interval_s
            late = int((now - due_at) / self._interval_s)
            if late > 0:
                self._missed += late
                due_at += late * self._interval_s
        self._ended_at = time.perf_counter()
        self._cost_s = time.thread_time()

    def _look(self, places: dict[int, FrameType], now: float) -> None:
        self._samples += 1
        since_s, self._looked_at = max(now - self._looked_at, 1e-6), now
        own = threading.get_ident()
        for ident, frame in places.items():
            if ident == own:
                continue
            seen = self._seen.get(ident)
            if seen is None:
                seen = self._seen[ident] = _new(ident)
            state = seen.state(frame, since_s)
            seen.counts[state] += 1
            key = (ident, state, seen.codes_of(frame))
            if key in self._counts or len(self._counts) < STACKS_MAX:
                self._counts[key] += 1
            else:
                self._left_out += 1

    def _document(self, worker: str, pid: int) -> DebugProfileOfWorker:
        self._thread.join()
        seconds = self._ended_at - self._began_at
        each_s = seconds / max(1, self._samples)
        return DebugProfileOfWorker(
            worker,
            pid,
            round(seconds, 3),
            self._rate,
            self._samples,
            self._missed,
            round(self._cost_s, 4),
            self._lag.document(),
            [_thread(seen, each_s) for seen in sorted(self._seen.values(), key=_used_s, reverse=True)],
            [
                DebugStack(
                    self._seen[ident].name, _WORDS[state], count, [_name(code) for code in reversed(codes)]
                )
                for (ident, state, codes), count in self._counts.most_common()
            ],
            self._left_out,
        )


def _new(ident: int) -> _Seen:
    thread: Any = next((thread for thread in threading.enumerate() if thread.ident == ident), None)
    return _Seen(f"thread-{ident}" if thread is None else thread.name, getattr(thread, "native_id", 0) or 0)


def _codes(frame: FrameType | None) -> tuple[CodeType, ...]:
    """Return the functions of a stack, the innermost first."""
    codes: list[CodeType] = []
    while frame is not None and len(codes) < DEPTH_MAX:
        codes.append(frame.f_code)
        frame = frame.f_back
    return tuple(codes)


def _name(code: CodeType) -> str:
    return f"{code.co_qualname} ({file_of(code.co_filename)}:{code.co_firstlineno})"


def _used_s(seen: _Seen) -> float:
    return seen.cpu_s - seen.first_cpu_s


def _thread(seen: _Seen, each_s: float) -> DebugSampled:
    works_s, selects_s, waits_s = (round(count * each_s, 3) for count in seen.counts)
    used_s = _used_s(seen)
    return DebugSampled(
        seen.name,
        seen.native_id,
        sum(seen.counts),
        round(used_s, 3),
        works_s,
        round(max(0.0, works_s - used_s), 3) if seen.has_loop else None,
        selects_s,
        waits_s,
    )

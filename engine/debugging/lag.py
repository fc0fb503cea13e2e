"""The lag of the loop, and the callbacks that keep it busy for long.

The loop is asked to call back every `_TICK_S`: how late it does is its lag. A thread looks at that from
outside, and when the loop is late by more than the threshold it notes where the loop's thread is: that is the
callback that keeps everybody waiting. No callback is timed by itself, so none costs more than before.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from engine.debugging.spread import DebugSpread, Spread
from engine.debugging.stacks import frames, stack_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_TICK_S: Final = 0.01
_LOOKS: Final = 4  #: at the loop's thread, in the time of the threshold
_SLOW_MAX: Final = 200
_UNSEEN: Final = ("not seen: it held the interpreter throughout",)


class DebugSlow(msgspec.Struct):
    """A place that kept the loop busy for longer than the threshold."""

    count: int
    longest_ms: float
    sum_ms: float
    stack: Annotated[list[str], msgspec.Meta(description="the outermost call first")]


class DebugLoopOfWorker(msgspec.Struct):
    """The loop of one worker."""

    worker: str
    pid: int
    loop: str
    seconds: float
    threshold_ms: float
    lag: Annotated[DebugSpread, msgspec.Meta(description="of a timer of 10 ms; the clock of uvloop has 1 ms")]
    slow: Annotated[list[DebugSlow], msgspec.Meta(description="what took most in all comes first")]
    slow_left_out: Annotated[int, msgspec.Meta(description="of places that are too many")]


class LagWatch:
    """Watches the running loop until it is stopped.

    Args:
        threshold_s: what keeps the loop busy for longer is slow.
    """

    def __init__(self, threshold_s: float) -> None:
        self._threshold_s = threshold_s
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._lag = Spread()
        self._due_at = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self._seen: Counter[tuple[str, ...]] = Counter()  # since the loop is late
        self._slow: dict[tuple[str, ...], DebugSlow] = {}
        self._left_out = 0
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="debug-loop", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._arm()
        self._watcher.start()

    def stop(self) -> None:
        """End."""
        self._is_over.set()
        if self._handle is not None:
            self._handle.cancel()

    @property
    def lag(self) -> DebugSpread:
        """How late the loop was."""
        return self._lag.document()

    def slow(self) -> tuple[list[DebugSlow], int]:
        """Return the places that were slow, and how many there were no room for."""
        return sorted(self._slow.values(), key=lambda place: -place.sum_ms), self._left_out

    def _arm(self) -> None:
        self._due_at = time.perf_counter() + _TICK_S
        self._handle = self._loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        late_s = max(0.0, time.perf_counter() - self._due_at)
        self._lag.add(late_s)
        seen, self._seen = self._seen, Counter()
        if late_s > self._threshold_s:
            self._note(seen.most_common(1)[0][0] if seen else _UNSEEN, late_s * 1000)
        self._arm()

    def _note(self, stack: Sequence[str], late_ms: float) -> None:
        key = tuple(stack)
        place = self._slow.get(key)
        if place is None:
            if len(self._slow) >= _SLOW_MAX:
                self._left_out += 1
                return
            place = self._slow[key] = DebugSlow(0, 0.0, 0.0, list(stack))
        place.count += 1
        place.sum_ms = round(place.sum_ms + late_ms, 3)
        place.longest_ms = round(max(place.longest_ms, late_ms), 3)

    def _watch(self) -> None:
        """Look at the loop's thread while it is late. The watcher's whole life."""
        while not self._is_over.wait(self._threshold_s / _LOOKS):
            due_at, seen = self._due_at, self._seen
            if time.perf_counter() - due_at > self._threshold_s / 2:
                stack = _below_loop(stack_of(frames().get(self._loop_thread)))
                if due_at == self._due_at:  # else it is on time again
                    seen[stack] += 1


def _below_loop(stack: list[str]) -> tuple[str, ...]:
    """Return the part of a stack that the loop has called."""
    places = range(len(stack) - 1, -1, -1)
    at = next((number for number in places if "asyncio/runners.py" in stack[number]), -1)
    return tuple(stack[at + 1 :] or stack[-1:])

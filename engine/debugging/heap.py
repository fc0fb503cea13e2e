"""What is in memory, by type: counted by a walk from what everything hangs on, some milliseconds at a time.

The garbage collector could list its objects at once, but that stops the process, and the list has neither
texts and numbers nor what is frozen. So the walk goes from the modules, the stacks and the loop's tasks along
all references (`gc.get_referents`), in turns of `_TURN_S`, with twice as much time for the loop in between.
What changes meanwhile may be counted or not; what only C code holds is not found.

Whether an object was seen is a byte for each 16 bytes of the address space that objects are in.
"""

from __future__ import annotations

import asyncio
import builtins
import gc
import sys
import threading
import time
from collections import Counter
from typing import Annotated, Any, Final

import msgspec

from engine.debugging.collector import rss_bytes
from engine.debugging.stacks import frames

_TURN_S: Final = 0.005
_REST_S: Final = 0.01
_LOOK_EVERY: Final = 64  #: objects, at the clock
_PAGE_BITS: Final = 16
_SLOT_BITS: Final = 4  #: objects begin at multiples of 16
_SLOTS: Final = 1 << (_PAGE_BITS - _SLOT_BITS)
_MASK: Final = _SLOTS - 1


class DebugType(msgspec.Struct):
    """The objects of one type."""

    type: str
    count: int
    bytes: Annotated[int, msgspec.Meta(description="of the objects themselves, without what they refer to")]
    count_grown: Annotated[int, msgspec.Meta(description="since the first look; 0: there was one alone")] = 0
    bytes_grown: int = 0


class DebugAllocated(msgspec.Struct):
    """A line of the source, and what it has allocated since the trace began that is still there."""

    place: str
    count: int
    bytes: int


class DebugTrace(msgspec.Struct):
    """What tracemalloc saw."""

    seconds: float
    blocks: int
    bytes: int
    own_bytes: Annotated[int, msgspec.Meta(description="that the trace itself took")]
    is_full: Annotated[bool, msgspec.Meta(description="it ended early, because it took too much itself")]
    pause_ms: Annotated[float, msgspec.Meta(description="for which reading it stopped the worker")]
    lines: Annotated[list[DebugAllocated], msgspec.Meta(description="the most bytes first")]


class DebugHeapOfWorker(msgspec.Struct):
    """What one worker has in memory."""

    worker: str
    pid: int
    rss_bytes: Annotated[int, msgspec.Meta(description="memory of the process, by the kernel")]
    objects: int
    bytes: Annotated[int, msgspec.Meta(description="of these objects")]
    walk_s: Annotated[float, msgspec.Meta(description="that the last look took")]
    longest_turn_ms: Annotated[float, msgspec.Meta(description="that it kept the loop busy at once")]
    seconds: Annotated[float, msgspec.Meta(description="between two looks; 0: there was one")]
    types: Annotated[list[DebugType], msgspec.Meta(description="the most bytes first, or what grew most")]
    trace: Annotated[
        DebugTrace | None, msgspec.Meta(description="what was asked for in place of all that")
    ] = None


class Walk:
    """Counts objects, by type.

    Attributes:
        counts: type → objects.
        sizes: type → bytes.
        longest_turn_s: that the loop was kept busy at once.
    """

    def __init__(self) -> None:
        self.counts: Counter[type] = Counter()
        self.sizes: Counter[type] = Counter()
        self.longest_turn_s = 0.0
        self._seen: dict[int, bytearray] = {}  # by the upper bits of addresses
        self._waiting: list[Any] = []

    async def run(self) -> None:
        """Walk through all there is."""
        self._waiting += _roots()
        for own in (self, self.__dict__, self.counts, self.sizes, self._seen, self._waiting):
            self._is_new(own)
        while self._waiting:
            began = time.perf_counter()
            self._turn(began + _TURN_S)
            self.longest_turn_s = max(self.longest_turn_s, time.perf_counter() - began)
            await asyncio.sleep(_REST_S)
        self._seen.clear()

    def _is_new(self, thing: object) -> bool:
        address = id(thing)
        page = self._seen.get(address >> _PAGE_BITS)
        if page is None:
            page = self._seen[address >> _PAGE_BITS] = bytearray(_SLOTS)
        slot = (address >> _SLOT_BITS) & _MASK
        if page[slot]:
            return False
        page[slot] = 1
        return True

    def _turn(self, until: float) -> None:
        waiting, is_new = self._waiting, self._is_new
        counts, sizes = self.counts, self.sizes
        left = _LOOK_EVERY
        while waiting:
            thing = waiting.pop()
            if not is_new(thing):
                continue
            kind = type(thing)
            counts[kind] += 1
            try:
                sizes[kind] += sys.getsizeof(thing)
            except Exception:  # noqa: BLE001 - a type whose __sizeof__ fails is counted all the same
                sizes[kind] += kind.__basicsize__
            waiting += gc.get_referents(thing)
            left -= 1
            if not left:
                if time.perf_counter() > until:
                    return
                left = _LOOK_EVERY


def _roots() -> list[Any]:
    """Return what all else hangs on."""
    own = threading.get_ident()
    places = [frame for ident, frame in frames().items() if ident != own]
    threads = threading.enumerate()
    return [
        sys.modules,
        builtins,
        gc.callbacks,
        asyncio.get_running_loop(),
        *asyncio.all_tasks(),
        *threads,
        *places,
    ]


async def look(before: Walk | None, top: int) -> tuple[Walk, float, list[DebugType]]:
    """Return a walk, the seconds it took, and the types with the most bytes, or those that grew most."""
    began = time.perf_counter()
    walk = Walk()
    await walk.run()
    return walk, time.perf_counter() - began, types_of(walk, before, top)


def types_of(walk: Walk, before: Walk | None, top: int) -> list[DebugType]:
    """Return the *top* types with the most bytes, or where there was a look *before* that grew most since."""
    rows = [
        DebugType(f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."), count, walk.sizes[kind])
        for kind, count in walk.counts.items()
    ]
    if before is None:
        return sorted(rows, key=lambda row: -row.bytes)[:top]
    for row, kind in zip(rows, walk.counts, strict=True):
        row.count_grown = row.count - before.counts[kind]
        row.bytes_grown = row.bytes - before.sizes[kind]
    return sorted(rows, key=lambda row: -row.bytes_grown)[:top]


def document(
    worker: str, pid: int, walk: Walk, walk_s: float, *, types: list[DebugType], seconds: float
) -> DebugHeapOfWorker:
    """Return what is shown."""
    return DebugHeapOfWorker(
        worker,
        pid,
        rss_bytes(),
        walk.counts.total(),
        walk.sizes.total(),
        round(walk_s, 3),
        round(walk.longest_turn_s * 1000, 3),
        seconds,
        types,
    )

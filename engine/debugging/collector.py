"""The garbage collector: its passes, how long each stopped the process, and what it found."""

from __future__ import annotations

import contextlib
import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from engine.debugging.spread import DebugSpread, Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GENERATIONS: Final = 3
_PAGE_BYTES: Final = 4096


class DebugGcPass(msgspec.Struct):
    """One pass, as it ends: a line of the trace."""

    worker: str
    at: Annotated[float, msgspec.Meta(description="UNIX time")]
    generation: int
    pause_ms: float
    collected: Annotated[int, msgspec.Meta(description="objects of cycles that were freed")]
    uncollectable: int
    young: Annotated[list[int], msgspec.Meta(description="counters of the generations after it")]
    rss_bytes: Annotated[int, msgspec.Meta(description="memory of the process after it")]


class DebugGeneration(msgspec.Struct):
    """One generation."""

    generation: int
    threshold: int
    count: Annotated[int, msgspec.Meta(description="towards that threshold")]
    passes: Annotated[int, msgspec.Meta(description="since the start of the process")]
    collected: Annotated[int, msgspec.Meta(description="since the start of the process")]
    uncollectable: int
    pauses: Annotated[DebugSpread, msgspec.Meta(description="of the passes while it was looked at")]


class DebugGcOfWorker(msgspec.Struct):
    """The garbage collector of one worker."""

    worker: str
    pid: int
    is_enabled: bool
    frozen: Annotated[int, msgspec.Meta(description="objects that no pass looks at")]
    seconds: Annotated[float, msgspec.Meta(description="for which passes were looked at")]
    generations: list[DebugGeneration]


@contextlib.contextmanager
def watching(on_pass: Callable[[int, float, dict[str, Any]], None]) -> Iterator[None]:
    """Have *on_pass* told of each pass of any thread: its generation, its seconds, and what it found."""
    began_at = 0.0

    def tell(phase: str, info: dict[str, Any]) -> None:
        nonlocal began_at
        if phase == "start":
            began_at = time.perf_counter()
        elif began_at:
            on_pass(info["generation"], time.perf_counter() - began_at, info)

    gc.callbacks.append(tell)
    try:
        yield
    finally:
        gc.callbacks.remove(tell)


class Pauses:
    """The pauses of the passes while `watching`."""

    def __init__(self) -> None:
        self._spreads = [Spread() for _ in range(_GENERATIONS)]

    def __call__(self, generation: int, pause_s: float, _info: dict[str, Any]) -> None:
        """Take a pass."""
        self._spreads[generation].add(pause_s)

    def generations(self) -> list[DebugGeneration]:
        """Return what is shown of each generation."""
        rows = zip(gc.get_threshold(), gc.get_count(), gc.get_stats(), self._spreads, strict=True)
        return [
            DebugGeneration(
                number,
                threshold,
                count,
                stats["collections"],
                stats["collected"],
                stats["uncollectable"],
                spread.document(),
            )
            for number, (threshold, count, stats, spread) in enumerate(rows)
        ]


def pass_of(worker: str, generation: int, pause_s: float, info: dict[str, Any]) -> DebugGcPass:
    """Return the line of a pass that has just ended."""
    return DebugGcPass(
        worker,
        round(time.time(), 3),
        generation,
        round(pause_s * 1000, 3),
        info["collected"],
        info["uncollectable"],
        list(gc.get_count()),
        rss_bytes(),
    )


def rss_bytes() -> int:
    """Return the memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES

"""Entries of several workers in the order of their times, as far as they come within a second."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

HELD_S: Final = 1.0


class _Held(NamedTuple):
    at_ns: int
    number: int
    came: float
    entry: bytes


class Ordering:
    """Holds entries for `HELD_S` after they came, and gives them out by their times."""

    def __init__(self) -> None:
        self._held: list[_Held] = []
        self._count = 0

    def add(self, entries: Iterable[tuple[int, bytes]], now: float) -> None:
        """Take entries of a worker.

        Args:
            entries: each with its time, UNIX nanoseconds.
            now: of the monotonic clock.
        """
        for at_ns, entry in entries:
            self._count += 1
            heapq.heappush(self._held, _Held(at_ns, self._count, now, entry))

    def take(self, now: float) -> list[bytes]:
        """Return what has been held long enough, in its order."""
        taken = []
        while self._held and self._held[0].came <= now - HELD_S:
            taken.append(heapq.heappop(self._held).entry)
        return taken

    def take_all(self) -> list[bytes]:
        """Return all that is left, in its order."""
        taken = [held.entry for held in sorted(self._held)]
        self._held.clear()
        return taken

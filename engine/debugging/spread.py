"""How durations are spread: counts by size, in steps of 12 %: any number of them takes no room."""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Final

import msgspec

_STEPS: Final = 6  #: of a doubling: the next step is 12 % longer
_LEAST_S: Final = 1e-6


class DebugSpread(msgspec.Struct, frozen=True):
    """Durations; percentiles are the upper ends of steps of 12 %."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    sum_ms: Annotated[float, msgspec.Meta(description="all of them")]


class Spread:
    """Counts durations."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._sum_s = self._max_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[math.ceil(_STEPS * math.log2(max(seconds, _LEAST_S)))] += 1
        self._sum_s += seconds
        self._max_s = max(self._max_s, seconds)

    def document(self) -> DebugSpread:
        """Return what is shown."""
        count = self._counts.total()
        return DebugSpread(
            count,
            _ms(self._sum_s / count if count else 0.0),
            self._percentile(0.5, count),
            self._percentile(0.9, count),
            self._percentile(0.99, count),
            _ms(self._max_s),
            _ms(self._sum_s),
        )

    def _percentile(self, share: float, count: int) -> float:
        left = share * count
        for step, number in sorted(self._counts.items()):
            left -= number
            if left <= 0:
                return _ms(min(2 ** (step / _STEPS), self._max_s))
        return _ms(self._max_s)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)

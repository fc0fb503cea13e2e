"""Time to fresh, from a task's POST until visitors get the new object, and the objective for it.

The error budget is what may miss the objective: of a thousand with a share of 0.99, ten. It is counted over
the last `WINDOW_S`, in slices; longer views are for who reads the metrics.
"""

from __future__ import annotations

import time
from collections import deque
from math import isinf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import ProofConfig
    from engine.observe.counters import Stats

WINDOW_S: Final = 3600.0
_SLICE_S: Final = 60.0
_MISSES_LEAST: Final = 2  #: before anybody is told: one is one


class Freshness:
    """Counts times to fresh.

    Args:
        config: has the objective.
        stats: has the histograms.
        on_alert: told when the budget is used up: key, level, message.
        now: `time.monotonic`.
    """

    def __init__(
        self,
        config: ProofConfig,
        stats: Stats,
        on_alert: Callable[..., None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objective_s = config.objective_s
        self._share = config.objective_share
        self._stats = stats
        self._on_alert = on_alert
        self._now = now
        self._slices: deque[tuple[float, int, int]] = deque()  # from when, counted, missed
        self._is_used_up = False

    def note(self, layer: str, fresh_s: float) -> None:
        """Count one time to fresh of a layer; infinity: its visitors did not get the new object at all."""
        if not isinf(fresh_s):
            self._stats.fresh_histogram(layer).observe(fresh_s)
        if not self._objective_s:
            return
        is_missed = fresh_s > self._objective_s
        self._stats.fresh_counted += 1
        self._stats.fresh_missed += is_missed
        now = self._now()
        if not self._slices or now - self._slices[-1][0] > _SLICE_S:
            self._slices.append((now, 0, 0))
        began_at, counted, missed = self._slices.pop()
        self._slices.append((began_at, counted + 1, missed + is_missed))
        self._tell()

    def window(self) -> tuple[int, int]:
        """Return how many were counted in the last `WINDOW_S`, and how many of these missed the objective."""
        while self._slices and self._now() - self._slices[0][0] > WINDOW_S:
            self._slices.popleft()
        return sum(one[1] for one in self._slices), sum(one[2] for one in self._slices)

    def _tell(self) -> None:
        counted, missed = self.window()
        is_used_up = missed >= _MISSES_LEAST and missed > counted * (1 - self._share)
        if is_used_up:
            text = (
                f"{missed} of the last {counted} verified purges were not fresh for visitors within "
                f"{self._objective_s:g} s, and {counted * (1 - self._share):.1f} may be (objective_share "
                f"{self._share:g})"
            )
            self._on_alert("objective", "error", text, counted=counted, missed=missed)
        elif self._is_used_up:
            self._on_alert("objective", "resolved", "purges are fresh for visitors in time again")
        self._is_used_up = is_used_up


def document(config: ProofConfig, counted: int, missed: int) -> dict[str, float]:
    """Return what ``GET /v1/engine/stats`` says of the objective; below 0 the budget is overdrawn."""
    budget = counted * (1 - config.objective_share)
    return {
        "objective_s": config.objective_s,
        "objective_share": config.objective_share,
        "window_s": WINDOW_S,
        "counted": counted,
        "missed": missed,
        "budget_left": round(1 - missed / budget, 3) if budget else 1.0,
    }

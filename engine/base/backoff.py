"""How long to wait before something is tried again: twice as long each time, up to a limit, with jitter.

Without jitter everything that failed together would try again together.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_DOUBLINGS_MAX: Final = 64  #: a float holds no 2**1024, and something may be away for days


def backoff_s(
    attempt: int,
    *,
    first_s: float,
    max_s: float,
    least: float = 0.5,
    draw: Callable[[], float] = random.random,
) -> float:
    """Return the seconds to wait.

    Args:
        attempt: how often the pause has been doubled, from 0.
        first_s: the pause of attempt 0, before jitter.
        max_s: no pause is longer.
        least: share of the pause that jitter leaves at least; 0 is full jitter.
        draw: gives the jitter, from 0 (the least) to 1 (all of the pause).
    """
    pause_s = min(max_s, first_s * 2.0 ** min(attempt, _DOUBLINGS_MAX))
    return pause_s * (least + (1 - least) * draw())

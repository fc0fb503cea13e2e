"""Memory that a large backlog has taken, back to the system. glibc keeps it otherwise; elsewhere a no-op."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # mallopt(3)
_THRESHOLD_BYTES: Final = 64 * 2**20  # what glibc comes to by itself where large blocks are freed
_BLOCK_BYTES: Final = 100_000
"""Large enough for ``free`` to look at the end of its arena, too small to be mapped on its own."""


def trim_memory() -> None:
    """Hand back what is free; of the arena of another thread than the first only by that thread.

    ``malloc_trim`` leaves the end of every arena but the first one alone: 16 MiB of a saver's stayed.
    One arena for all threads would do it, too, and cost 7 % of the intake.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.mallopt(_M_TRIM_THRESHOLD, 0)
        bytes(_BLOCK_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _THRESHOLD_BYTES)

"""Memory that a large backlog has taken goes back to the system.

glibc keeps freed memory otherwise; with another C library nothing is done.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # mallopt(3)
_THRESHOLD_BYTES: Final = 64 * 2**20  # what glibc comes to by itself where large blocks are freed
_BLOCK_BYTES: Final = 100_000
"""Large enough for ``free`` to look at the end of its arena, too small to be mapped on its own."""


def trim_memory() -> None:
    """Hand the process's free memory back to the system.

    Each thread allocates in an arena of its own. ``malloc_trim`` empties the first thread's arena; of every
    other one it leaves the end alone (16 MiB of a saver thread's stayed), and only the thread itself can free
    that. So each thread with a large backlog calls this for itself. One arena for all threads would need no
    such call, and costs 7 % of the intake.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.mallopt(_M_TRIM_THRESHOLD, 0)
        bytes(_BLOCK_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _THRESHOLD_BYTES)

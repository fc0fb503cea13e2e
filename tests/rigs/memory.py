"""Where files are in memory: a store syncs each commit, and the disk of a test machine has other users."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_SHARED: Final = Path("/dev/shm")
MEMORY: Final = _SHARED if _SHARED.is_dir() else None
"""A folder whose files are in memory; None: this machine has none."""

"""The wall clock of a process, wrong by as much as a test says; its monotonic clock stays the real one.

A library of a page, ``wall_clock.c``, is preloaded into the process. libfaketime does not start in a
Redis (its allocator asks for the time before the library is ready), and ``time.sleep`` of a Python fails.
"""

import atexit
import functools
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")


@functools.cache
def _library() -> Path:
    """Compile the library, once in a run."""
    folder = Path(tempfile.mkdtemp(prefix="purgeline-clock-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = folder / "wall_clock.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(made), str(_SOURCE)], check=True)
    return made


class WallClock:
    """The clock of processes that are started with `env`.

    Args:
        folder: for a file.
        offset_s: how much it is ahead.
    """

    def __init__(self, folder: Path, offset_s: int = 0) -> None:
        self._path = folder / "clock"
        self._path.write_bytes(bytes(8))
        self.set(offset_s)
        self.env = {"LD_PRELOAD": str(_library()), "WALL_CLOCK": str(self._path)}

    def set(self, offset_s: int) -> None:
        """Let the clock be wrong by so much from now on."""
        with self._path.open("r+b") as file:  # the same file: it is mapped
            file.write(struct.pack("q", offset_s))

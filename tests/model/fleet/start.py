"""Runs the engine of the current folder: ``python start.py CLOCK RULE serve …``.

*CLOCK* is a file with a number of seconds, by which ``time.time`` is ahead from then on; *RULE* is broken,
if one is named. libfaketime is not used: it makes ``time.sleep`` fail, or the monotonic clock wrong as well.
"""

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

SECONDS = struct.Struct("d")


def set_clock(path: Path, offset_s: float) -> None:
    """Let the clock of an engine that has this file be ahead by so much."""
    if not path.exists():
        path.write_bytes(SECONDS.pack(0))
    with path.open("r+b") as file:
        file.write(SECONDS.pack(offset_s))


def _follow(path: Path) -> None:
    with path.open("rb") as file:
        seconds = mmap.mmap(file.fileno(), SECONDS.size, access=mmap.ACCESS_READ)
    right, unpack = time.time, SECONDS.unpack_from
    time.time = lambda: right() + unpack(seconds)[0]


if __name__ == "__main__":
    clock, rule = sys.argv[1:3]
    sys.argv[1:3] = []
    sys.path[0] = str(Path.cwd())  # whatever version of the engine is there
    _follow(Path(clock))
    if rule:
        from tests.model.fleet.broken import break_rule

        break_rule(rule)
    runpy.run_module("engine", run_name="__main__")

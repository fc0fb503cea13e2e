"""The disk of the data folder: its room, and how long it takes to make a write durable."""

from __future__ import annotations

import os
import tempfile
import time
from typing import TYPE_CHECKING, Final

from engine.doctor.check import Check, Verdict, unknown

if TYPE_CHECKING:
    from pathlib import Path

_MIB: Final = 1024**2
_WARN_BYTES: Final = 2 * 1024**3
_FAIL_BYTES: Final = 128 * _MIB
_WARN_INODES: Final = 10_000
_FAIL_INODES: Final = 100
_WRITES: Final = 20
_PIECE: Final = bytes(4096)
_BUDGET_S: Final = 2.0
_WARN_S, _FAIL_S = 0.01, 0.1
_REMEDY: Final = (
    "make room, or move engine.data_dir; engine.history_max_bytes and history_days bound the history"
)
_QUICK: Final = "a disk with a write cache that outlives a power cut"


def space(folder: Path) -> Check:
    """Check the room on the disk of a folder, which need not be there yet."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    disk = os.statvfs(place)
    free, inodes = disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else _WARN_INODES
    value = f"{free // _MIB} MiB free"
    limit = f"{_WARN_BYTES // _MIB} MiB"
    if inodes < _WARN_INODES:
        value += f", {inodes} inodes"
    if free < _FAIL_BYTES or inodes < _FAIL_INODES:
        reason = f"{place}: tasks are answered 503 as soon as nothing can be written"
        return Check("disk_space", Verdict.FAIL, value, limit, reason, _REMEDY)
    if free < _WARN_BYTES or inodes < _WARN_INODES:
        reason = f"{place}: an incident that fills delay queues and the history may take the rest"
        return Check("disk_space", Verdict.WARN, value, limit, reason, _REMEDY)
    return Check("disk_space", Verdict.OK, value, limit)


def sync_times(folder: Path) -> list[float]:
    """Return how many seconds each of some small writes took to be durable, in a file without a name.

    Raises:
        OSError: nothing can be written there.
    """
    times: list[float] = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(_PIECE)
        os.fsync(file.fileno())  # the file itself is new: what comes is as an append to a log
        while len(times) < _WRITES and sum(times) < _BUDGET_S:
            began = time.perf_counter()
            file.write(_PIECE)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return times


def fsync(folder: Path, *, waits: bool = True) -> Check:
    """Check how long a write takes.

    Args:
        folder: of the store.
        waits: a task is answered 202 after a write there; else it is stored elsewhere.
    """
    limit = f"{_WARN_S * 1000:g} ms"
    if not folder.is_dir():
        return unknown("fsync", f"{folder} is not there yet", limit=limit)
    try:
        times = sorted(sync_times(folder))
    except PermissionError:
        reason = f"{folder} is not ours to write: ask as root, or as the engine's account"
        return unknown("fsync", reason, limit=limit)
    except OSError as exc:
        return Check("fsync", Verdict.FAIL, "", limit, f"{folder}: {exc.strerror}", _REMEDY)
    middle = times[len(times) // 2]
    value = f"{middle * 1000:.1f} ms, worst {times[-1] * 1000:.0f}"
    if not waits:
        return Check("fsync", Verdict.OK, value, limit, "tasks are in Redis: no client waits for this disk")
    if middle < _WARN_S:
        return Check("fsync", Verdict.OK, value, limit)
    verdict = Verdict.FAIL if middle >= _FAIL_S else Verdict.WARN
    reason = "a task is answered 202 when its batch is on the disk: no client gets it sooner than that"
    return Check("fsync", verdict, value, limit, reason, _QUICK)

"""What tells a process from every other one, also from a later one with its number."""

from __future__ import annotations

import os
from pathlib import Path


def process_mark(pid: int) -> str:
    """Return what tells a process from all others: boot, PID namespace and start.

    Empty: it is not there, or ``/proc`` does not show it (another user's, under ``hidepid``).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it points nowhere
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return ""
    fields = stat.split()
    return "" if fields[0] in {"Z", "X"} else f"{boot}/{namespace}:{fields[19]}"


def has_ended(pid: int, mark: str) -> bool:
    """Tell whether the process that had this mark is known to be over; False: it lives, or nobody can tell.

    Args:
        pid: its number in its own PID namespace.
        mark: as that process saw itself; of another machine or namespace, or empty, it tells nothing.
    """
    here = process_mark(os.getpid()).rpartition(":")[0]
    if not here or mark.rpartition(":")[0] != here:
        return False
    now = process_mark(pid)
    return now != mark if now else not _is_there(pid)


def _is_there(pid: int) -> bool:
    """Tell whether there is a process with this number that ``/proc`` does not show; a zombie is shown."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return not Path(f"/proc/{pid}").exists()

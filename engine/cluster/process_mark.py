"""What tells a process from every other one, also from a later one with its number."""

from __future__ import annotations

import os
from pathlib import Path


def process_mark(pid: int) -> str:
    """Return what tells a process from all others: boot, PID namespace and start; empty: it is not there."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it points nowhere
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return ""
    fields = stat.split()
    return "" if fields[0] in {"Z", "X"} else f"{boot}/{namespace}:{fields[19]}"

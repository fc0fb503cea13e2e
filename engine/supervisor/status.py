"""The answer to ``status``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

    from .fleet import Fleet
    from .worker import Worker


def document(
    fleet: Fleet,
    *,
    sha256: str,
    state: str,
    listen: str,
    started_at: float,
    last_reload: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the answer to ``status``.

    Args:
        fleet: release and workers.
        sha256: of the supervisor's program.
        state: see `phase.Phase.state`.
        listen: see `address_of`.
        started_at: by the monotonic clock; replacements do not change it.
        last_reload: see `reloads.Reloads.last`.
    """
    return {
        "ok": True,
        "version": fleet.release.version,
        "release_dir": fleet.release.directory or None,
        "pid": os.getpid(),
        "uptime_s": round(time.monotonic() - started_at, 3),
        "supervisor_sha256": sha256,
        "state": state,
        "listen": listen,
        "workers": [_row(worker, fleet.slots[worker.slot].restarts) for worker in fleet.workers],
        "last_reload": last_reload,
    }


def _row(worker: Worker, restarts: int) -> dict[str, Any]:
    return {
        "slot": worker.slot,
        "pid": worker.pid,
        "version": worker.version,
        "generation": worker.generation,
        "state": worker.state,
        "uptime_s": round(worker.uptime_s, 3),
        "restarts": restarts,
        "stale": worker.stale,
        "canaries": worker.canaries,
    }


def address_of(listener: socket.socket) -> str:
    """Return the address of the listening socket: ``HOST:PORT``, or a path or ``@NAME`` of a Unix socket."""
    name = listener.getsockname()
    if isinstance(name, bytes):  # a name without a file
        return name.replace(b"\0", b"@", 1).decode(errors="replace")
    if not isinstance(name, tuple):
        return str(name)
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

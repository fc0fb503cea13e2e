"""The operation ``stop``: the engine ends, drained."""

from __future__ import annotations

import time
from pathlib import Path

from .answers import Refused
from .control import ask, is_supervised, running
from .history import note
from .requests import by
from .service import STOP_WAIT_S, uses_systemd
from .systemd import systemctl

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host


def stop(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Stop the engine, drained."""
    status = running(host)
    if not status:
        return {"unchanged": True}
    took_s = halt(host, request, status.get("pid"))
    note(host, action="stop", version=host.linked("current"), ok=True, duration_s=took_s, **by(request))
    return {"unchanged": False, "duration_s": took_s}


def halt(host: Host, request: dict[str, Any], pid: object) -> float:
    """Have the supervisor, process *pid*, end; return how long that took, seconds."""
    began = time.monotonic()
    if uses_systemd(host, request.get("service")):
        systemctl("stop")
    else:
        ask(host, {"cmd": "stop"}, timeout_s=STOP_WAIT_S)
    while time.monotonic() < began + STOP_WAIT_S:
        if not is_supervised(host) and not is_alive(pid):
            return time.monotonic() - began
        time.sleep(0.05)
    raise Refused("timeout", f"the engine (pid {pid}) has not stopped in {STOP_WAIT_S:g} s")


def is_alive(pid: object) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False

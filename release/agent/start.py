"""Starting the engine where no supervisor runs: by systemd, or as a process that outlives the operation."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

from .answers import TAIL_LINES, Refused, tell
from .control import ask
from .requests import seconds
from .service import START_WAIT_S, UNIT, uses_systemd
from .systemd import journal_tail, systemctl

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .layout import Host

END_WAIT_S = 10.0
#: Variables that are meant for whoever starts the engine, not for the engine.
FOR_THE_CALLER = ("PURGELINE_", "PYTHON", "LISTEN_", "NOTIFY_", "WATCHDOG_")


def start(host: Host, request: dict[str, Any]) -> None:
    """Start a supervisor with a release; return when it serves. systemd's starts what ``current`` names.

    Raises:
        Refused: it ended, or did not serve in time; nothing of it runs any more. The log is its.
    """
    tell("start", version=request["version"])
    process = None
    limit_s = seconds(request, "timeout_s", START_WAIT_S)
    until = time.monotonic() + limit_s
    if uses_systemd(host, request.get("service")):
        why = systemctl("start", limit_s)
        if why:
            log = journal_tail()
            systemctl("stop")  # or it is tried again and again
            raise Refused("start", f"systemctl start {UNIT}: {why}", log)
    else:
        process = start_directly(host, request)
    while True:
        with contextlib.suppress(Refused):
            status = ask(host, {"cmd": "status"}, timeout_s=5)
            if status.get("state") == "serving" and status.get("version") == request["version"]:
                return
        if process is not None and process.poll() is not None:
            raise Refused(
                "start", f"the engine does not start (exit code {process.returncode})", log_tail(host)
            )
        if time.monotonic() > until:
            log = journal_tail() if process is None else log_tail(host)
            if process is None:
                systemctl("stop")
            else:
                end(process)
            raise Refused("start", "the engine did not serve in time", log)
        time.sleep(0.05)


def start_directly(host: Host, request: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start a supervisor that outlives us."""
    python = getattr(sys, "_base_executable", None) or sys.executable
    command = [python, "-I", str(host.supervisor), "--root", str(host.root)]
    command += ["--release", str(host.release(request["version"]))]
    command += ["--workers", str(int(request.get("workers") or 1))]
    if request.get("listen"):
        command += ["--listen", request["listen"]]
    with host.log.open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=host.shared,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # it says everything on the other, and that file is replaced
            stderr=log,
            start_new_session=True,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(FOR_THE_CALLER)},
                "PURGELINE_SUPERVISOR_LOG": str(host.log),  # the supervisor keeps it short
            },
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a supervisor that we started."""
    process.terminate()
    try:
        process.wait(END_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def log_tail(host: Host) -> list[str]:
    """Return the last lines of a supervisor that we started."""
    with contextlib.suppress(OSError):
        return host.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return []

"""systemd as what runs the engine: its verbs, and the end of its log."""

from __future__ import annotations

import subprocess

from .answers import TAIL_LINES
from .service import STOP_WAIT_S, UNIT


def systemctl(verb: str, limit_s: float = STOP_WAIT_S) -> str:
    """Have systemd start or stop the engine; return why it does not, such as that it took too long."""
    command = ["systemctl", verb, UNIT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"not done in {limit_s:g} s"
    except FileNotFoundError:
        return "there is no systemctl here"
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""


def journal_tail() -> list[str]:
    """Return the last lines of systemd's supervisor."""
    command = ["journalctl", "-u", UNIT, "-n", str(TAIL_LINES), "-o", "cat"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()

"""One step of an operation that another program does."""

from __future__ import annotations

import os
import subprocess

from .answers import TAIL_LINES, Refused

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 240.0  #: pip's is the longest


def run(command: list[str], doing: str, folder: Path, *, good: tuple[int, ...] = (0,)) -> str:
    """Run a program in *folder* and return what it prints.

    Args:
        command: program and arguments.
        doing: what it is for, as in "could not …".
        folder: where it works, and its home; it sees nothing else of our environment but ``PATH``.
        good: exit codes of one that did what it should.

    Raises:
        Refused: it failed, is missing or takes longer than `TIMEOUT_S`; its last lines are the log.
    """
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "PIP_CONFIG_FILE": os.devnull,
    }
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            close_fds=False,  # it holds the lock of the operation with us, see `files.holding`
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise Refused("timeout", f"could not {doing} in {TIMEOUT_S:g} s") from None
    except FileNotFoundError:
        raise Refused("release", f"could not {doing}: {command[0]} is gone") from None
    if done.returncode not in good:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        if any("No space left" in line or "Disk quota" in line for line in lines):
            raise Refused("disk", f"the disk is full: could not {doing}", lines[-TAIL_LINES:])
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise Refused("release", f"could not {doing}: {last}", lines[-TAIL_LINES:])
    return done.stdout

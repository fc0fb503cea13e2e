"""Salt on this machine, in an environment of its own: ``.venv-salt``.

Salt needs packages at older versions than the engine's environment has, so the two never mix: the pipeline
runs Salt's programs, and imports nothing of it. The environment is made anew when
``requirements-salt.lock`` has changed. A stamp, written last, tells which lock it was filled from, so an
installation that was cut short is done again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from release.errors import ReleaseError
from release.settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOCK: Final = "requirements-salt.lock"
STAMP: Final = "locks.sha256"


def folder(root: Path = ROOT) -> Path:
    """Return the folder of the environment, made or not."""
    return root / ".venv-salt"


def is_current(root: Path = ROOT) -> bool:
    """Tell whether the environment exists and was made from the lock as it is now.

    Raises:
        ReleaseError: the lock cannot be read.
    """
    digest = _digest(root)
    try:
        return (folder(root) / STAMP).read_text(encoding="utf-8") == digest
    except OSError:
        return False


def ensure(root: Path = ROOT, *, say: Callable[[str], object] = print) -> Path:
    """Make the environment unless it is current; return its folder of programs.

    A second caller waits for the first and finds all done.

    Args:
        root: the project's folder.
        say: takes each line meant for a person.

    Raises:
        ReleaseError: the lock cannot be read or pip failed; it has said why on stderr.
    """
    programs = folder(root) / "bin"
    if is_current(root):
        return programs
    guard = os.open(root / ".venv-salt.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not is_current(root):
            say(f"setting up {folder(root)} (about a minute) ...")
            _fill(root)
    finally:
        os.close(guard)
    return programs


def _fill(root: Path) -> None:
    venv = folder(root)
    (venv / STAMP).unlink(missing_ok=True)
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "--disable-pip-version-check"]
    lock = ["--no-deps", "--require-hashes", "--requirement", str(root / LOCK)]
    for command in (
        [sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)],
        [*pip, "--no-input", "install", "-qq", *lock],
    ):
        if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode:
            raise ReleaseError(f"could not fill {venv}; run the same command again to go on")
    (venv / STAMP).write_text(_digest(root), encoding="utf-8")


def _digest(root: Path) -> str:
    """Name the lock and the place: an environment does not survive a move."""
    try:
        return hashlib.sha256(f"{root}\n".encode() + (root / LOCK).read_bytes()).hexdigest()
    except OSError as exc:
        raise ReleaseError(f"{root / LOCK}: cannot be read: {exc}") from exc

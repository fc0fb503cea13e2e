"""The lock of the data folder: one supervisor, with its workers, at a time."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

from .errors import USAGE, SupervisorError

if TYPE_CHECKING:
    from pathlib import Path

    from .output import Output


def take_lock(path: Path, *, wait_s: float, output: Output) -> int:
    """Return a descriptor that holds the lock of the data folder; every worker inherits it.

    Raises:
        SupervisorError: another process held the lock for all of *wait_s*, or the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise SupervisorError(f"{path}: cannot be made: {exc.strerror}", exit_code=USAGE) from exc
    until = time.monotonic() + wait_s
    is_told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not is_told:
                output.say(f"{path} is held by another supervisor or its workers, waiting up to {wait_s:g} s")
                is_told = True
            if time.monotonic() > until:
                os.close(lock)
                raise SupervisorError(
                    f"{path} is still held after {wait_s:g} s: something runs on it"
                ) from None
            time.sleep(0.05)
        else:
            return lock

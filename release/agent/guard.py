"""Ends what this process has started when it ends, however that happens: a process that waits on a pipe.

Only this process has the other end: SIGKILL and a time limit leave nothing that runs for more than a moment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from pathlib import Path
    from typing import NoReturn

REMOVE_WAIT_S = 5.0


class Guard:
    """Ends groups of processes and removes a folder. Made before there are threads.

    Args:
        folder: that is removed.
    """

    def __init__(self, folder: Path) -> None:
        read, self._write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._write)
            _wait(read, folder)
        os.close(read)

    def watch(self, group: int) -> None:
        """Have this group of processes ended, too."""
        os.write(self._write, b"%d\n" % group)

    def close(self) -> None:
        """End all that is watched, now; returns when that is done."""
        os.close(self._write)
        os.waitpid(self._pid, 0)


def _wait(read: int, folder: Path) -> NoReturn:
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # who waits for the end of our output does not wait for the guard's
            os.dup2(null, stream)
        groups = b""
        while piece := os.read(read, 4096):
            groups += piece
        for group in groups.split():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(group), signal.SIGKILL)
        until = time.monotonic() + REMOVE_WAIT_S
        while folder.exists() and time.monotonic() < until:
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.01)
    finally:
        os._exit(0)

"""Engines forked from a process that has imported one: importing is most of what a start costs.

Such an engine is a process of its own, with its own log, signals and exit code; what it lacks is the start of
its interpreter. That is some half a second of CPU, and hundreds of engines are started.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.rigs.imported"])


class ForkedEngine:
    """``purgeline`` in a forked process, as `subprocess.Popen` shows a process.

    Args:
        arguments: of ``purgeline``.
        cwd: its folder.
        log: takes what it prints.
        env: its environment.
    """

    def __init__(self, arguments: Sequence[str], *, cwd: Path, log: Path, env: Mapping[str, str]) -> None:
        self._process = _CONTEXT.Process(
            target=_run, args=(list(arguments), str(cwd), str(log), dict(env)), daemon=True
        )
        self._lock = threading.Lock()  # an exit code can be read once
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        with self._lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit code."""
        wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(["purgeline"], timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], cwd: str, log: str, env: dict[str, str]) -> None:
    """Become the engine; runs in the forked process."""
    from engine.cli.main import main  # noqa: PLC0415 - has been imported there

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.exit(main(arguments))

"""The demo's programs, our own and Redis, each as a process group of its own that does not outlive us."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
TAIL_LINES = 5
PYTHON = (sys.executable, "-m")

_LIFELINE = 'read -r _ || kill -s KILL -- "-$1"'  # ends the group when we are gone, however we went

T = TypeVar("T")


class StageError(Exception):
    """Something did not start, or did not answer in time."""


class Program:
    """A program as a process group of its own, listening on a port; a Python module unless told otherwise."""

    driver = "squid"  #: what the built-in proxy behaves like
    purge_path = ""

    def __init__(
        self, name: str, port: int, argv: Sequence[str], *, folder: Path, program: Sequence[str] = PYTHON
    ) -> None:
        self.name = name
        self.port = port
        self.log_path = folder / f"{name}.log"
        self._argv = [*program, *argv]
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Program {self.name} [port {self.port}, pid {self.pid}]>"

    @property
    def pid(self) -> int | None:
        """The process, ``None`` when the program does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the program; return when it accepts connections.

        Raises:
            StageError: it ended instead.
        """
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                cwd=ROOT,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self._lifeline = subprocess.Popen(
            ["/bin/sh", "-c", _LIFELINE, "sh", str(self._process.pid)],
            stdin=subprocess.PIPE,
            process_group=0,
        )
        wait_until(self._accepts, what=f"{self.name} listening")

    def stop(self) -> int:
        """End the program in order, after `STOP_TIMEOUT_S` by force; return its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        self.kill()
        return code

    def kill(self) -> None:
        """End the program at once, as ``kill -9`` does."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # an interrupt may have left it locked
            self._process.wait(STOP_TIMEOUT_S)
        self._process = None
        if self._lifeline is not None:
            with contextlib.suppress(BrokenPipeError):
                self._lifeline.communicate(b"\n")
            self._lifeline = None

    def log_tail(self) -> str:
        """Return the last lines of the program's log."""
        text = self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.is_file() else ""
        return "\n".join(text.splitlines()[-TAIL_LINES:])

    def _accepts(self) -> bool:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            raise StageError(f"{self.name} ended at start with {code}:\n{self.log_tail()}")
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def wait_until(condition: Callable[[], T], *, what: str, timeout_s: float = READY_TIMEOUT_S) -> T:
    """Ask *condition* again and again until it is true, and return what it returned.

    Raises:
        StageError: not in time.
    """
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > until:
            raise StageError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.01)
    return found


def clean_environment() -> dict[str, str]:
    """Return our environment without what would change the engine's or the command's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PURGELINE_")}

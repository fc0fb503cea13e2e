"""A command on a real terminal, which somebody looks at, presses keys in, and makes larger or smaller."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).parents[2]
_ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


class Terminal:
    """Runs ``purgeline`` with *argv* while entered.

    Attributes:
        shown: what was written since the last `wait_for`, without its escapes.
    """

    def __init__(self, *argv: str, width: int = 100, height: int = 30) -> None:
        self.shown = ""
        self._code: int | None = None
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(ROOT)
            left_out = ("COLUMNS", "LINES", "NO_COLOR")
            environ = {name: value for name, value in os.environ.items() if name not in left_out}
            # Given whole: readline, where it was imported, has set COLUMNS behind `os.environ`.
            command = [sys.executable, "-m", "engine", *argv]
            os.execve(sys.executable, command, {**environ, "TERM": "xterm-256color"})
        self.resize(width, height)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def resize(self, width: int, height: int) -> None:
        """Change the size, of which the terminal tells the command."""
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._terminal, keys.encode())

    def wait_for(self, text: str, *, timeout_s: float = 30) -> str:
        """Wait until *text* is written; return what was, up to its end."""
        deadline = time.monotonic() + timeout_s
        while text not in self.shown:
            assert self._read(deadline), f"{text!r} was not written: {self.shown[-2000:]}"
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def ended(self, *, timeout_s: float = 30) -> int:
        """Wait until the command has ended; return its exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        assert time.monotonic() < deadline, f"the command goes on: {self.shown[-2000:]}"
        self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code

    def _read(self, deadline: float) -> bool:
        """Take what is written next; tell whether there was something."""
        if not select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            return False
        chunk = b""
        with contextlib.suppress(OSError):  # EIO: Linux's way to say that the other side is closed
            chunk = os.read(self._terminal, 65536)
        self.shown += _ESCAPE.sub("", chunk.decode(errors="replace"))
        return bool(chunk)

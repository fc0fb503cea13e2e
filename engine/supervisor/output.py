"""stderr: the supervisor's own lines and what workers log."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import signals

if TYPE_CHECKING:
    from collections.abc import Callable

_WAITING_BYTES: Final = 1024 * 1024  #: so much may wait for a slow stderr; lines beyond are dropped
_LINE_MAX: Final = 64 * 1024  #: bytes; a longer line of a worker is cut
_TAIL_BYTES: Final = 16 * 1024
_TAIL_LINES: Final = 20
_RETRY_S: Final = 0.01
_FILE_MAX: Final = 32 * 1024 * 1024  #: bytes
LOG_FILE: Final = "PURGELINE_SUPERVISOR_LOG"  #: variable: the file that stderr is, which may be replaced


class LogFile:
    """The file that a descriptor writes to, kept short: when it is long a new one begins, one old one stays.

    Args:
        path: where the file is; whatever else has this name is left alone.
        descriptor: writes to it.
        bytes_max: from this length on a new one begins.
    """

    def __init__(self, path: Path, *, descriptor: int = 2, bytes_max: int = _FILE_MAX) -> None:
        self._path = path
        self._descriptor = descriptor
        self._bytes_max = bytes_max

    def turn(self) -> None:
        """Begin a new file if this one is long."""
        try:
            now = os.fstat(self._descriptor)
            if now.st_size < self._bytes_max or not os.path.samestat(now, self._path.stat()):
                return
            self._path.replace(self._path.with_name(f"{self._path.name}.old"))
            fresh = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, now.st_mode & 0o777)
        except OSError:
            return  # it goes on growing, which is better than no log
        os.dup2(fresh, self._descriptor)
        os.close(fresh)


class Output:
    """stderr, written by a thread of its own: a pipe that nobody reads blocks that thread only.

    Attributes:
        dropped: chunks that were thrown away because too much waited.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._untold = 0
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_writing = False
        self._files = [LogFile(Path(os.environ[LOG_FILE]))] if os.environ.get(LOG_FILE) else []
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Write a line of the supervisor's own."""
        self.write(f"supervisor: {text}\n".encode(errors="backslashreplace"))

    def write(self, data: bytes) -> None:
        """Write whole lines, some time soon, or drop them."""
        with self._changed:
            if self._bytes + len(data) > _WAITING_BYTES:
                self.dropped += 1
                self._untold += 1
                return
            if self._untold:
                data = b"supervisor: %d lines were dropped, stderr is too slow\n%b" % (self._untold, data)
                self._untold = 0
            self._waiting.append(data)
            self._bytes += len(data)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> None:
        """Wait until everything is written, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_writing, timeout_s)

    def _run(self) -> None:
        signals.hold()  # signals are for the main thread, see `replacing`
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                data = memoryview(b"".join(self._waiting))
                self._waiting.clear()
                self._is_writing = True
            while data:
                try:
                    data = data[os.write(2, data) :]
                except BlockingIOError:  # another process made stderr non-blocking
                    time.sleep(_RETRY_S)
                except OSError:
                    break  # nobody reads stderr any more
            for file in self._files:
                file.turn()
            with self._changed:
                self._bytes = sum(map(len, self._waiting))


class LogTail:
    """What a worker writes to stdout and stderr: passed on line by line, the last lines remembered.

    Attributes:
        partial: what was read of a line whose end has not come.
        kept: the last bytes of the log.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self.partial = b""
        self.kept = b""

    def feed(self, data: bytes) -> None:
        """Take what the pipe gave; nothing means that the pipe has ended."""
        self.kept = (self.kept + data)[-_TAIL_BYTES:]
        whole, newline, self.partial = (self.partial + data).rpartition(b"\n")
        if newline:
            self._write(whole + newline)
        if self.partial and (not data or len(self.partial) > _LINE_MAX):
            self._write(self.partial + b"\n")
            self.partial = b""

    def lines(self) -> list[str]:
        """Return the last lines."""
        return self.kept.decode(errors="replace").splitlines()[-_TAIL_LINES:]

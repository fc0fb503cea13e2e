"""Standard output and error of a run on hosts: whoever reads them may be gone, or asleep.

A closed pipe (``| head``), a terminal that was closed or stopped, a full disk: none of them fails or delays
what writes. The text goes to a thread, in order for both streams. What nobody can read any more is dropped;
this machine's history and those of the hosts have what was done. At the end the process waits for a reader
that is only slow.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

WAITING_MAX: Final = 10_000  #: pieces of progress that wait for a reader


class Writer:
    """Writes pieces of text to streams, in order, in a thread of its own."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[TextIO, str]] = deque()
        self._changed = threading.Condition()
        self._is_busy = False
        self._thread: threading.Thread | None = None

    def put(self, stream: TextIO, text: str, *, may_drop: bool) -> None:
        """Have a piece written; dropped if it may be and very many wait."""
        with self._changed:
            if may_drop and len(self._waiting) >= WAITING_MAX:
                return
            self._waiting.append((stream, text))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="output", daemon=True)
                self._thread.start()
                atexit.register(self.drain)
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until everything is written."""
        with contextlib.suppress(KeyboardInterrupt), self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_busy)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                stream, text = self._waiting.popleft()
                self._is_busy = True
            _write(stream, text)


class Steady(io.TextIOBase):
    """A stream in place of *stream*, by way of *writer*; the terminal is that of *stream*."""

    def __init__(self, stream: TextIO, writer: Writer, *, may_drop: bool) -> None:
        self._stream = stream
        self._writer = writer
        self._may_drop = may_drop

    @property
    def encoding(self) -> str:  # type: ignore[override] # a property there, too
        """Of the stream."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """Take a piece of text."""
        self._writer.put(self._stream, text, may_drop=self._may_drop)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override] # texts only
        """Take several pieces."""
        self.write("".join(lines))

    def writable(self) -> bool:
        """Whether it can be written to."""
        return True

    def isatty(self) -> bool:
        """Whether a terminal is behind it."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._stream.fileno()

    def flush(self) -> None:
        """Do nothing: the thread flushes what it writes."""


def install() -> None:
    """Put steady streams in the place of standard output and error, until the process ends."""
    if isinstance(sys.stderr, Steady):
        return
    writer = Writer()
    sys.stdout = cast("TextIO", Steady(sys.stdout, writer, may_drop=False))
    sys.stderr = cast("TextIO", Steady(sys.stderr, writer, may_drop=True))


def _write(stream: TextIO, text: str) -> None:
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode(stream.encoding, "replace").decode(stream.encoding))
        stream.flush()
    except (OSError, ValueError):
        _give_up(stream)


def _give_up(stream: Any) -> None:
    """Send what a stream still holds, and all that follows, to nowhere: else the exit would fail by it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)

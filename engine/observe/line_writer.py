"""The writer of log lines: one thread alone touches the file descriptor.

A blocked pipe blocks that thread and never the loop; when its queue is full, lines are dropped and counted.
"""

from __future__ import annotations

import os
import queue
import select
import threading
import time
from typing import Final

LINES_MAX: Final = 100_000  #: lines that may wait for the writer; beyond, they are dropped
_BATCH_BYTES: Final = 256 * 1024
_GATHER_S: Final = 0.005
"""Lines gather for so long: a thread switch for each would cost the loop more than the lines do."""


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own. `write` may be called from any thread.

    Args:
        fd: stays open after `close`. It may be blocking or not.
        lines_max: lines that may wait; further ones are dropped.
    """

    def __init__(self, fd: int, *, lines_max: int = LINES_MAX) -> None:
        self.dropped = 0  #: lines that were not written, ever
        self._waiting = 0  # lines in the queue
        self._fd = fd
        self._lines_max = lines_max
        self._queue: queue.SimpleQueue[tuple[bytes, int] | threading.Event | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # for the counts
        self._is_torn = False
        self._is_closing = False
        # A daemon: a write that blocks for ever must not keep the process.
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, text: bytes, count: int = 1) -> None:
        """Queue a line, or *count* of them, newlines included; never blocks. All of them go, or none."""
        with self._lock:
            if self._waiting >= self._lines_max or self._is_closing:
                self.dropped += count
                return
            self._waiting += count
        self._queue.put((text, count))

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was queued so far is written or dropped; False when the time was too short."""
        if not self._thread.is_alive():
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued, for at most that many seconds, and end the thread."""
        self._is_closing = True
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if not self._is_closing:
                time.sleep(_GATHER_S)
            texts: list[bytes] = []
            size = count = 0
            while isinstance(item, tuple):
                texts.append(item[0])
                size += len(item[0])
                count += item[1]
                if size >= _BATCH_BYTES:
                    self._write_batch(texts, count)
                    texts, size, count = [], 0, 0
                if self._queue.empty():
                    break
                item = self._queue.get()
            self._write_batch(texts, count)
            if item is None:
                return
            if isinstance(item, threading.Event):
                item.set()

    def _write_batch(self, texts: list[bytes], count: int) -> None:
        if not texts:
            return
        with self._lock:
            self._waiting -= count
        data = b"".join(texts)
        if self._is_torn:
            data = b"\n" + data  # a write failed within a line; the next one starts on its own
        view = memoryview(data)
        try:
            while view:
                view = view[self._write_some(view) :]
            self._is_torn = False
        except OSError:  # reader gone, disk full: nobody to tell, but it is counted
            written = len(data) - len(view)
            whole = data.count(b"\n", self._is_torn, written)
            if written:
                self._is_torn = not data[:written].endswith(b"\n")
            with self._lock:
                self.dropped += count - whole

    def _write_some(self, view: memoryview) -> int:
        try:
            return os.write(self._fd, view)
        except BlockingIOError:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.poll()
            return 0

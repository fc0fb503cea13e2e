"""Log lines: loguru in front, one formatter that can be swapped, one thread that writes.

`LineWriter` alone touches the file descriptor, so a blocked pipe blocks a thread of its own and
never the loop; when its queue is full, lines are dropped and counted. loguru costs about 10 µs a
call, so the line per subtask (`Logs.subtasks`) goes past it, through the same formatter.

Lines are formatted where they are made. On the writer's thread it was measured to be worse: 60,000
lines cost the caller 3.5-4.1 µs each with pauses of 30-60 ms for the GIL, instead of 2.2-2.9 µs and
5-15 ms (CPython 3.11, busy two-core machine; alone, a ``struct`` line takes 1.2 µs, a ``dict`` line 2.6).
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import select
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from loguru import logger

from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loguru import Message

LINES_MAX = 100_000  #: lines that may wait for the writer; beyond, they are dropped
_BATCH_BYTES = 256 * 1024
_GATHER_S = 0.005  # a thread switch per line would cost the loop more than the lines do
_OPERATIONS = ["", *(operation.name.lower() for operation in Operation)]
_OUTCOMES = [outcome.name.lower() for outcome in Outcome]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_COLOURS = {"DEBUG": 34, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}


class LogLine(msgspec.Struct, omit_defaults=True):
    """One line. Fields that are not set are left out; what is not a field of ours is under ``extra``."""

    time: float  #: UNIX time, seconds
    level: str
    message: str
    service: str
    action: str = ""
    task_id: str = ""
    node: str = ""
    target: str = ""
    operation: str = ""
    status: int = 0  #: the cache's; 0: it did not answer
    outcome: str = ""
    duration_ms: float = 0.0
    exception: str = ""
    extra: dict[str, Any] = {}


_FIELDS = frozenset(LogLine.__struct_fields__)
_DEFAULTED = LogLine.__struct_fields__[4:]
_encoder = msgspec.json.Encoder(enc_hook=str)

AnswerRow = tuple[str, str, int, int, int]
"""A cache's answer: task id, target, operation, status, outcome; enum values as in `model`."""


def _encode(value: object) -> bytes:
    try:
        return _encoder.encode(value) + b"\n"
    except Exception:  # noqa: BLE001 - lone surrogates, huge ints, a __str__ that raises: keep the line
        fields = {name: getattr(value, name) for name in _FIELDS} if isinstance(value, LogLine) else value
        plain = {name: item if isinstance(item, str | float) else _say(item) for name, item in fields.items()}  # type: ignore[attr-defined]
        return json.dumps(plain).encode() + b"\n"


def _say(item: object) -> str:
    try:
        return repr(item)
    except Exception as exc:  # noqa: BLE001 - it is somebody else's __repr__
        return f"<{type(item).__name__}: {type(exc).__name__}>"


def _as_dict(line: LogLine) -> bytes:
    fields = {"time": line.time, "level": line.level, "message": line.message, "service": line.service}
    for name in _DEFAULTED:
        if value := getattr(line, name):
            fields[name] = value
    return _encode(fields)


def _escape(value: object) -> str:
    text = value if isinstance(value, str) else _say(value)
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _as_text(line: LogLine, *, is_tty: bool = False) -> bytes:
    """Format for people; only a traceback has more lines, each marked so that none passes for another."""
    clock = datetime.fromtimestamp(line.time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    level = f"{line.level:<7}"
    if is_tty and line.level in _COLOURS:
        level = f"\x1b[{_COLOURS[line.level]}m{level}\x1b[0m"
    known = {name: value for name in _DEFAULTED[:-2] if (value := getattr(line, name))}
    facts = "".join(f" {_escape(name)}={_escape(value)}" for name, value in (known | line.extra).items())
    trace = "".join(f"    | {_escape(row)}\n" for row in line.exception.split("\n") if row)
    return f"{clock} {level} {_escape(line.message)}{facts}\n{trace}".encode()


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


class _Intercept(logging.Handler):
    """Hands what aiohttp and asyncio log to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
            known = record.levelname in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
            level = record.levelname if known else record.levelno
            logger.bind(logger=record.name).opt(exception=record.exc_info).log(level, message)
        except Exception:  # noqa: BLE001 - as every logging handler does
            self.handleError(record)


class Logs:
    """The process's log; made by `setup`.

    Attributes:
        format_name: the formatter in use, ``struct``, ``dict`` or ``text``.
    """

    def __init__(self, *, log_format: str, level: str, version: str, stream_fd: int) -> None:
        is_tty = os.isatty(stream_fd)
        self._formats: dict[str, Callable[[LogLine], bytes]] = {
            "struct": _encode,
            "dict": _as_dict,
            "text": lambda line: _as_text(line, is_tty=is_tty),
        }
        self.swap(log_format)
        self._service = f"purgeline/{version}"
        self._writer = LineWriter(stream_fd)
        self._write = self._writer.write
        logger.remove()
        # The template is constant, as loguru needs it, and leaves only the traceback in its message.
        self._sink_id = logger.add(
            self._sink, format=lambda _: "{exception}", level=level, backtrace=False, diagnose=False
        )
        logging.basicConfig(handlers=[_Intercept()], level=level, force=True)

    @property
    def dropped(self) -> int:
        """Lines dropped so far."""
        return self._writer.dropped

    def swap(self, name: str) -> None:
        """Use another formatter from the next line on.

        Raises:
            KeyError: there is no formatter of that name.
        """
        self._format = self._formats[name]
        self.format_name = name

    def cycle(self) -> str:
        """Swap to the next formatter, and return its name."""
        names = list(self._formats)
        self.swap(names[(names.index(self.format_name) + 1) % len(names)])
        return self.format_name

    def subtasks(self, node: str, rows: Sequence[AnswerRow], duration_ms: float) -> None:
        """Log answers of a cache that came together, a line each, past loguru and in one write.

        Args:
            node: that answered.
            rows: the answers.
            duration_ms: how long the oldest of them took.
        """
        now = time.time()
        service = self._service
        lines = [
            LogLine(
                now, "INFO", "subtask", service, "", task_id, node, target,
                _OPERATIONS[operation], status, _OUTCOMES[outcome], duration_ms,
            )
            for task_id, target, operation, status, outcome in rows
        ]  # fmt: skip
        self._writer.write(b"".join(map(self._format, lines)), len(lines))

    def flush(self, timeout_s: float) -> bool:
        """See `LineWriter.flush`."""
        return self._writer.flush(timeout_s)

    def close(self) -> None:
        """Take loguru and logging off this log, and write what is queued."""
        logger.remove(self._sink_id)
        root = logging.getLogger()
        for handler in [handler for handler in root.handlers if isinstance(handler, _Intercept)]:
            root.removeHandler(handler)
        self._writer.close()

    def _sink(self, message: Message) -> None:
        record = message.record
        bound = record["extra"]
        known = {name: value for name, value in bound.items() if name in _DEFAULTED[:-2]}
        line = LogLine(
            record["time"].timestamp(),
            record["level"].name,
            record["message"],
            self._service,
            **known,
            exception=str(message).strip(),
            extra={name: value for name, value in bound.items() if name not in known},
        )
        self._write(self._format(line))


def setup(*, log_format: str, level: str, version: str, stream_fd: int = 2) -> Logs:
    """Send loguru and the standard library's logging to *stream_fd*, and return the log.

    Args:
        log_format: ``struct``, ``dict`` or ``text``.
        level: the least level that is written.
        version: shown in every line as ``service``.
        stream_fd: descriptor to write to; it stays the caller's.

    Raises:
        KeyError: there is no such format.
    """
    return Logs(log_format=log_format, level=level, version=version, stream_fd=stream_fd)

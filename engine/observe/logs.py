"""Log lines: loguru in front, one formatter that can be swapped, one thread that writes.

loguru costs about 10 µs a call, so the line per subtask (`Logs.subtasks`) goes past it, through the same
formatter.

Lines are formatted where they are made. On the writer's thread it was measured to be worse: 60,000
lines cost the caller 3.5-4.1 µs each with pauses of 30-60 ms for the GIL, instead of 2.2-2.9 µs and
5-15 ms (CPython 3.11, busy two-core machine).
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

from loguru import logger

from engine.observe.line_writer import LineWriter
from engine.observe.log_lines import BOUND, LogLine, all_as_struct, as_dict, as_struct, as_text
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loguru import Message

_OPERATIONS = ["", *(operation.name.lower() for operation in Operation)]
_OUTCOMES = [outcome.name.lower() for outcome in Outcome]

AnswerRow = tuple[str, str, int, int, int]
"""A cache's answer: task id, target, operation, status, outcome; enum values as in `engine.tasks.words`."""


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
        self._formats: dict[str, Callable[[Any], bytes]] = {
            "struct": as_struct,
            "dict": as_dict,
            "text": lambda line: as_text(line, is_tty=is_tty),
        }
        self.swap(log_format)
        self.service = self._service = f"purgeline/{version}"  #: as every line names it
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
        self._format_all = all_as_struct if self._format is as_struct else self._format_each
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
        self._writer.write(self._format_all(lines), len(lines))

    def write(self, lines: Sequence[Any]) -> None:
        """Write lines of a structure of their own, past loguru and at once; see `engine.observe.audit`."""
        self._writer.write(self._format_all(lines), len(lines))

    def _format_each(self, lines: Sequence[Any]) -> bytes:
        return b"".join(map(self._format, lines))

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
        known = {name: value for name, value in bound.items() if name in BOUND}
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

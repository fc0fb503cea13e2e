"""The audit: a line for each task that is accepted, refused, cancelled or settled, and for each admin action.

The field ``audit`` is ``accepted``, ``refused``, ``cancelled``, ``retried``, ``rewound``, ``rewind_stopped``,
``settled``, ``silenced`` or ``admin``.

Lines are formatted as all others, by the formatter in use, and written together at the end of a turn.
Token names stand in them, never tokens. Of refusals so many a second and status are told as `_REFUSED_PER_S`,
and how many were left out: a flood of requests without a token is no flood of lines.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from engine.observe.audit_line import AuditLine
from engine.tasks import documents, stored_documents
from engine.tasks.document_types import TaskDocument
from engine.tasks.records import By
from engine.tasks.task import NOBODY

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from engine.tasks.records import Silence
    from engine.tasks.task import Task

_REFUSED: Final = frozenset({401, 403, 409, 413, 422, 429, 503})
_REFUSED_PER_S: Final = 50
_TEXT_MAX_CHARS: Final = 500  #: of a target or a reason


class Lines(Protocol):
    """Where lines go: the process's log."""

    @property
    def service(self) -> str:
        """What writes them, and its version."""

    def write(self, lines: Sequence[Any], /) -> None:
        """Format and write lines."""


class Spans(Protocol):
    """Records what became of tasks; see `engine.observe.tracing`."""

    def settled(self, document: TaskDocument, /) -> None:
        """Record a task that has settled and came with a ``traceparent``."""


class Audit:
    """Writes the lines.

    Args:
        logs: the process's log.
        loop: the engine's.
        is_on: ``log_audit``; without it nothing is written.
        spans: told of tasks that settle as well; None: nobody asked for spans.
    """

    def __init__(
        self, logs: Lines, loop: asyncio.AbstractEventLoop, *, is_on: bool, spans: Spans | None = None
    ) -> None:
        self._logs = logs
        self._loop = loop
        self._is_on = is_on
        self._spans = spans
        self._lines: list[AuditLine] = []
        self._refused: dict[int, int] = {}  # status → how many in this second
        self._refused_until = 0.0  # the end of it, as the loop tells time
        self._service = logs.service

    def accepted(self, task: Task) -> None:
        """Tell that a task was stored."""
        if self._is_on:
            self._of_task("task accepted", "accepted", task, 202, "accepted")

    def settled(self, task: Task) -> None:
        """Tell what became of a task."""
        if self._spans is not None and task.traceparent:
            self._spans.settled(documents.document(task))
        if self._is_on:
            self._of_task("task settled", "settled", task, 0, str(task.state))

    def _of_task(self, message: str, audit: str, task: Task, status: int, outcome: str) -> None:
        by = task.by
        targets = task.targets
        target = targets[0] if targets else ""
        self._add(
            AuditLine(
                time.time(), "INFO", message, self._service, audit, by.token, by.address, by.door, task.id,
                task.action, task.kind, len(targets),
                target if len(target) <= _TEXT_MAX_CHARS else target[:_TEXT_MAX_CHARS], status, outcome,
            )
        )  # fmt: skip

    def settled_late(self, document: dict[str, Any]) -> None:
        """Tell what became of a task that was in the store only; *document* is its own."""
        if self._spans is not None and document.get("traceparent"):
            self._spans.settled(msgspec.convert(stored_documents.public(document), TaskDocument))
        if self._is_on and document["state"] != "cancelled":  # a cancel is told by who asked for it
            by = msgspec.convert(document.get("by", {}), By)
            self._of_document("task settled", "settled", document, by, 0)

    def cancelled(self, document: dict[str, Any], by: By) -> None:
        """Tell that *by* cancelled a task."""
        if self._is_on:
            self._of_document("task cancelled", "cancelled", document, by, 200)

    def retried(self, document: dict[str, Any], by: By, count: int, sent_as: str) -> None:
        """Tell that *by* had what failed of a task sent again: *count* subtasks, as the task *sent_as*."""
        if self._is_on:
            self._of_document("task retried", "retried", document, by, 202)
            self._lines[-1].count, self._lines[-1].outcome = count, sent_as

    def rewound(self, node: str, by: By, count: int, rewind: str) -> None:
        """Tell that *by* had *count* targets sent to a node once more, as the rewind of that name."""
        if self._is_on:
            line = self._line("node rewound", "rewound", by, 202, rewind)
            line.target, line.count = node, count
            self._add(line)

    def rewind_stopped(self, node: str, by: By, count: int, rewind: str) -> None:
        """Tell that *by* stopped a rewind of a node, of which *count* tasks had something left."""
        if self._is_on:
            line = self._line("rewind stopped", "rewind_stopped", by, 200, rewind)
            line.target, line.count = node, count
            self._add(line)

    def silenced(self, message: str, silence: Silence, by: By) -> None:
        """Tell that *by* silenced alerts, or ended a silence; *message* says which."""
        if self._is_on:
            line = self._line(message, "silenced", by, 200, silence.id)
            line.target = ", ".join(silence.matchers)[:_TEXT_MAX_CHARS]
            line.reason = silence.reason[:_TEXT_MAX_CHARS]
            self._add(line)

    def _of_document(self, message: str, audit: str, document: dict[str, Any], by: By, status: int) -> None:
        line = self._line(message, audit, by, status, document["state"])
        line.task_id = document["task_id"]
        line.action, line.kind = document.get("action", ""), document.get("kind", "")
        line.count = document.get("target_count", 0)
        line.target = "".join(document.get("targets", ())[:1])[:_TEXT_MAX_CHARS]
        self._add(line)

    def admin(self, request: str, by: By, status: int, *, behind: str = "") -> None:
        """Tell of an admin action.

        Args:
            request: its method and path.
            by: who asked.
            status: of the answer.
            behind: who asked the engine above that passed it on; empty: none did.
        """
        if self._is_on:
            line = self._line("admin action", "admin", by, status, "done")
            line.request = request[:_TEXT_MAX_CHARS]
            if behind:
                line.door, line.reason = "tree", f"for {behind}"[:_TEXT_MAX_CHARS]
            self._add(line)

    def refused(
        self, status: int, reason: str, by: By, task: Task | None = None, *, request: str = ""
    ) -> None:
        """Tell that a request was refused.

        Args:
            status: of the answer; those that are no matter of who may do what are left out.
            reason: as its client is told.
            by: who asked.
            task: that was refused, where the request could be read so far.
            request: its method and path, where it could not.
        """
        if not self._is_on or status not in _REFUSED or not self._may_tell(status):
            return
        line = self._line("request refused", "refused", by, status, "refused")
        line.reason, line.request = reason[:_TEXT_MAX_CHARS], request[:_TEXT_MAX_CHARS]
        if task is not None:
            line.task_id, line.action, line.kind = task.id, task.action, task.kind
            line.count, line.target = len(task.targets), "".join(task.targets[:1])[:_TEXT_MAX_CHARS]
        self._add(line)

    def _line(self, message: str, audit: str, by: By, status: int, outcome: str) -> AuditLine:
        line = AuditLine(time.time(), "INFO", message, self._service, audit, by.token, by.address, by.door)
        line.status, line.outcome = status, outcome
        return line

    def _may_tell(self, status: int) -> bool:
        """Count a refusal, and tell whether it has a line."""
        now = self._loop.time()
        if now >= self._refused_until:
            self._tell_left_out()
            self._refused_until = now + 1
        count = self._refused[status] = self._refused.get(status, 0) + 1
        if count == _REFUSED_PER_S + 1:
            self._loop.call_at(self._refused_until, self._tell_left_out)
        return count <= _REFUSED_PER_S

    def _tell_left_out(self) -> None:
        """Tell how many refusals of the last second have no line, and count from 0 again."""
        for status, count in self._refused.items():
            if count > _REFUSED_PER_S:
                line = self._line("requests refused", "refused", NOBODY, status, "refused")
                line.left_out = count - _REFUSED_PER_S
                self._add(line)
        self._refused.clear()

    def _add(self, line: AuditLine) -> None:
        if not self._lines:
            self._loop.call_soon(self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write the lines of this turn."""
        lines, self._lines = self._lines, []
        if lines:
            self._logs.write(lines)

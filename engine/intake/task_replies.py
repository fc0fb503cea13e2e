"""Replies about tasks that were handed in before, and to the many tasks of an NDJSON request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.errors import RequestError
from engine.intake.replies import Reply
from engine.tasks import documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.tasks.task import Task

_encode = msgspec.json.encode


def known(task: Task) -> Reply:
    """Return the 200 for a task that was handed in before and is in memory."""
    return Reply(200, _encode(documents.document(task)))


def stored(document: bytes) -> Reply:
    """Return the 200 for a task that was handed in before; *document* is the store's or another worker's."""
    return Reply(200, _encode(documents.public(msgspec.json.decode(document))))


def conflict(task_id: str) -> RequestError:
    """Return the error for an id that a task with another body has."""
    return RequestError(
        409, f"id: {task_id!r} is taken by a task with another body; use a new id", field="id"
    )


class LinesReply:
    """Collects the replies of one NDJSON request, in the order of its lines.

    Args:
        count: of the lines.
        answer: called with one reply for all, when every line has its own.
    """

    def __init__(self, count: int, answer: Callable[[Reply], None]) -> None:
        self._replies: list[bytes] = [b""] * count
        self._missing = count
        self._answer = answer

    def line(self, number: int) -> Callable[[Reply], None]:
        """Return what takes the reply of one line, from 0."""

        def put(reply: Reply) -> None:
            self._replies[number] = reply.body
            self._missing -= 1
            if not self._missing:
                self._answer(Reply(200, b"\n".join(self._replies) + b"\n", "application/x-ndjson"))

        return put

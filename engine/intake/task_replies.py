"""Replies about tasks that were handed in before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.errors import RequestError
from engine.intake.replies import Reply
from engine.tasks import documents

if TYPE_CHECKING:
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

"""Replies about tasks that were handed in before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from engine.errors import RequestError
from engine.intake.replies import Reply
from engine.tasks import documents, stored_documents

if TYPE_CHECKING:
    from engine.tasks.task import Task

_encode = msgspec.json.encode


def known(task: Task) -> Reply:
    """Return the 200 for a task that was handed in before and is in memory."""
    return Reply(200, _encode(documents.document(task)))


def stored(document: dict[str, Any]) -> Reply:
    """Return the 200 for a task that was handed in before; *document* is the store's or another worker's."""
    return Reply(200, _encode(stored_documents.public(document)))


def conflict(task: Task, digest: bytes, token: str) -> RequestError | None:
    """Return why a task is not answered with an older one that has its id, or None when it is the same again.

    Args:
        task: the client's.
        digest: of the older one's body.
        token: name of the token that the older one came with, where that is limited to sites. Such a client
            sees its own tasks only: another's would tell it nothing about what it asked for.
    """
    if task.token and task.token != token:
        detail = f"id: {task.id!r} is taken by a task of another client; use a new id"
    elif task.digest != digest:
        detail = f"id: {task.id!r} is taken by a task with another body; use a new id"
    else:
        return None
    return RequestError(409, detail, field="id")

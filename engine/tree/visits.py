"""What the leaves were found to serve, among what a task's verification came to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from engine.tasks import documents
from engine.tasks.verify import VerifyDocument

if TYPE_CHECKING:
    from engine.tree.piece import Piece
    from engine.tree.words import Report


def fold(piece: Piece, report: Report, told: dict[str, Any], node: str) -> None:
    """Have what the leaves were found to serve among what the task's verification came to, once."""
    task = piece.share.task
    if task.verify is None or piece.is_folded:
        return
    piece.is_folded = True
    document = msgspec.convert(told, VerifyDocument)
    task.verify.fold(node, document, time.time())
    for error in report.errors if document.stale else ():
        documents.add_error(task, f"{node}/{error['node']}", error["target"], error["reason"])

"""What is done otherwise below a child than a task asks, as the child tells it: kept with the task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.api.below import is_leaf, one_line
from engine.tasks.by_region import of_task
from engine.tasks.lower import MARK
from engine.tasks.plan import Note, Skipped
from engine.tree.words import REMARKS_MAX

if TYPE_CHECKING:
    from engine.tree.piece import Piece
    from engine.tree.words import Report


def remark(piece: Piece, report: Report) -> None:
    """Have a task tell which leaves were left out of it, and what others do otherwise, by their names here.

    Names that are none are left out: what a child says is shown to operators.
    """
    if not report.skipped and not report.notes:
        return
    start = piece.share.node.name + MARK
    lower = of_task(piece.share.task, piece.share.node.name)
    lower.skipped = [
        Skipped(start + one.name, one_line(one.reason))
        for one in report.skipped[:REMARKS_MAX]
        if is_leaf(one.name)
    ]
    notes = [
        Note(tuple(start + name for name in one.nodes[:REMARKS_MAX] if is_leaf(name)), one_line(one.note))
        for one in report.notes[:REMARKS_MAX]
    ]
    lower.notes = [one for one in notes if one.nodes]

"""Whether what the child tells of is what was handed down to it: an id alone shows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.tasks.by_region import of_task
from engine.tasks.words import FINAL_STATES

if TYPE_CHECKING:
    from engine.tree.piece import Piece
    from engine.tree.words import Report

_HELD_MAX: Final = 50_000


class Same:
    """The digests of what one child holds, as it was handed down.

    Those of some are in memory, the oldest go first; that of a task is stored with it, too.
    """

    def __init__(self) -> None:
        self._held: dict[str, str] = {}  # id at the child → digest

    def __repr__(self) -> str:
        return f"<Same [{len(self._held)} held]>"

    def is_other(self, piece: Piece, report: Report) -> bool:
        """Tell whether a report is of a task that is not what was handed down, whatever its id.

        Rows whose task was handed down before a restart, or by another worker, count as of a task that asks
        the same of the same targets and of no others.
        """
        if not piece.is_asked_first:
            return report.digest != piece.digest
        digest = self._held.get(piece.id, "") or piece.stored_digest
        if digest:
            return report.digest != digest
        is_told = not report.at_work or report.state in FINAL_STATES or report.acked >= report.total
        return is_told and (not report.name or report.name != piece.name)

    def note_held(self, piece: Piece) -> None:
        """Remember a piece of which rows will be asked for by its id."""
        if piece.is_asked_first or piece.is_part:
            return
        self.forget(piece)
        self._held[piece.id] = piece.digest
        task = piece.share.task
        if task.owner is None:  # stored with it
            of_task(task, piece.share.node.name).digests[piece.id] = piece.digest
        if len(self._held) > _HELD_MAX:
            del self._held[next(iter(self._held))]

    def forget(self, piece: Piece) -> None:
        """Forget a piece."""
        self._held.pop(piece.id, None)
        known = (piece.share.task.lower or {}).get(piece.share.node.name)
        if known is not None:
            known.digests.pop(piece.id, None)

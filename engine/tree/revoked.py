"""Tasks that somebody cancelled in the child itself, while a client here still wants them done.

Who may cancel them there is not who asked for them. So they are handed down again, as parts, after pauses
that grow: first they wait as rows of the delay queue, because the cancel may be on its way from here, by
another engine of this place, whose client's rows are gone by then. Who wants none of it cancels it here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engine.tree.piece import Piece

_MAX: Final = 50_000


class Revoked:
    """Ids of one child's tasks that were told to be cancelled; in memory, the oldest go first."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"<Revoked [{len(self._ids)}]>"

    def note(self, piece: Piece) -> bool:
        """Note that a piece was cancelled there; return whether it was known."""
        was_known = piece.id in self._ids
        self._ids[piece.id] = None
        if len(self._ids) > _MAX:
            del self._ids[next(iter(self._ids))]
        return was_known

    def avoid(self, piece: Piece) -> None:
        """Give a part another id, if the child has one cancelled under that which it has."""
        if piece.is_part and piece.id in self._ids:
            piece.send_as_part(anew=True)

"""Pieces that a child took and knows nothing of when it is asked.

Once that may be: it forgot them, or lost what it had stored. A client of the child may have taken the id,
too, with the same body: so it is known, and told to nobody. From the second time on a piece goes down under
an id that it never had, after pauses that grow.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from loguru import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.observe.counters import Stats
    from engine.tree.piece import Piece

_SAME_MAX: Final = 1  #: how often it is handed down again under the same id
_PAUSE_S: Final = 0.5  #: from then on, twice that each time
_PAUSE_MAX_S: Final = 60.0
_DOUBLED_MAX: Final = 10


class Lost:
    """Decides when such pieces go down again, and as what.

    Args:
        name: of the node.
        stats: counts them.
        hand: hands one down.
    """

    def __init__(self, name: str, stats: Stats, hand: Callable[[Piece], None]) -> None:
        self._name = name
        self._stats = stats
        self._hand = hand

    def __repr__(self) -> str:
        return f"<Lost at {self._name}>"

    def add(self, piece: Piece) -> None:
        """Hand a piece down again, now or later."""
        piece.was_taken = False
        piece.lost_count += 1
        self._stats.tree_lost += 1
        if piece.lost_count <= _SAME_MAX:
            self._hand(piece)
            return
        before = piece.id
        piece.send_as_part(anew=True)
        pause_s = pause_of(piece.lost_count)
        logger.warning(
            "{} took task {} and knows nothing of it: it is handed down as {} in {:g} s",
            self._name,
            before,
            piece.id,
            pause_s,
        )
        asyncio.get_running_loop().call_later(pause_s, self._hand, piece)


def pause_of(lost_count: int) -> float:
    """Return how long a piece waits that was lost so often; seconds."""
    doubled = min(_DOUBLED_MAX, max(0, lost_count - _SAME_MAX - 1))
    return min(_PAUSE_MAX_S, _PAUSE_S * float(1 << doubled))

"""Engines of a tree that break one rule, see `tests.model.fleet.start`; a round has to find each.

``python -m tests.model --processes --tree --broken`` breaks them in turn.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final

from engine.tree.desk import Desk
from engine.tree.fate import Fate
from engine.tree.settling import Settling
from tests.model.fleet.broken import Broken
from tests.model.tree.places import ROOT

if TYPE_CHECKING:
    from engine.tree.piece import Piece
    from engine.tree.words import Report

_told: Final = Settling.told
_is_there: Final = Desk._is_there


def _done_when_told(piece: Piece, *_: object) -> Fate:
    return Fate(done=piece.left)


def _done_again(settling: Settling, piece: Piece, report: Report) -> None:
    is_done = not report.at_work and not report.delayed and report.acked == report.total
    if is_done and not piece.is_part and not piece.is_asked_first:
        settling.hand_as_part(piece)
    else:
        _told(settling, piece, report)


def _never_asked_for(desk: Any, piece: Piece) -> None:
    if zlib.crc32(piece.id.encode()) % 4:
        _is_there(desk, piece)


BROKEN: Final = {
    "tree-done": Broken(
        "what a region has begun is not done",
        (("engine.tree.settling.fate_of", _done_when_told),),
        frozenset({"down", "hang", "slow"}),
        ROOT,
    ),
    "tree-twice": Broken(
        "what is done is not handed down again",
        (("engine.tree.settling.Settling.told", _done_again),),
        frozenset({"none"}),
        ROOT,
    ),
    "tree-lost": Broken(
        "what was handed down is asked for until it is over",
        (("engine.tree.desk.Desk._is_there", _never_asked_for),),
        frozenset({"none"}),
        ROOT,
    ),
}
"""By name; the topology says which engine breaks it."""

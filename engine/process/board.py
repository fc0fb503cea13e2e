"""The assembly of what tells of prefetches of other processes of this engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.nodes.board import Board
from engine.nodes.elsewhere import Elsewhere

if TYPE_CHECKING:
    from engine.process.core import Core


def make_elsewhere(core: Core) -> Elsewhere:
    """Return it; nothing is opened yet."""
    peers, settings = core.peers, core.config.engine
    board = Board(
        Path(settings.data_dir) / "underway",
        0 if peers is None else peers.slot,
        1 if peers is None else peers.count,
        now=time.monotonic,
        max_s=2 * settings.prefetch_timeout_s,
    )
    return Elsewhere(board, core.nodes, core.timer, time.monotonic)

"""The assembly of what answers about the past."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.api.history import HistoryRoutes
from engine.api.recalling import Recalling
from engine.history.recall import Recall
from engine.history.search import Search

if TYPE_CHECKING:
    from engine.process.core import Core


def make_history(core: Core) -> tuple[HistoryRoutes, Recalling]:
    """Return what answers about the history of one engine, and what tells of it what is sent again."""
    keep_s = core.config.engine.history_days * 86400
    search = None
    if keep_s:
        search = Search(
            core.regions,
            lambda: [part for saver in core.savers.savers for part in saver.store.histories],
            keep_s=keep_s,
            shared=core.savers.savers[0].store if core.is_shared else None,
        )
    recall = None if search is None else Recall(search)
    return (
        HistoryRoutes(search, core.history_reader, peers=core.peers, is_shared=core.is_shared),
        Recalling(recall, core.history_reader, peers=core.task_peers),
    )

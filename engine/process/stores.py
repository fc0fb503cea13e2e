"""Where an engine keeps its tasks: its embedded stores, one SQLite file a saver, in the data folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.store.history import HistoryLimits
from engine.store.layout import check_layout
from engine.store.sqlite.rewinds import FolderRewinds
from engine.store.sqlite.store import SqliteStore
from engine.store.sqlite.triggers import SqliteTriggers

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api.rewinding import SharesRewinds
    from engine.base.clock import SteadyClock
    from engine.config.tables import EngineConfig
    from engine.proof.signer import SharesKeys
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.store.store import Store
    from engine.store.triggers import Triggers
    from engine.workers.peers import Peers


class Stores(Protocol):
    """Where the tasks are kept: `EmbeddedStores` or `SharedStore`."""

    @property
    def shared_keys(self) -> SharesKeys | None:
        """Where all engines of the store keep the keys of receipts; None: it is this engine's own."""

    def rewinds(self, is_nobody: Callable[[str], bool]) -> SharesRewinds | None:
        """Return where all that work with the store claim nodes for rewinds; None: this process alone does.

        Args:
            is_nobody: tells whether an engine, by its name in the store, is known to be none that lives.
        """

    def triggers(self) -> Triggers:
        """Return where all that work with the store keep triggers, not open yet."""

    def make(self, number: int) -> Store:
        """Return the store of saver *number*, not open yet."""

    async def open(self, savers: SaverPool, reader: StoreReader) -> None:
        """Open what the savers write to."""


class EmbeddedStores:
    """Makes and opens them.

    Args:
        settings: says where they are, and how many.
        peers: the other workers, under a supervisor; each slot has files of its own.
        clock: by which rows of delay queues wait; the stores keep it.
        is_in_use: the worker before this one still works with the files of this slot.
    """

    def __init__(
        self, settings: EngineConfig, peers: Peers | None, clock: SteadyClock, *, is_in_use: bool
    ) -> None:
        self._folder = Path(settings.data_dir)
        self._count = settings.saver_count
        self._peers = peers
        self._clock = clock
        self._is_in_use = is_in_use
        files = settings.saver_count * (1 if peers is None else peers.count)
        self._history = HistoryLimits(settings.history_days * 86400, settings.history_max_bytes // files)

    shared_keys = None  #: an engine of its own

    def rewinds(self, _is_nobody: Callable[[str], bool]) -> FolderRewinds | None:
        """Return where the workers claim nodes for rewinds."""
        return None if self._peers is None else FolderRewinds(self._folder)

    def triggers(self) -> SqliteTriggers:
        """Return where the workers keep triggers, not open yet."""
        return SqliteTriggers(self._folder / "triggers.db")

    def make(self, number: int) -> SqliteStore:
        """Return the store of saver *number*, not open yet."""
        slot = 0 if self._peers is None else self._peers.slot
        path = self._folder / f"tasks-{slot * self._count + number}.db"
        return SqliteStore(path, clock=self._clock, has_peers=self._peers is not None, history=self._history)

    async def open(self, savers: SaverPool, reader: StoreReader) -> None:
        """Open the stores of all savers.

        Raises:
            StoreError: one cannot be used, or the files are of an engine with other counts.
        """
        slots = 1 if self._peers is None else self._peers.count
        await reader.read(check_layout, self._folder, slots, self._count)
        for saver in savers.savers:
            await reader.read(partial(saver.store.open, is_in_use=self._is_in_use))

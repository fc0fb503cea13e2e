"""Going on with what the store holds: at a start, and after the worker before this one has gone.

A start replays everything before it accepts. During a hot reload the new worker accepts while the old
one still finishes, on the same store; it leaves the old one's journal rows and delay queues alone until
the old one has exited, and then takes over what that did not finish. Its own rows are told from the old
one's by their numbers (`Saver.has_row`) and by the tasks it has in memory. When it is the new one that
dies, the old one, if it serves on, takes over what that left in the same way.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.turns import SLICE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.delivery.parts import Delivery
    from engine.nodes.node import Node
    from engine.notify.stored import StoredCallbacks
    from engine.recovery.rows import ReplayRows
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.saver.saver import Saver
    from engine.store.store import Store
    from engine.tasks.records import Accepted, JournalKey

_WRITE_LIMIT_S: Final = 30.0
_SAVING_S: Final = 0.02  #: pause until it is looked again whether a client's task is saved or refused
_SAVING_LOOKS: Final = 1500


class Replay:
    """Replays what an embedded store holds.

    Args:
        rows: replays one row of the journal.
        savers: whose stores hold the work.
        reader: reads the stores.
        delivery: has the delay queues.
        nodes: name → node.
        callbacks: delivers what was not delivered.
        replayed: set while nothing of an earlier process is left in the store.
        has_peers: another worker of this slot may have the store open too.
        has_predecessor: there is such a worker now, so everything is left to `take_over`.
    """

    def __init__(
        self,
        rows: ReplayRows,
        savers: SaverPool,
        reader: StoreReader,
        delivery: Delivery,
        *,
        nodes: Mapping[str, Node],
        callbacks: StoredCallbacks,
        replayed: asyncio.Event,
        has_peers: bool,
        has_predecessor: bool,
    ) -> None:
        self._rows = rows
        self._savers = savers
        self._reader = reader
        self._queues = delivery.queues
        self._redelivery = delivery.redelivery
        self._gone = delivery.gone
        self._nodes = nodes
        self._callbacks = callbacks
        self._replayed = replayed
        self._has_peers = has_peers
        self._has_predecessor = has_predecessor
        if has_predecessor:
            self._redelivery.hold()

    async def at_start(self) -> None:
        """Replay everything; with a predecessor only keep nodes that have rows from being ready.

        Raises:
            StoreError: the store cannot be read or written.
        """
        if self._has_predecessor:
            for saver in self._savers.savers:
                for name in await self._reader.read(saver.store.depths):
                    if name in self._nodes:
                        self._nodes[name].start_probe()
            return
        await self._replay_all()

    async def take_over(self) -> None:
        """The other worker of this slot has gone: go on with what it left. Safe to call again.

        Raises:
            StoreError: the store cannot be read or written.
        """
        if self._has_peers:
            self._replayed.clear()
            await self._replay_all()

    async def _replay_all(self) -> None:
        """Delay queues, callbacks, journal.

        In that order: rows of tasks that are worked again from the start are dropped before those can
        add new ones, and a node with rows is not ready before they are delivered.
        """
        await self._gone.refresh()
        for number, saver in enumerate(self._savers.savers):
            await self._drop_orphans(saver)
            behind = await self._reader.read(saver.store.nodes_behind)
            await self._queues.load(await self._reader.read(saver.store.depths), behind)
            self._callbacks.written(number, await self._reader.read(saver.store.pending_callbacks))
        self._redelivery.let_go()
        for name in self._queues.names():
            self._deliver_rows_of(name)
        count = 0
        for saver in self._savers.savers:
            count += await self._replay_journal(saver)
        self._replayed.set()
        self._gone.look_soon()
        if count:
            logger.info("{} unfinished tasks taken up", count)

    async def _drop_orphans(self, saver: Saver) -> None:
        """Drop delay-queue rows of tasks that begin again from the start."""
        orphans = await self._reader.read(saver.store.orphans)
        at_rest = [task_id for task_id in orphans if not self._rows.is_in_memory(task_id)]
        if at_rest:
            saver.drop_orphans(at_rest)
            await saver.flushed(_WRITE_LIMIT_S)

    def _deliver_rows_of(self, name: str) -> None:
        """Begin with a node's rows; those of one that is not configured wait, see `GoneNodes`."""
        node = self._nodes.get(name)
        if node is not None:
            node.start_probe()
            self._redelivery.deliver_if_returned(node)

    async def _replay_journal(self, saver: Saver) -> int:
        count = 0
        rows, plans = await self._reader.read(_read_journal, saver.store)
        until = time.monotonic() + SLICE_S
        for key, records in rows:
            if saver.has_row(key):
                continue
            if not await self._none_being_saved(records):
                logger.warning(
                    "journal row {} is left to the next start: its tasks are being saved again", key
                )
                continue
            replayed = self._rows.replay_row(key, records, plans=plans)
            if not replayed:
                saver.settle_journal(key)
            else:
                saver.add_row(key)
            count += replayed
            if self._has_peers and time.monotonic() > until:  # clients are served meanwhile
                await asyncio.sleep(0)
                until = time.monotonic() + SLICE_S
        return count

    async def _none_being_saved(self, records: list[Accepted]) -> bool:
        """Wait until no client's task of a row is being saved: what is then refused has no row of its own."""
        for _ in range(_SAVING_LOOKS):
            if not self._rows.is_being_saved(records):
                return True
            await asyncio.sleep(_SAVING_S)
        return False


def _read_journal(store: Store) -> tuple[list[tuple[JournalKey, list[Accepted]]], dict[bytes, bytes]]:
    """Return the rows of a journal, and key → text of the plans that their tasks were accepted for."""
    rows = list(store.journal())
    return rows, store.plans([record for _, records in rows for record in records])

"""What became of delivered rows: folded into their tasks, in memory or in the store, and the rows dropped."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from engine.tasks.records import Delivered, rows_of
from engine.tasks.words import UNPURGED, Operation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from engine.delivery.endings import Endings
    from engine.delivery.queues import DelayQueues
    from engine.nodes.node import Node
    from engine.observe.counters import Stats
    from engine.saver.reader import StoreReader
    from engine.saver.saver import Saver
    from engine.tasks.records import ParkedRow, RowKey
    from engine.tasks.region import RegionMap

_OTHERS_S: Final = 0.2
FOLDED_MAX: Final = 2000  #: rows in one transaction, about; 10 ms of the loop


class LateResults:
    """Folds the results of late delivery.

    Args:
        reader: reads the store.
        is_shared: other engines work with the same store: a task with rows is in the store only.
    """

    def __init__(
        self,
        regions: RegionMap,
        queues: DelayQueues,
        endings: Endings,
        stats: Stats,
        *,
        reader: StoreReader,
        is_shared: bool,
    ) -> None:
        self._rows_left = 0
        self.unfolded = 0  #: delivered rows whose result is not saved yet
        self._regions = regions
        self._queues = queues
        self._endings = endings
        self._stats = stats
        self._reader = reader
        self._is_shared = is_shared

    async def fold(
        self,
        node: Node,
        saver: Saver,
        done: list[ParkedRow],
        failed: list[tuple[ParkedRow, str]],
        *,
        absent: Collection[RowKey] = (),
    ) -> bool:
        """Fold rows into their tasks and drop them, each in one transaction; wait until that is written.

        A host-wide row is what it stands for. The purge of a host may settle hundreds of thousands of rows:
        they are folded in parts, and the loop goes on in between. What is not folded yet is sent again after
        a crash. Prefetches that wait for a failed purge of the same node fail with it.

        Args:
            node: whose rows these are.
            saver: of the file that holds them.
            done: settled rows.
            failed: rows that were answered, but not with success, and why.
            absent: of the settled rows those of which the cache had nothing.

        Returns:
            False when there are none.

        Raises:
            StoreError: the store cannot be read; what is not folded yet stays in the queue.
        """
        if not done and not failed:
            return False
        for part in _in_parts([*((row, "") for row in done), *failed]):
            await self._fold_part(node, saver, part, absent)
        return True

    async def _fold_part(
        self, node: Node, saver: Saver, rows: list[tuple[ParkedRow, str]], absent: Collection[RowKey]
    ) -> None:
        failed = [(row, reason) for row, reason in rows if reason]
        if failed:
            rows = [*rows, *await self._unpurged(node, saver, failed)]
        now = time.time()
        delivered: dict[tuple[RowKey, int, str], Delivered] = {}
        for row, reason in rows:
            key = (row.key, row.operation, row.target)
            if key not in delivered:
                is_absent = not reason and row.key in absent
                is_told = not self._is_shared and self._fold_in_memory(row, reason, is_absent=is_absent)
                delivered[key] = Delivered(row, node.layer, now, reason, is_told, is_absent)
        self._stats.subtasks_redelivered += len(delivered)
        self.unfolded += len(delivered)
        try:
            await self._drop(saver, node.name, list(delivered.values()))
        finally:
            self.unfolded -= len(delivered)

    async def _drop(self, saver: Saver, name: str, delivered: list[Delivered]) -> None:
        await self._queues.drop(saver, name, delivered)
        if self._rows_left:
            self._rows_left = 0
            await asyncio.sleep(_OTHERS_S)  # they are read again: that worker has hardly begun

    def note_left(self, rows: int) -> None:
        """Rows of tasks that another worker of this slot has accepted were delivered, and stay."""
        self._rows_left += rows

    async def _unpurged(
        self, node: Node, saver: Saver, failed: list[tuple[ParkedRow, str]]
    ) -> list[tuple[ParkedRow, str]]:
        """Return the prefetches that are not to be sent, because their purges failed."""
        purges = [(row.task_id, row.target) for row, _ in failed if row.operation != Operation.PREFETCH]
        if not purges:
            return []
        rows = await self._reader.read(saver.store.prefetches_behind, node.name, purges)
        return [(row, UNPURGED) for row in rows]

    async def fail(self, name: str, saver: Saver, rows: list[ParkedRow], reason: str, *, layer: str) -> None:
        """Fail rows of a node that is not configured any more; wait until that is written.

        Args:
            name: of the node.
            saver: of the file that holds them.
            rows: all of that node.
            reason: as their tasks say it.
            layer: that the node was in; empty: nobody knows.
        """
        for part in _in_parts((row, reason) for row in rows):
            now = time.time()
            delivered = [
                Delivered(row, layer, now, reason, not self._is_shared and self._fold_in_memory(row, reason))
                for row, _ in part
            ]
            await self._drop(saver, name, delivered)

    def _fold_in_memory(self, row: ParkedRow, reason: str, *, is_absent: bool = False) -> bool:
        """Settle a row's subtask when its task is still in memory."""
        task = self._regions.get(row.task_id)
        if task is None or not task.is_committed:
            return False  # not there, or a new one with the same id that is still being compared
        for share in task.shares:
            if share.node.name == row.node and share.operation == row.operation:
                self._endings.settle_late(share, task.index_of(row.target), reason, is_absent=is_absent)
                return True
        return False


def _in_parts(rows: Iterable[tuple[ParkedRow, str]]) -> Iterator[list[tuple[ParkedRow, str]]]:
    """Yield what rows stand for, about `FOLDED_MAX` at a time; none of a row without the others."""
    part: list[tuple[ParkedRow, str]] = []
    for row, reason in rows:
        part += [(one, reason) for one in rows_of(row)]
        if len(part) >= FOLDED_MAX:
            yield part
            part = []
    if part:
        yield part

"""One chunk of one node's rows: which requests they are, sent, and what became of each row."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from engine.delivery.sent import supersedes, url_start_of
from engine.tasks.task import Share, Task
from engine.tasks.words import WIDE, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.delivery.sent import Key, Sent
    from engine.nodes.postponed import Postponed
    from engine.saver.reader import StoreReader
    from engine.store.store import Store
    from engine.tasks.records import ParkedRow
    from engine.tasks.task import NodeRef


class Chunk:
    """The rows of one delivery; it owns the subtasks it sends (`Task.owner`).

    Args:
        node: whose rows these are.
        store: that holds them; *reader* reads it.
        postponed: requests that may not be sent yet; their rows supersede nothing.
        sent: what was sent to the node so far, on a shared store; None on an embedded one.
        ttl_s: older rows are settled unsent; 0: none is. With *sent* only.
    """

    def __init__(
        self,
        node: NodeRef,
        store: Store,
        reader: StoreReader,
        *,
        postponed: Postponed,
        sent: Sent | None,
        ttl_s: float,
    ) -> None:
        self.done_rows: list[ParkedRow] = []  #: they are settled
        self.failed_rows: list[tuple[ParkedRow, str]] = []  #: answered, but not with success; the reason
        self.is_cut = False  #: the node went down again
        self._node = node
        self._store = store
        self._reader = reader
        self._postponed = postponed
        self._sent = sent
        self._ttl_s = ttl_s
        self._rows: dict[Key, list[ParkedRow]] = {}
        self._below: dict[Key, list[ParkedRow]] = {}  # settled by a wide purge, if that is acked
        self._unanswered = 0
        self._began_at = time.time()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, rows: list[ParkedRow]) -> None:
        """Deliver *rows* and all that they stand for.

        Raises:
            StoreError: the store cannot be read.
        """
        if self._sent is not None:
            rows = self._without_settled(rows, self._sent)
        await self._collect(rows)
        if not self._rows:
            return  # cancelled since they were read
        by_operation: dict[int, list[str]] = {}
        for operation, target in self._rows:
            by_operation.setdefault(operation, []).append(target)
        self._unanswered = len(self._rows)
        for operation, targets in by_operation.items():
            task = Task.internal(targets, owner=self, task_id="delayed")
            share = Share(task, self._node, Operation(operation), len(targets))
            self._node.add_backlog(share, range(len(targets)))
        await self._over

    def _without_settled(self, rows: list[ParkedRow], sent: Sent) -> list[ParkedRow]:
        """Settle unsent what has been sent for others, and what is too old to matter; return the rest."""
        oldest_at = self._began_at - self._ttl_s if self._ttl_s else 0
        unsettled = []
        for row in rows:
            if row.parked_at < oldest_at or sent.covers(row):
                self.done_rows.append(row)
            else:
                unsettled.append(row)
        return unsettled

    async def _collect(self, rows: list[ParkedRow]) -> None:
        """Find every row that the requests of this chunk settle."""
        read, store, name = self._reader.read, self._store, self._node.name
        is_waiting = self._postponed.is_waiting
        wide = [
            row
            for row in await read(store.wide_parked, name)
            if row.operation in WIDE and not is_waiting(row.operation, row.target)
        ]
        wanted: dict[Key, None] = {}
        for row in rows:
            over = next((high for high in wide if supersedes(high, row)), None)
            chosen = over or row
            wanted[(chosen.operation, chosen.target)] = None
        for row in await read(store.parked_like, name, list(wanted), [*rows, *wide]):
            self._rows.setdefault((row.operation, row.target), []).append(row)
        newest: dict[Key, ParkedRow] = {}
        for row in wide:
            newest.setdefault((row.operation, row.target), row)
        for key, row in newest.items():
            if key in self._rows:
                below = await read(store.parked_below, name, url_start_of(row), row.seq, rows)
                self._below[key] = [
                    other for other in below if (other.operation, other.target) not in self._rows
                ]

    # Owner of the subtasks

    def acked(self, share: Share, indexes: Sequence[int]) -> None:
        """Note delivered rows."""
        for index in indexes:
            key = (share.operation, share.task.targets[index])
            self.done_rows += self._rows[key]
            self.done_rows += self._below.get(key, ())
            self._postponed.settled(*key)
            if self._sent is not None:
                self._sent.note(key, self._rows[key], self._began_at)
        self._count_answered(len(indexes))

    def failed(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """Note rows that were answered, but not with success."""
        for index in indexes:
            rows = self._rows[(share.operation, share.task.targets[index])]
            self.failed_rows += [(row, reason) for row in rows]
        self._count_answered(len(indexes))

    def parked(self, share: Share, indexes: Sequence[int]) -> None:
        """The node went down again: the rows stay. What was answered wrongly before lets others go first."""
        self.is_cut = True
        for index in share.attempts or ():
            if index in indexes:
                self._node.postpone(share.operation, share.task.targets[index])
        self._count_answered(len(indexes))

    def postponed(self, share: Share, indexes: Sequence[int]) -> None:
        """The cache answered wrongly again and again: the rows stay."""
        self._count_answered(len(indexes))

    def _count_answered(self, count: int) -> None:
        self._unanswered -= count
        if self._unanswered <= 0 and not self._over.done():
            self._over.set_result(None)

"""One chunk of one node's rows: which requests they are, sent, and what became of each row."""

from __future__ import annotations

import asyncio
import hashlib
import time
from math import inf
from typing import TYPE_CHECKING, Final

from engine.delivery.handed_rows import joined
from engine.delivery.sent import supersedes, url_start_of
from engine.tasks.task import Share, Task
from engine.tasks.words import (
    CANCELLED,
    LATE,
    ON_ITS_WAY,
    QUEUED,
    SENT,
    TOGETHER,
    WIDE,
    Operation,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.delivery.handed_rows import HandedRows
    from engine.delivery.sent import Key, Sent
    from engine.nodes.postponed import Postponed
    from engine.saver.reader import StoreReader
    from engine.store.store import Store
    from engine.tasks.lower import Lower
    from engine.tasks.records import ParkedRow, RowKey
    from engine.tasks.task import NodeRef

_DIGEST_BYTES: Final = 16


class Chunk:
    """The rows of one delivery; it owns the subtasks it sends (`Task.owner`).

    A node that is an engine is asked first for the task that rows are of. So rows of one task settle none of
    another's there: what was done for that one may be older, or was done on some of the leaves alone.

    Args:
        node: whose rows these are.
        store: that holds them; *reader* reads it.
        postponed: requests that may not be sent yet, or are held; their rows supersede nothing.
        sent: what was sent to the node so far, on a shared store; None on an embedded one, and where
            *handed* is told.
        now: UNIX time that the age of rows is counted to, see `SteadyClock`.
        ttl_s: older rows fail unsent; 0: none does.
        handed: knows what a node that is an engine was handed; None: it is a cache, which knows no tasks.
    """

    def __init__(
        self,
        node: NodeRef,
        store: Store,
        reader: StoreReader,
        *,
        postponed: Postponed,
        sent: Sent | None,
        now: float,
        ttl_s: float,
        handed: HandedRows | None = None,
    ) -> None:
        self.done_rows: list[ParkedRow] = []  #: they are settled
        self.absent_rows: set[RowKey] = set()  #: of them those of which the cache had nothing
        self.failed_rows: list[tuple[ParkedRow, str]] = []  #: answered with no success, or too old; why
        self.parted_rows: list[ParkedRow] = []  #: host-wide ones, answered with no success
        self.below: dict[
            str, tuple[ParkedRow, Lower]
        ] = {}  #: task → what the engine that the node is told of it
        self.is_cut = False  #: the node went down again
        self._node = node
        self._store = store
        self._reader = reader
        self._postponed = postponed
        self._sent = None if handed is not None else sent
        self._ttl_s = ttl_s
        self._handed = handed
        self._rows: dict[Key, list[ParkedRow]] = {}
        self._below: dict[Key, list[ParkedRow]] = {}  # settled by a wide purge, if that is acked
        self._shares: list[Share] = []
        self._cancelled: set[str] = set()  # tasks whose rows have gone from the store meanwhile
        self._unanswered = 0
        self._now = now
        self._oldest_at = now - ttl_s if ttl_s else 0.0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, rows: list[ParkedRow]) -> None:
        """Deliver *rows* and all that they stand for.

        Raises:
            StoreError: the store cannot be read.
        """
        rows = self._without_expired(rows)
        if self._sent is not None:
            rows = self._without_settled(rows, self._sent)
        if rows:
            await self._collect(rows)
        for key in [key for key, wanted_by in self._rows.items() if self._is_cancelled(wanted_by)]:
            del self._rows[key]
        if not self._rows:
            return  # none is to be sent, or they were cancelled since they were read
        self._unanswered = len(self._rows)
        for operation, of, lower, targets in await self._together():
            rows = [row for target in targets for row in self._rows[operation, target]]
            newest_at = max(row.parked_at for row in rows)
            task = Task.internal(targets, owner=self, task_id=_name_of(of, rows))
            task.lower = None if lower is None else {self._node.name: lower}
            task.created_at = newest_at
            task.updated_at = time.time() - (self._now - newest_at)  # the same, by this machine's clock
            share = Share(task, self._node, Operation(operation), len(targets))
            self._shares.append(share)
            self._node.add_backlog(share, range(len(targets)))
        await self._over

    async def _together(self) -> list[tuple[int, tuple[str, ...], Lower | None, list[str]]]:
        """Return what is sent together: operation, the tasks it is of, what is known of these, targets.

        The tasks are those that a node must be told of: there are none, unless it is an engine.
        """
        handed = self._handed
        together: dict[tuple[int, tuple[str, ...]], list[str]] = {}
        for (operation, target), wanted_by in self._rows.items():
            of = () if handed is None else tuple(sorted({row.task_id for row in wanted_by}))
            together.setdefault((operation, of), []).append(target)
        if handed is None:
            return [(operation, of, None, targets) for (operation, of), targets in together.items()]
        known = await handed.known(self._store, self._node.name, {name for _, of in together for name in of})
        return [
            (operation, of, joined([known.get(name) for name in of]), targets)
            for (operation, of), targets in together.items()
        ]

    def forget(self, task_id: str) -> None:
        """A task was cancelled, and its rows have gone: what no other task waits for is not sent any more.

        What is on the wire is not sent again, should it get no answer; see `Retries`.
        """
        self._cancelled.add(task_id)
        for share in self._shares:
            states, targets = share.states, share.task.targets
            gone = [
                index
                for index, state in enumerate(list(states))
                if state in ON_ITS_WAY and self._is_cancelled(self._rows[share.operation, targets[index]])
            ]
            queued = [index for index in gone if states[index] == QUEUED]
            unanswered = sum(states[index] != SENT for index in gone)
            for index in gone:
                states[index] = CANCELLED
            self._node.forget(share, queued)
            if unanswered:
                self._count_answered(unanswered)

    def _is_cancelled(self, rows: list[ParkedRow]) -> bool:
        return bool(self._cancelled) and all(row.task_id in self._cancelled for row in rows)

    def _without_expired(self, rows: list[ParkedRow]) -> list[ParkedRow]:
        """Fail rows that waited too long; return the rest."""
        fresh = self._fresh(rows)
        if len(fresh) < len(rows):
            for row in rows:
                if row.parked_at < self._oldest_at:
                    reason = too_old(self._now - row.parked_at, self._ttl_s)
                    self.failed_rows.append((row, reason))
        return fresh

    def _fresh(self, rows: list[ParkedRow]) -> list[ParkedRow]:
        """Return the rows that are not too old; the others fail when it is their turn, whatever is sent."""
        return [row for row in rows if row.parked_at >= self._oldest_at]

    def _without_settled(self, rows: list[ParkedRow], sent: Sent) -> list[ParkedRow]:
        """Settle unsent what has been sent for others; return the rest."""
        unsettled = []
        for row in rows:
            if sent.covers(row):
                self.done_rows.append(row)
            else:
                unsettled.append(row)
        return unsettled

    async def _collect(self, rows: list[ParkedRow]) -> None:
        """Find every row that the requests of this chunk settle."""
        read, store, name = self._reader.read, self._store, self._node.name
        may_supersede = self._postponed.supersedes
        wide = [
            row
            for row in self._fresh([] if self._handed is not None else await read(store.wide_parked, name))
            if row.operation in WIDE and may_supersede(row.operation, row.target)
        ]
        wanted: dict[Key, None] = {}
        for row in rows:
            over = next((high for high in wide if supersedes(high, row)), None)
            chosen = over or row
            wanted[(chosen.operation, chosen.target)] = None
        for row in self._fresh(await read(store.parked_like, name, list(wanted), [*rows, *wide])):
            self._rows.setdefault((row.operation, row.target), []).append(row)
        newest: dict[Key, ParkedRow] = {}
        for row in wide:
            newest.setdefault((row.operation, row.target), row)
        for key, row in newest.items():
            if key in self._rows:
                below = await read(store.parked_below, name, url_start_of(row), row.seq, rows)
                self._below[key] = [
                    other
                    for other in self._fresh(below)
                    if supersedes(row, other) and (other.operation, other.target) not in self._rows
                ]

    # Owner of the subtasks

    def acked(self, share: Share, indexes: Sequence[int], *, is_absent: bool = False) -> None:
        """Note delivered rows."""
        for index in indexes:
            key = (share.operation, share.task.targets[index])
            self._note_below(share, self._rows[key])
            self.done_rows += self._rows[key]
            if is_absent:
                self.absent_rows.update(row.key for row in self._rows[key])
            self.done_rows += self._below.get(key, ())
            self._postponed.settled(*key)
            if self._sent is not None:
                self._sent.note(key, self._rows[key])
        self._count_answered(len(indexes))

    def failed(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """Note rows that were answered, but not with success."""
        for index in indexes:
            rows = self._rows[(share.operation, share.task.targets[index])]
            self.failed_rows += [(row, reason) for row in rows if not row.stands_for]
            self.parted_rows += [row for row in rows if row.stands_for]
        self._count_answered(len(indexes))

    def parked(self, share: Share, indexes: Sequence[int]) -> None:
        """The node went down again: the rows stay."""
        self.is_cut = True
        self._count_answered(len(indexes))

    def postponed(self, share: Share, indexes: Sequence[int]) -> None:
        """The cache answered wrongly again and again: the rows stay."""
        for index in indexes:
            self._note_below(share, self._rows[share.operation, share.task.targets[index]])
        self._count_answered(len(indexes))

    def _note_below(self, share: Share, rows: Iterable[ParkedRow]) -> None:
        """Note what the engine that the node is told of rows."""
        lower = None if share.task.lower is None else share.task.lower[self._node.name]
        if lower is not None and (lower.reason or lower.has_remarks):
            for row in rows:
                self.below[row.task_id] = (row, lower)

    def acked_beside(self, share: Share, index: int, began_at: float, now: float) -> float:
        """Settle rows that were first acked before all of the prefetches began; the others are sent again."""
        key = (share.operation, share.task.targets[index])
        rows = [*self._rows[key], *self._below.get(key, ())]
        first_acked_at = self._postponed.acked_beside(*key, [(self._store, row.key) for row in rows], now)
        waits_from = -inf
        for part in (self._rows, self._below):
            left: list[ParkedRow] = []
            for row in part.get(key, ()):
                first_at = first_acked_at[self._store, row.key]
                if first_at < began_at:
                    self.done_rows.append(row)
                else:
                    left.append(row)
                    waits_from = max(waits_from, first_at)
            part[key] = left
        return waits_from

    def _count_answered(self, count: int) -> None:
        self._unanswered -= count
        if self._unanswered <= 0 and not self._over.done():
            self._over.set_result(None)


def _name_of(of: Sequence[str], rows: Iterable[ParkedRow]) -> str:
    """Return what the internal task is called that sends what *rows* ask for.

    Args:
        of: their tasks; none: the node knows no tasks. One is named: the node may have it. Several are
            named by a digest of their rows, the same whenever these are sent.
        rows: of all of its targets.
    """
    if not of:
        return "delayed"
    if len(of) == 1:
        return f"{LATE}{of[0]}"
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for text in sorted(f"{row.task_id} {row.key} {row.parked_at!r}\n" for row in rows):
        digest.update(text.encode())
    return f"{TOGETHER}{digest.hexdigest()}"


def too_old(age_s: float, ttl_s: float, *, engine: str = "") -> str:
    """Return why a row fails that waited longer than it may; *engine*: the node is one, of this name."""
    if engine:
        return (
            f"held below, or never taken: {engine} told of no end in {age_s:.0f} s, longer than delay_ttl_s "
            f"({ttl_s:g}); what it took it may still do"
        )
    return f"not sent: it waited {age_s:.0f} s, longer than delay_ttl_s ({ttl_s:g})"

"""Delay queues: the subtasks of unreachable nodes, on disk, and their delivery.

The talk's list per host. Rows are written by the savers and survive a restart; memory holds only a
count per node. When a node answers again its rows are delivered oldest first, a chunk at a time:

- rows for the same operation and target are one request and all settled by it;
- the row of a prefix or host purge supersedes the older rows of URLs under it;
- a row that waits for its parents' own delivery is let go by that.

A node counts as ready when none of its rows is left. New subtasks go out beside the delivery, and wait in
memory behind the last chunk; if they joined the queue, a busy engine would never catch up.

With a shared store one engine at a time delivers a node's queue (`Claims`); the others wait until it is
empty. It remembers what it has sent: an older row for the same, or for a URL under a prefix that was
purged, is settled by that and not sent again. *Older* leaves room for clocks that differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from loguru import logger

from engine.base.futures import settle_once
from engine.errors import StoreError
from engine.nodes.health import NodeState
from engine.tasks.records import Delivered, Depth, Parked, ParkedRow, RowKey
from engine.tasks.task import NodeRef, Share, Task
from engine.tasks.words import URLS, WIDE, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.delivery.dispatch import Dispatch
    from engine.nodes.node import Node
    from engine.saver.reader import StoreReader
    from engine.saver.saver import Saver

_CHUNK_ROWS: Final = 2000
_READ_RETRY_S: Final = 1.0
_OTHER_DELIVERS_S: Final = 0.2
_SENT_MAX: Final = 200_000
_WRITE_LIMIT_S: Final = 30.0
_CLOCKS_S: Final = 30.0  #: clocks of engines differ by less


class Claims(Protocol):
    """Who may deliver a node's queue, among engines that share it."""

    async def take(self, node: str) -> bool:
        """Claim a node's queue, or keep it; False: another engine has it."""

    async def give_back(self, node: str) -> None:
        """Let others have it."""


class DelayQueues:
    """All delay queues.

    Args:
        dispatch: told what was delivered.
        reader: reads the store.
        ttl_s: older rows of a shared store are settled unsent: no cache holds anything that old.
    """

    def __init__(self, dispatch: Dispatch, reader: StoreReader, *, ttl_s: float = 0) -> None:
        self.claims: Claims | None = None  #: with a shared store
        self.ttl_s = ttl_s
        self.sent: dict[str, Sent] = {}
        self._dispatch = dispatch
        self.reader = reader
        self._loop = asyncio.get_running_loop()
        self._counts: dict[str, dict[Saver, _Count]] = {}
        self._counting = asyncio.Lock()
        self._oldest_at: dict[str, float] = {}
        self._behind: set[str] = set()  # nodes that have, or had, rows waiting for their parents
        self._again: set[str] = set()  # nodes to look at once more
        self._deliveries: dict[str, asyncio.Task[None]] = {}
        self.unfolded = 0  #: delivered rows whose result is not saved yet
        self.is_held = False  #: the worker before this one still delivers

    def __repr__(self) -> str:
        return f"<DelayQueues [{self.total()} rows of {len(self.names())} nodes]>"

    async def load(self, depths: dict[str, Depth], behind: list[str]) -> None:
        """Take over what the store holds; call once per store file.

        Args:
            depths: of each node's queue.
            behind: nodes with rows that wait for their parents.

        Raises:
            StoreError: the store cannot be read.
        """
        self._behind.update(behind)
        for name, depth in depths.items():
            self._oldest_at[name] = min(self._oldest_at.get(name, depth.oldest_at), depth.oldest_at)
            await self.recount(name)

    def names(self) -> list[str]:
        """Return the nodes that have rows."""
        return [name for name in self._counts if self.depth(name)]

    async def recount(self, name: str) -> None:
        """Take the store's count over; rows also go without being counted here (a cancelled task's).

        Raises:
            StoreError: the store cannot be read, or does not write in time.
        """
        async with self._counting:  # two at a time would both put the same mistake right
            for saver in self._dispatch.savers.savers:
                count = self._count(name, saver)
                if saver.store.is_shared:
                    count.depth = (await self.reader.read(saver.store.depth, name)).count
                    continue
                pin, known = await saver.pinned(count.known, _WRITE_LIMIT_S)
                found = await self.reader.read(pin, name)
                count.depth += found - known

    def _count(self, name: str, saver: Saver) -> _Count:
        return self._counts.setdefault(name, {}).setdefault(saver, _Count())

    def depth(self, name: str) -> int:
        """Return how many rows a node has."""
        return max(0, sum(count.depth for count in self._counts.get(name, {}).values()))

    def oldest_s(self, name: str) -> float:
        """Return the age of a node's oldest row, in seconds; 0 when there is none."""
        return max(0.0, time.time() - self._oldest_at[name]) if self.depth(name) else 0.0

    def total(self) -> int:
        """Return how many rows all nodes have."""
        return sum(map(self.depth, self._counts))

    def park(self, node: NodeRef, task_id: str, rows: list[Parked]) -> None:
        """Add a task's rows to a node's queue."""
        name = node.name
        if rows[0].after:
            self._behind.add(name)
        if not self.depth(name):
            self._oldest_at[name] = rows[0].parked_at
        saver = self._dispatch.savers.of(task_id)
        saver.park(rows, self._count(name, saver).come(len(rows)))

    def unpark(self, task_id: str, counts: dict[str, int]) -> None:
        """Drop all rows of a task that is cancelled: node → how many there are."""
        saver = self._dispatch.savers.of(task_id)
        gone = [self._count(name, saver).go(count) for name, count in counts.items()]
        saver.unpark_task(task_id, partial(_call_all, gone))

    def written(self, rows: list[Parked]) -> None:
        """Rows went into a shared store with their task: others may deliver them, or we."""
        for name in dict.fromkeys(row.node for row in rows):
            if not self.depth(name):
                self._oldest_at[name] = next(row.parked_at for row in rows if row.node == name)
            self._count(name, self._dispatch.savers.savers[0]).depth += sum(row.node == name for row in rows)
            node = self._dispatch.nodes.get(name)
            if node is not None and node.state in {NodeState.READY, NodeState.CATCHING_UP}:
                self.deliver(node)

    def refresh(self, depths: dict[str, Depth]) -> None:
        """Take over how full a shared store's queues are, and deliver what nodes that are ready have."""
        saver = self._dispatch.savers.savers[0]
        for name in self._counts.keys() | depths.keys():
            self._count(name, saver).depth = depths[name].count if name in depths else 0
        self._oldest_at.update({name: depth.oldest_at for name, depth in depths.items()})
        for name, depth in depths.items():
            node = self._dispatch.nodes.get(name)
            if node is not None and depth.ready and node.state is NodeState.READY:
                self.deliver(node)

    async def drop(self, saver: Saver, name: str, delivered: list[Delivered]) -> None:
        """Drop delivered rows of a node, and tell their tasks; wait until that is written."""
        written: asyncio.Future[None] = self._loop.create_future()
        gone = self._count(name, saver).go(len(delivered))
        saver.deliver(delivered, partial(_call_all, [gone, partial(settle_once, written, None)]))
        await written

    def deliver(self, node: Node) -> None:
        """Deliver a node's queue, unless that is under way."""
        running = self._deliveries.get(node.name)
        self._again.add(node.name)
        if self.is_held:
            node.begin_delivery()
            return
        if running is None or running.done():
            self._deliveries[node.name] = self._loop.create_task(self._deliver(node))

    def deliver_if_returned(self, node: Node) -> None:
        """Deliver the queue of a node that came back while deliveries were held."""
        if node.state in {NodeState.RETURNING, NodeState.CATCHING_UP}:
            self.deliver(node)

    def deliver_released(self) -> None:
        """Rows may have been let go by their parents: deliver those of reachable nodes."""
        for name in self._behind:
            node = self._dispatch.nodes.get(name)
            if node is not None and node.state in {NodeState.READY, NodeState.CATCHING_UP}:
                self.deliver(node)

    async def _deliver(self, node: Node) -> None:
        """Deliver until nothing is left, or the node goes down again.

        Between the last look at `_again` and the end nothing is awaited: who asks for a delivery meanwhile
        would find this one under way, and it would not come.
        """
        self._again.add(node.name)
        while node.name in self._again and not self._is_over(node):
            self._again.discard(node.name)
            try:
                while await self._deliver_turn(node):
                    pass
                self.sent.pop(node.name, None)
                if self.claims is not None:
                    await self.claims.give_back(node.name)
                with contextlib.suppress(StoreError):  # what is known here stays the count
                    await self.recount(node.name)
            except Exception as exc:  # noqa: BLE001 - a delivery that ends for good would leave its rows
                if not isinstance(exc, StoreError):
                    logger.exception("the delivery of {} failed and is tried again", node.name)
                self._dispatch.on_alert("store:read", "error", str(exc))
                self._again.add(node.name)
                if self.claims is not None:
                    with contextlib.suppress(StoreError):
                        await self.claims.give_back(node.name)
                await asyncio.sleep(_READ_RETRY_S)

    async def _deliver_turn(self, node: Node) -> bool:
        """Deliver a chunk, unless another engine does; return whether to go on."""
        if self.claims is None or self._is_over(node) or await self.claims.take(node.name):
            return await self._deliver_chunk(node)
        if node.state is NodeState.READY:
            return False
        node.begin_delivery()
        store = self._dispatch.savers.savers[0].store
        if not await self.reader.read(store.oldest_parked, node.name, 1, True):
            return await self._nothing_left(node)
        await asyncio.sleep(_OTHER_DELIVERS_S)
        return not self._is_over(node)

    def _is_over(self, node: Node) -> bool:
        return node.state is NodeState.DOWN or self._dispatch.is_stopped

    async def _deliver_chunk(self, node: Node) -> bool:
        """Deliver the oldest rows; return whether to go on.

        A node is ready when its purges are delivered; prefetches may take long and come after that.
        """
        if self._is_over(node):
            return False
        savers = self._dispatch.savers.savers
        purges_only = node.state is not NodeState.READY
        chunks = [
            await self.reader.read(saver.store.oldest_parked, node.name, _CHUNK_ROWS, purges_only)
            for saver in savers
        ]
        self._note_oldest(node.name, chunks)
        if not any(chunks):
            return await self._nothing_left(node)
        if node.state is NodeState.RETURNING and sum(map(len, chunks)) < _CHUNK_ROWS:
            node.catch_up()
        for saver, rows in zip(savers, chunks, strict=True):
            if rows and not await _Delivery(self, self._dispatch, node, saver).run(rows):
                break  # it went down, and may be back by now: ask again
        return True

    async def _nothing_left(self, node: Node) -> bool:
        if any(count.coming for count in self._counts.get(node.name, {}).values()):
            await self._dispatch.savers.flushed()  # then the rows that come can be read
        elif node.state is NodeState.RETURNING:
            node.catch_up()  # one more look, with new ones kept back
        elif node.state is NodeState.CATCHING_UP:
            node.is_ready_now()
        else:
            return False
        return True

    def _note_oldest(self, name: str, chunks: list[list[ParkedRow]]) -> None:
        if any(chunks):
            self._oldest_at[name] = min(rows[0].parked_at for rows in chunks if rows)

    async def drop_unknown(self, name: str) -> None:
        """Fail the rows of a node that is not configured any more, and let their children go."""
        reason = f"{name} is not configured any more"
        for saver in self._dispatch.savers.savers:
            while rows := await self.reader.read(saver.store.parked_of, name, _CHUNK_ROWS):
                now = time.time()
                await self.drop(saver, name, [Delivered(row, "", now, reason) for row in rows])
        self.deliver_released()

    async def stop(self) -> None:
        """Stop delivering; the rows stay."""
        for task in self._deliveries.values():
            task.cancel()
        await asyncio.gather(*self._deliveries.values(), return_exceptions=True)


class Sent:
    """What a delivery has sent to a node, to know which older rows that settles."""

    def __init__(self) -> None:
        self._at: dict[tuple[int, str], float] = {}
        self._wide: dict[tuple[int, str], ParkedRow] = {}

    def note(self, key: tuple[int, str], rows: Sequence[ParkedRow], at: float) -> None:
        """A request was acked that was sent at *at*, for *rows*."""
        if len(self._at) >= _SENT_MAX:
            self._at.clear()
        self._at[key] = at
        if rows and rows[0].operation in WIDE:
            self._wide[key] = msgspec.structs.replace(rows[0], seq=at - _CLOCKS_S)

    def covers(self, row: ParkedRow) -> bool:
        """Tell whether what was sent did what *row* asks for, surely after it asked."""
        at = self._at.get((row.operation, row.target))
        if at is not None and row.seq < at - _CLOCKS_S:
            return True
        return any(_supersedes(wide, row) for wide in self._wide.values())


class _Delivery:
    """One chunk of one node's rows: sent, and what became of it written in one batch.

    It owns the subtasks it sends (`Task.owner`).
    """

    def __init__(self, delay: DelayQueues, dispatch: Dispatch, node: Node, saver: Saver) -> None:
        self._delay = delay
        self._dispatch = dispatch
        self._node = node
        self._saver = saver
        self._rows: dict[tuple[int, str], list[ParkedRow]] = {}
        self._below: dict[tuple[int, str], list[ParkedRow]] = {}  # settled by a wide purge, if that is acked
        self._left = 0
        self._is_cut = False
        self._began_at = time.time()
        self._sent = delay.sent.setdefault(node.name, Sent()) if delay.claims is not None else None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done_rows: list[ParkedRow] = []
        self._failed_rows: list[tuple[ParkedRow, str]] = []

    async def run(self, rows: list[ParkedRow]) -> bool:
        """Deliver *rows* and all that they stand for. Returns False when the node went down."""
        if self._sent is not None:
            rows = self._without_settled(rows, self._sent)
        await self._collect(rows)
        if not self._rows:
            await self._write()
            return True  # cancelled since they were read
        by_operation: dict[int, list[str]] = {}
        for operation, target in self._rows:
            by_operation.setdefault(operation, []).append(target)
        self._left = len(self._rows)
        for operation, targets in by_operation.items():
            task = Task.internal(targets, owner=self, task_id="delayed")
            share = Share(task, self._node, Operation(operation), len(targets))
            self._node.add_backlog(share, range(len(targets)))
        await self._over
        await self._write()
        return not self._is_cut

    def _without_settled(self, rows: list[ParkedRow], sent: Sent) -> list[ParkedRow]:
        """Settle unsent what has been sent for others, and what is too old to matter; return the rest."""
        oldest_at = self._began_at - self._delay.ttl_s if self._delay.ttl_s else 0
        left = []
        for row in rows:
            if row.parked_at < oldest_at or sent.covers(row):
                self._done_rows.append(row)
            else:
                left.append(row)
        return left

    async def _collect(self, rows: list[ParkedRow]) -> None:
        """Find every row that the requests of this chunk settle."""
        read, store, name = self._delay.reader.read, self._saver.store, self._node.name
        wide = [row for row in await read(store.wide_parked, name) if row.operation in WIDE]
        wanted: dict[tuple[int, str], None] = {}
        for row in rows:
            over = next((high for high in wide if _supersedes(high, row)), None)
            chosen = over or row
            wanted[(chosen.operation, chosen.target)] = None
        for row in await read(store.parked_like, name, list(wanted), [*rows, *wide]):
            self._rows.setdefault((row.operation, row.target), []).append(row)
        newest: dict[tuple[int, str], ParkedRow] = {}
        for row in wide:
            newest.setdefault((row.operation, row.target), row)
        for key, row in newest.items():
            if key in self._rows:
                below = await read(store.parked_below, name, _covers(row), row.seq, rows)
                self._below[key] = [
                    other for other in below if (other.operation, other.target) not in self._rows
                ]

    # Owner of the subtasks

    def acked(self, share: Share, indexes: Sequence[int]) -> None:
        """Note delivered rows."""
        for index in indexes:
            key = (share.operation, share.task.targets[index])
            self._done_rows += self._rows[key]
            self._done_rows += self._below.get(key, ())
            if self._sent is not None:
                self._sent.note(key, self._rows[key], self._began_at)
        self._less(len(indexes))

    def failed(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """Note rows that were answered, but not with success."""
        for index in indexes:
            rows = self._rows[(share.operation, share.task.targets[index])]
            self._failed_rows += [(row, reason) for row in rows]
        self._less(len(indexes))

    def parked(self, share: Share, indexes: Sequence[int]) -> None:
        """The node went down again: the rows stay."""
        self._is_cut = True
        self._less(len(indexes))

    def _less(self, count: int) -> None:
        self._left -= count
        if self._left <= 0 and not self._over.done():
            self._over.set_result(None)

    # Afterwards

    async def _write(self) -> None:
        """Fold what was delivered into its tasks and drop the rows, in one transaction."""
        if not self._done_rows and not self._failed_rows:
            return
        now = time.time()
        delivered: dict[RowKey, Delivered] = {}
        for row, reason in [*((row, "") for row in self._done_rows), *self._failed_rows]:
            if row.key not in delivered:
                is_told = self._delay.claims is None and self._fold_in_memory(row, reason)
                delivered[row.key] = Delivered(row, self._node.layer, now, reason, is_told)
        self._dispatch.stats.subtasks_redelivered += len(delivered)
        self._delay.unfolded += len(delivered)
        try:
            await self._delay.drop(self._saver, self._node.name, list(delivered.values()))
        finally:
            self._delay.unfolded -= len(delivered)
        self._delay.deliver_released()

    def _fold_in_memory(self, row: ParkedRow, reason: str) -> bool:
        """Settle a row's subtask when its task is still in memory."""
        task = self._dispatch.regions.get(row.task_id)
        if task is None or not task.is_committed:
            return False  # not there, or a new one with the same id that is still being compared
        for share in task.shares:
            if share.node is self._node and share.operation == row.operation:
                index = task.index_of(row.target)
                if reason:
                    self._dispatch.late_failed(task, share, index, reason)
                else:
                    self._dispatch.late_acked(task, share, index)
                return True
        return False


class _Count:
    """Rows of one node in one saver's file."""

    __slots__ = ("coming", "depth", "going")

    def __init__(self) -> None:
        self.depth = 0  #: with what is still to be written, without what is still to be dropped
        self.coming = 0  #: queued to be written
        self.going = 0  #: queued to be dropped

    def known(self) -> int:
        """Return how many rows the file should hold between two commits."""
        return self.depth - self.coming + self.going

    def come(self, rows: int) -> Callable[[], None]:
        """Count rows in that are queued; return what to call when they are written."""
        self.depth += rows
        self.coming += rows

        def written() -> None:
            self.coming -= rows

        return written

    def go(self, rows: int) -> Callable[[], None]:
        """Count rows out that are queued to be dropped; return what to call when they are gone."""
        self.depth -= rows
        self.going += rows

        def gone() -> None:
            self.going -= rows

        return gone


def _call_all(functions: Sequence[Callable[[], None]]) -> None:
    for function in functions:
        function()


def _covers(row: ParkedRow) -> str:
    """Return the start, without scheme, of every URL that a wide purge takes."""
    if row.operation in {Operation.PURGE_HOST, Operation.SOFT_HOST}:
        return f"{row.target}/"
    return row.target.partition("://")[2]


def _supersedes(wide: ParkedRow, row: ParkedRow) -> bool:
    """Return whether *wide*, queued later, drops all that *row* would; a soft one only what is soft."""
    if wide.seq <= row.seq or row.operation not in URLS:
        return False
    if (
        wide.operation in {Operation.SOFT_PREFIX, Operation.SOFT_HOST}
        and row.operation == Operation.PURGE_URL
    ):
        return False
    return row.target.partition("://")[2].startswith(_covers(wide))

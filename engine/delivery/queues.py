"""Delay queues: the subtasks of unreachable nodes, on disk, and what is known of them here.

The talk's list per host. Rows are written by the savers and survive a restart; memory holds only a
count per node and saver. `Redelivery` empties the queues.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

from engine.base.background import Background
from engine.base.futures import settle_once
from engine.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.delivery.full_queues import FullQueues
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.saver.saver import Saver
    from engine.tasks.records import Delivered, Depth, Joined, Parked

_WRITE_LIMIT_S: Final = 30.0


class DelayQueues:
    """How many rows each node has, from parking to dropping.

    Args:
        savers: write the rows.
        reader: reads the store.
        full: told how many rows a node has.
        now: UNIX time that the age of rows is counted to, see `SteadyClock`.
    """

    def __init__(
        self, savers: SaverPool, reader: StoreReader, full: FullQueues, *, now: Callable[[], float]
    ) -> None:
        self.behind: set[str] = set()  #: nodes that have, or had, rows waiting for their parents
        self.on_written: Callable[[str, Sequence[Parked]], None] = _ignore
        """Told of a node that got rows in a shared store, and of those."""
        self.on_cancelled: Callable[[str], None] = _ignore  #: told of a task whose rows are dropped
        self._savers = savers
        self._reader = reader
        self._full = full
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._counts: dict[str, dict[Saver, _Count]] = {}
        self._counting = asyncio.Lock()
        self._background = Background()
        self._oldest_at: dict[str, float] = {}
        self._joined: set[str] = set()  # nodes that have, or had, host-wide rows since the start

    def __repr__(self) -> str:
        return f"<DelayQueues [{self.total()} rows of {len(self.names())} nodes]>"

    # What is known

    def names(self) -> list[str]:
        """Return the nodes that have rows."""
        return [name for name in self._counts if self.depth(name)]

    def depth(self, name: str) -> int:
        """Return how many rows a node has."""
        return max(0, sum(count.depth for count in self._counts.get(name, {}).values()))

    def total(self) -> int:
        """Return how many rows all nodes have."""
        return sum(map(self.depth, self._counts))

    def is_coming(self, name: str) -> bool:
        """Tell whether rows of a node are queued to be written."""
        return any(count.coming for count in self._counts.get(name, {}).values())

    def oldest_s(self, name: str) -> float:
        """Return the age of a node's oldest row, in seconds; 0 when there is none."""
        return max(0.0, self._now() - self._oldest_at[name]) if self.depth(name) else 0.0

    def note_oldest(self, name: str, parked_at: float) -> None:
        """Take note of when the oldest row of a node was parked, UNIX time."""
        self._oldest_at[name] = parked_at

    # Taken over from the store

    async def load(self, depths: dict[str, Depth], behind: list[str]) -> None:
        """Take over what the store holds; call once per store file.

        Args:
            depths: of each node's queue.
            behind: nodes with rows that wait for their parents.

        Raises:
            StoreError: the store cannot be read.
        """
        self.behind.update(behind)
        for name, depth in depths.items():
            self._oldest_at[name] = min(self._oldest_at.get(name, depth.oldest_at), depth.oldest_at)
            await self.recount(name)

    async def recount(self, name: str) -> None:
        """Take the store's count over; rows also go without being counted here (a cancelled task's).

        Raises:
            StoreError: the store cannot be read, or does not write in time.
        """
        async with self._counting:  # two at a time would both put the same mistake right
            for saver in self._savers.savers:
                count = self._count(name, saver)
                if saver.store.is_shared:
                    count.depth = (await self._reader.read(saver.store.depth, name)).count
                    continue
                pin, known = await saver.pinned(count.known, _WRITE_LIMIT_S)
                rows = await self._reader.read(pin, name)  # the count changes meanwhile
                count.depth += rows - known
        self._full.note(name, self.depth(name))

    def refresh(self, depths: dict[str, Depth]) -> None:
        """Take over how full a shared store's queues are."""
        saver = self._savers.savers[0]
        for name in self._counts.keys() | depths.keys():
            count = depths[name].count if name in depths else 0
            self._count(name, saver).depth = count
            self._full.note(name, count)
        self._oldest_at.update({name: depth.oldest_at for name, depth in depths.items()})

    def _count(self, name: str, saver: Saver) -> _Count:
        return self._counts.setdefault(name, {}).setdefault(saver, _Count())

    # Rows in and out

    def park(self, node: str, task_id: str, rows: list[Parked]) -> None:
        """Add a task's rows to a node's queue."""
        if rows[0].after:
            self.behind.add(node)
        if not self.depth(node):
            self._oldest_at[node] = rows[0].parked_at
        saver = self._savers.of(task_id)
        saver.park(rows, self._count(node, saver).come(len(rows)))
        self._full.note(node, self.depth(node))

    def unpark(self, task_id: str, counts: dict[str, int]) -> None:
        """Drop all rows of a task that is cancelled: node → how many there are."""
        saver = self._savers.of(task_id)
        gone = [self._count(name, saver).go(count) for name, count in counts.items()]
        recount = partial(self._recount_joined_soon, list(counts), saver)
        saver.unpark_task(task_id, partial(_call_all, [*gone, recount]))
        self.on_cancelled(task_id)

    def _recount_joined_soon(self, names: list[str], saver: Saver) -> None:
        self._background.start(self._recount_joined(names, saver))

    async def _recount_joined(self, names: list[str], saver: Saver) -> None:
        """Count again where one row may have stood for several subtasks of a cancelled task."""
        with contextlib.suppress(StoreError):  # the next delivery counts, too
            for name in names:
                has_some = name in self._joined
                if not has_some:
                    has_some = bool(await self._reader.read(saver.store.host_rows, name, 1))
                if has_some:
                    await self.recount(name)

    def join(self, saver: Saver, name: str, joined: list[Joined]) -> None:
        """Put host-wide rows in the place of others of a node; a `recount` follows."""
        self._joined.add(name)
        saver.join(joined)

    def cancelled(self, task_id: str) -> None:
        """A task that is only in the store is cancelled there: what of it is about to be delivered is not."""
        self.on_cancelled(task_id)

    def written(self, rows: list[Parked]) -> None:
        """Count rows that went into a shared store with their task: others may deliver them, or we."""
        for name in dict.fromkeys(row.node for row in rows):
            own = [row for row in rows if row.node == name]
            if not self.depth(name):
                self._oldest_at[name] = self._now()
            self._count(name, self._savers.savers[0]).depth += len(own)
            self._full.note(name, self.depth(name))
            self.on_written(name, own)

    async def drop(self, saver: Saver, name: str, delivered: list[Delivered]) -> None:
        """Drop delivered rows of a node, and tell their tasks; wait until that is written."""
        written: asyncio.Future[None] = self._loop.create_future()
        gone = self._count(name, saver).go(len({settled.row.key for settled in delivered}))
        saver.deliver(delivered, partial(_call_all, [gone, partial(settle_once, written, None)]))
        await written
        self._full.note(name, self.depth(name))


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


def _ignore(*_: object) -> None:
    """Tell nobody."""

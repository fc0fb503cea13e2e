"""Host-wide rows: what a full delay queue becomes, where its node can purge a whole host.

The rows of one task for URLs and prefixes of one host become one row, which stands for all of them: its
request is the purge of the host, and what becomes of that becomes of each. One request serves all such rows
of a host. The hosts with the most to gain come first, and no more than are needed. Prefetches stay rows, and
what waits for a parent, is refused or cannot be done; and rows of tasks that are in memory only.

A host-wide row whose purge the node refuses, fails, or cannot do any more becomes what it stands for again:
its task did not ask for it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.background import Background
from engine.errors import StoreError
from engine.nodes.ability import HOST_WIDE, host_wide_for
from engine.tasks.records import Joined
from engine.tasks.words import host_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engine.delivery.full_queues import FullQueues
    from engine.delivery.queues import DelayQueues
    from engine.delivery.redelivery import Redelivery
    from engine.nodes.holds import Pair
    from engine.nodes.node import Node
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.saver.saver import Saver
    from engine.tasks.records import ParkedRow, RowKey
    from engine.tasks.words import Operation

_PAGE_ROWS: Final = 5000
_ROWS_MAX: Final = 500  #: that one row stands for
_PARTED_ROWS: Final = 1000  #: host-wide rows that are looked at for one that is refused
_WRITE_LIMIT_S: Final = 30.0
_AGAIN_S: Final = 60.0
_OTHERS_S: Final = 1.0
_REST_SHARE: Final = 20
"""Looking through a queue that stays full takes one part in so many of the time."""


class HostRows:
    """Joins the rows of nodes whose queues are full, and parts them again.

    Args:
        redelivery: delivers no row of a node meanwhile.
        queues: count the rows.
        full: tells of full queues, and how many rows are too many.
        nodes: the configured ones, by name.
        savers: write the rows; *reader* reads them.
    """

    def __init__(
        self,
        redelivery: Redelivery,
        queues: DelayQueues,
        full: FullQueues,
        nodes: Mapping[str, Node],
        savers: SaverPool,
        *,
        reader: StoreReader,
    ) -> None:
        self._redelivery = redelivery
        self._queues = queues
        self._full = full
        self._nodes = nodes
        self._savers = savers
        self._reader = reader
        self._background = Background()
        self._loop = asyncio.get_running_loop()
        self.at_work: set[str] = set()  #: nodes whose rows are being joined; changed here only
        self._again: dict[str, asyncio.TimerHandle] = {}
        self._failed: set[tuple[str, int, str]] = set()  # nodes, and what of a host they could not do
        full.on_full = self.start
        redelivery.host_wide = self

    def __repr__(self) -> str:
        return f"<HostRows [{len(self.at_work)} nodes at work]>"

    def stop(self) -> None:
        """End: the savers stop soon."""
        self._background.cancel()
        for handle in self._again.values():
            handle.cancel()

    # Others become one

    def start(self, name: str) -> None:
        """Join rows of a node whose queue is full, unless that is under way."""
        node = self._nodes.get(name)
        if node is not None and name not in self.at_work:
            self.at_work.add(name)
            self._background.start(self._join(node))

    async def _join(self, node: Node) -> None:
        began_at = self._loop.time()
        is_looked_through = True
        try:
            await self._savers.flushed(_WRITE_LIMIT_S)  # the rows that filled it can be read then
            is_looked_through = await self._redelivery.in_between(node.name, partial(self._join_rows, node))
            if is_looked_through:
                await self._queues.recount(node.name)
        except StoreError as exc:
            logger.warning("rows of {} are made host-wide later: {}", node.name, exc)
        except Exception:  # noqa: BLE001 - without it the queue would stay full
            logger.exception("the rows of {} cannot be made host-wide", node.name)
        finally:
            self.at_work.discard(node.name)
        if node.name in self._full.names:  # tasks whose rows could not be joined yet may be stored by then
            wait_s = max(_AGAIN_S, _REST_SHARE * (self._loop.time() - began_at))
            if not is_looked_through:  # a delivery, another engine, or the worker before has the rows
                wait_s = _OTHERS_S
            if node.name in self._again:
                self._again[node.name].cancel()
            self._again[node.name] = self._loop.call_later(wait_s, self.start, node.name)

    async def _join_rows(self, node: Node) -> None:
        """Join rows of the hosts with the most, until the queue is not full any more."""
        too_many = self._queues.depth(node.name) - self._full.low
        gains: dict[str, int] = {}
        for saver in self._savers.savers:
            place = 0
            while True:
                rows, place = await self._page(saver, node, place)
                for joined in self._joined(node, rows):
                    gains[joined.host] = gains.get(joined.host, 0) + len(joined.rows) - 1
                if not place:
                    break
        hosts: set[str] = set()
        for host in sorted(gains, key=gains.__getitem__, reverse=True):
            if too_many < 0:
                break
            hosts.add(host)
            too_many -= gains[host]
        if hosts:
            logger.warning("rows of {} become host-wide ones: {} hosts", node.name, len(hosts))
        for saver in self._savers.savers if hosts else ():
            await self._join_hosts(saver, node, hosts)

    async def _join_hosts(self, saver: Saver, node: Node, hosts: set[str]) -> None:
        """Join all rows of *hosts* in a file; where rows go, others of a shared store take their places."""
        place = 0
        tried: set[RowKey] = set()
        while True:
            rows, following = await self._page(saver, node, place)
            joined = [one for one in self._joined(node, rows) if one.host in hosts]
            keys = {row.key for one in joined for row in one.rows}
            if joined:
                self._queues.join(saver, node.name, joined)
                await saver.flushed(_WRITE_LIMIT_S)
            if not saver.store.is_shared or keys <= tried:
                if not following:
                    return
                place = following
            tried = keys

    def _joined(self, node: Node, rows: list[ParkedRow]) -> Iterator[Joined]:
        """Yield what some rows of a node become."""
        wide_for = {row.operation: self._wide_for(node, row.operation) for row in rows}
        wrong = _wrong_of(node)
        together: dict[tuple[str, int, str], list[ParkedRow]] = {}
        for row in rows:
            wide = wide_for[row.operation]
            if wide is None or row.stands_for or node.holds.is_refused(row.operation, row.target):
                continue
            host = host_of(row.target)
            if (int(wide), host) not in wrong and (node.name, int(wide), host) not in self._failed:
                together.setdefault((row.task_id, int(wide), host), []).append(row)
        for (_, wide_for_host, host), of_host in together.items():
            for start in range(0, len(of_host), _ROWS_MAX):
                some = of_host[start : start + _ROWS_MAX]
                if len(some) > 1:
                    yield Joined(some, wide_for_host, host)

    def _wide_for(self, node: Node, operation: int) -> Operation | None:
        return None if operation in node.postponed.incapable else host_wide_for(node.config, operation)

    async def _page(self, saver: Saver, node: Node, place: int) -> tuple[list[ParkedRow], int]:
        page: tuple[list[ParkedRow], int] = await self._reader.read(
            saver.store.parked_page, node.name, place, _PAGE_ROWS, True
        )
        return page

    # One becomes others again

    async def part_refused(self, node: Node) -> None:
        """Part host-wide rows whose purge a node refuses, cannot do, or did wrongly or not at all.

        Raises:
            StoreError: the store cannot be read or written.
        """
        wrong = _wrong_of(node)
        if not wrong and not HOST_WIDE & node.postponed.incapable:
            return
        for saver in self._savers.savers:
            while True:
                rows = await self._reader.read(saver.store.host_rows, node.name, _PARTED_ROWS)
                wanted = [
                    row
                    for row in rows
                    if row.operation in node.postponed.incapable or (row.operation, row.target) in wrong
                ]
                if not wanted:
                    break
                logger.warning("{} host-wide rows of {} become what they stand for", len(wanted), node.name)
                saver.part(wanted)
                await saver.flushed(_WRITE_LIMIT_S)

    async def part_failed(self, node: Node, saver: Saver, rows: list[ParkedRow]) -> None:
        """Part host-wide rows whose purge a node will not do; rows of that host are not joined again.

        Raises:
            StoreError: it does not write.
        """
        self._failed.update((node.name, row.operation, row.target) for row in rows)
        saver.part(rows)
        await saver.flushed(_WRITE_LIMIT_S)


def _wrong_of(node: Node) -> set[Pair]:
    """Return the purges of hosts that a node was sent and did not do."""
    held = {pair for pair in node.holds.pairs if pair[0] in HOST_WIDE}
    return held | node.postponed.gone_wrong(HOST_WIDE)

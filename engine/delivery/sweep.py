"""Rows that waited longer than ``delay_ttl_s`` fail, also those of nodes that stay away or do not take them.

A delivery fails such rows when it comes to them; this finds those that no delivery comes to. It looks at one
node at a time: however many rows wait for a node that is being delivered, or is gone (`GoneNodes`), those of
the others are found. Of engines that share a store the one that leads does it; with files each worker sweeps
its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.background import Background
from engine.delivery.chunk import too_old
from engine.errors import StoreError
from engine.nodes import drivers
from engine.nodes.health import NodeState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.delivery.late import LateResults
    from engine.delivery.queues import DelayQueues
    from engine.delivery.redelivery import Redelivery
    from engine.nodes.node import Node
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.saver.saver import Saver
    from engine.tasks.records import ParkedRow

_ROWS_MAX: Final = 2000  #: read at a time


class Sweep:
    """Fails rows that are too old.

    Args:
        redelivery: delivers no node's rows while some of them are failed here.
        results: folds what became of rows.
        nodes: the configured ones, by name.
        queues: tell which nodes have rows.
        now: UNIX time that the age of rows is counted to, see `SteadyClock`.
        ttl_s: the age; 0: nothing is too old.
    """

    def __init__(
        self,
        redelivery: Redelivery,
        results: LateResults,
        nodes: Mapping[str, Node],
        savers: SaverPool,
        reader: StoreReader,
        *,
        queues: DelayQueues,
        now: Callable[[], float],
        ttl_s: float,
    ) -> None:
        self._redelivery = redelivery
        self._results = results
        self._queues = queues
        self._nodes = nodes
        self._savers = savers
        self._reader = reader
        self._now = now
        self._ttl_s = ttl_s
        self._background = Background()

    def start(self) -> None:
        """Sweep once, unless that is under way."""
        if self._ttl_s and not len(self._background):
            self._background.start(self.run())

    def stop(self) -> None:
        """End: the savers stop soon."""
        self._background.cancel()

    async def run(self) -> None:
        """Fail all rows that are too old by now, but for those of nodes that are being delivered."""
        try:
            for node in [self._nodes[name] for name in self._queues.names() if name in self._nodes]:
                for saver in self._savers.savers:
                    while await self._some(node, saver):
                        pass
        except StoreError as exc:
            logger.warning("rows that are too old are looked for later: {}", exc)

    async def _some(self, node: Node, saver: Saver) -> bool:
        """Fail some rows of a node in a file; return whether there may be more."""
        if not await self._too_old(node, saver):
            return False
        if self._is_engine(node) and node.state is NodeState.READY:
            self._redelivery.deliver(node.name)  # it is asked first, see `LastLook`
            return False
        failed: list[ParkedRow] = []
        await self._redelivery.in_between(node.name, partial(self._fail, node, saver, failed))
        return len(failed) == _ROWS_MAX

    def _is_engine(self, node: Node) -> bool:
        return drivers.is_engine(node.config)

    async def _too_old(self, node: Node, saver: Saver) -> list[ParkedRow]:
        before_at = self._now() - self._ttl_s
        rows: list[ParkedRow] = await self._reader.read(saver.store.expired, node.name, before_at, _ROWS_MAX)
        return rows

    async def _fail(self, node: Node, saver: Saver, failed: list[ParkedRow]) -> None:
        """Fail rows as they are now: some that were seen before may be another, younger row by now.

        What waits for a row that fails is let go, and must not go ahead of that one.
        """
        failed += await self._too_old(node, saver)
        if not failed:
            return
        now = self._now()
        logger.warning("{} rows of {} waited longer than delay_ttl_s and fail", len(failed), node.name)
        engine = node.name if self._is_engine(node) else ""
        rows = [(row, too_old(now - row.parked_at, self._ttl_s, engine=engine)) for row in failed]
        await self._results.fold(node, saver, [], rows)
        self._redelivery.deliver_released()

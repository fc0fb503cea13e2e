"""Rows of delay queues that no configured node is going to take: shown to operators beside what nodes know.

Those of nodes that no engine configures any more, and those of operations that a node cannot do, since its
cache is another.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import StoreError
from engine.nodes.ability import incapable_reason

if TYPE_CHECKING:
    from collections.abc import Collection

    from engine.delivery.gone import GoneNodes
    from engine.delivery.queues import DelayQueues
    from engine.nodes.node import Node
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader


class LeftNode(NamedTuple):
    """A node that no engine configures any more, and that has rows."""

    name: str
    layer: str  #: that it was in; empty: nobody knows
    reason: str
    since: float  #: UNIX time


class LeftRows(NamedTuple):
    """Rows of one host and operation that a node cannot do."""

    operation: int
    host: str
    subtasks: int
    since: float  #: when the oldest came, UNIX time
    reason: str


class LeftBehind:
    """Looks for them in the stores of this worker.

    Args:
        gone: knows nodes that are not configured.
        queues: tell which nodes have rows.
        savers: whose stores hold the rows; *reader* reads those.
    """

    def __init__(self, gone: GoneNodes, queues: DelayQueues, savers: SaverPool, reader: StoreReader) -> None:
        self._gone = gone
        self._queues = queues
        self._savers = savers
        self._reader = reader

    async def nodes(self, elsewhere: Collection[str]) -> list[LeftNode]:
        """Return the nodes with rows that neither this engine configures nor, as *elsewhere*, another."""
        names = [name for name in self._queues.names() if self._gone.is_gone(name, elsewhere)]
        if not names:
            return []
        with contextlib.suppress(StoreError):  # what was read last is shown
            await self._gone.refresh()
        return [
            LeftNode(name, self._gone.layer(name), self._gone.why(name), self._gone.since(name))
            for name in names
        ]

    async def rows(self, node: Node) -> list[LeftRows]:
        """Return the rows that a node would be sent, if it could do them; none while it cannot be reached."""
        if node.health.keeps_rows or not node.postponed.incapable or not self._queues.depth(node.name):
            return []
        found: dict[tuple[int, str], LeftRows] = {}
        with contextlib.suppress(StoreError):
            for saver in self._savers.savers:
                counts = await self._reader.read(
                    saver.store.count_parked, node.name, sorted(node.postponed.incapable)
                )
                for operation, host, count, since in counts:
                    known = found.get((operation, host))
                    if known is not None:
                        count, since = count + known.subtasks, min(since, known.since)  # noqa: PLW2901 - of all files
                    reason = incapable_reason(node.config, operation)
                    found[operation, host] = LeftRows(operation, host, count, since, reason)
        return list(found.values())

"""The oldest pages that wait for a node: offered to it, where it needs one to prove that it purges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.background import Background
from engine.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.nodes.node import Node
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader

_ROWS: Final = 200


class OldestPages:
    """Reads the delay queues for nodes that became unproven.

    Args:
        nodes: the configured nodes by name.
        savers: whose stores hold the rows; *reader* reads those.
    """

    def __init__(self, nodes: Mapping[str, Node], savers: SaverPool, reader: StoreReader) -> None:
        self._nodes = nodes
        self._savers = savers
        self._reader = reader
        self._background = Background()

    def offer(self, name: str) -> None:
        """Offer a node what waits for it longest."""
        self._background.start(self._offer(self._nodes[name]))

    async def _offer(self, node: Node) -> None:
        for saver in self._savers.savers:
            try:
                rows = await self._reader.read(saver.store.oldest_parked, node.name, _ROWS, True)
            except StoreError as exc:
                logger.warning("the delay queue of {} cannot be read: {}", node.name, exc)
                return
            for row in rows:
                node.proving.offer(row.operation, row.target)

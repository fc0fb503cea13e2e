"""Rows that tasks at work on other engines keep in memory: a node is not ready before they are written."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engine.cluster.membership import Membership
    from engine.nodes.node import Node

_STALE_S: Final = 2.0  #: what others say of themselves is no older
_SHARED_S: Final = 0.2  #: nodes that wait ask as often, and share a beat


@dataclass
class _Return:
    """A node that has come back, and how often tasks of each engine had begun to keep rows by then."""

    since: float  # when the node came into its state
    until: float  # of the loop: what engines say from then on they began to keep after the return
    counts: dict[str, int] = field(default_factory=dict)


class KeptElsewhere:
    """Asks for such rows. What an engine begins to keep after the node has come back does not count.

    An engine that cannot reach the node would keep it from being ready for ever.

    Args:
        membership: the others.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._loop = asyncio.get_running_loop()
        self._returns: dict[str, _Return] = {}

    async def has_for(self, node: Node) -> bool:
        """Tell whether others keep rows of a node that has come back.

        Raises:
            StoreError: they cannot be asked.
        """
        asked_at = self._loop.time()
        await self._membership.beat(asked_at - _SHARED_S)
        if self._has_for(node):
            return True
        await self._membership.beat(asked_at)  # as of now, before it is said that there are none
        if self._has_for(node):
            return True
        self._returns.pop(node.name)
        return False

    def _has_for(self, node: Node) -> bool:
        back = self._returns.get(node.name)
        if back is None or back.since != node.health.since:
            back = _Return(node.health.since, self._loop.time() + _STALE_S)
            self._returns[node.name] = back
        said = self._membership.said()
        if self._loop.time() < back.until:
            back.counts = {consumer: about.kept_count for consumer, about in said.items()}
        for consumer, about in said.items():
            oldest = about.keeps.get(node.name)
            if oldest is not None and oldest <= back.counts.get(consumer, 0):
                return True
        return False

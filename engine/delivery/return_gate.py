"""Whether a node whose delay queue is delivered may be ready: what else it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.delivery.kept_rows import KeptRows
    from engine.nodes.node import Node


class ReturnCanary(Protocol):
    """Tries a node that has come back; see `engine.proof`."""

    async def lets_in(self, node: Node) -> bool:
        """Tell whether a canary speaks against sending visitors to the node; False: it was stale."""


class ReturnGate:
    """Asked before the last rows of a node are sent; until then new subtasks go out beside them.

    Args:
        kept: knows the rows that are in no queue yet.
    """

    def __init__(self, kept: KeptRows) -> None:
        self._kept = kept
        self.canary: ReturnCanary | None = None  #: where canaries are set up

    @property
    def is_prompt(self) -> bool:
        """Whether nothing takes time: rows that were read may be cancelled while a canary is under way."""
        return self.canary is None

    async def is_open(self, node: Node) -> bool:
        """Tell whether nothing speaks against the node being ready, but the rows of its queue.

        Raises:
            StoreError: the other engines cannot be asked for rows that their tasks keep.
        """
        if await self._kept.has_for(node):
            return False
        return self.canary is None or await self.canary.lets_in(node)

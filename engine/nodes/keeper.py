"""What a channel tells of requests that it does not send, or gives up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.nodes.queue import Item


class Keeper(Protocol):
    """Keeps what a node is not sent, or does not answer as it should."""

    def too_big(self, item: Item, limit_bytes: int) -> None:
        """Fail a request whose answer is over the limit."""

    def refused(self, item: Item, reason: str) -> None:
        """Keep a refused request: an operator must act, and it is tried again."""

    def unreadable(self, item: Item, reason: str) -> None:
        """Fail a request that the node cannot read, and never will."""

    def wanted(self, items: list[Item]) -> list[Item]:
        """Return those of requests without an answer that are to be sent again."""

    def held(self, items: list[Item], reason: str) -> None:
        """Put requests into the delay queue, unsent."""

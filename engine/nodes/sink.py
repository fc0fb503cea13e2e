"""What a node tells of its subtasks and of itself.

`engine.delivery` implements it. A node calls it once for each read of answers or fill of a pipeline; once a
request only for what was not acked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.tables import NodeConfig
    from engine.nodes.queue import Item
    from engine.tasks.task import Share


class Outcomes(Protocol):
    """Takes what became of subtasks."""

    def acked(self, items: list[Item], *, is_absent: bool = False) -> None:
        """Take the requests of one read that the cache acked; *is_absent*: it had nothing of any of them."""

    def count_later(self, subtasks: Sequence[tuple[Share, int]]) -> None:
        """Take purges that were acked a while ago and do not count yet: others may wait for them."""

    def failed(self, item: Item, reason: str) -> None:
        """Take a request that no further attempt will change."""

    def retry(self, item: Item, reason: str) -> None:
        """Take a request that is worth another attempt."""

    def postpone(self, item: Item, reason: str) -> None:
        """Take a request that had attempts enough for now."""

    def hold(self, items: list[Item], reason: str) -> None:
        """Take requests that the node refuses, or would: they wait in the delay queue."""

    def without_cancelled(self, items: list[Item]) -> list[Item]:
        """Return those of requests without an answer that are to be sent again."""

    def park(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """Take subtasks that cannot be sent, because the node is down."""


class Events(Protocol):
    """Takes what happens to a node itself: for operators, and for its delay queue."""

    def refused(self, node: NodeConfig, reason: str) -> None:
        """Note that the node refused a request; an operator must act."""

    def takes_purges_again(self, node: NodeConfig) -> None:
        """Note that nothing is refused any more."""

    def held_no_longer(self, node: NodeConfig) -> None:
        """Deliver the rows of what was held: it has been acked."""

    def node_down(self, node: NodeConfig, reason: str, *, is_sick: bool) -> None:
        """Note that the node cannot be reached any more; *is_sick*: or does nothing of what it is asked."""

    def node_unproven(self, node: NodeConfig, reason: str) -> None:
        """Note that nothing shows any more that the node itself answers purges; an operator must act."""

    def still_unproven(self, node: NodeConfig) -> None:
        """Offer the node pages that wait for it: one of them may show that it purges."""

    def postponed(self, node: NodeConfig, pause_s: float) -> None:
        """Look at the delay queue in *pause_s*: one of its rows may be sent again then."""

    def node_returns(self, node: NodeConfig) -> None:
        """Deliver the delay queue: the node answers again."""

    def node_ready(self, node: NodeConfig, away_s: float) -> None:
        """Note that the delay queue is delivered; *away_s* is the time since the node went down."""

"""What a node's state means outside of it: alerts for operators, and its delay queue being delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig
    from engine.delivery.oldest_pages import OldestPages
    from engine.delivery.redelivery import Redelivery
    from engine.observe.counters import Stats


class NodeEvents:
    """Told by all nodes; see `engine.nodes.sink.Events`.

    Args:
        redelivery: delivers the queue of a node that returns.
        pages: offered to a node that becomes unproven.
        on_alert: told what an operator should know: key, level, message, and facts by name.
    """

    def __init__(
        self, redelivery: Redelivery, pages: OldestPages, stats: Stats, on_alert: Callable[..., None]
    ) -> None:
        self._redelivery = redelivery
        self._pages = pages
        self._stats = stats
        self._on_alert = on_alert

    def refused(self, node: NodeConfig, reason: str) -> None:
        """Note that a node refused a request; an operator must act."""
        self._stats.subtasks_refused += 1
        self._on_alert(f"refused:{node.name}", "error", f"{node.name} {reason}")

    def takes_purges_again(self, node: NodeConfig) -> None:
        """Note that a node refuses nothing any more."""
        self._on_alert(f"refused:{node.name}", "resolved", f"{node.name} takes purges again")

    def held_no_longer(self, node: NodeConfig) -> None:
        """Deliver the rows of what a node has done again."""
        self._redelivery.deliver_later(node.name, 0)

    def node_down(self, node: NodeConfig, reason: str, *, is_sick: bool) -> None:
        """Note that a node cannot be reached any more, or is sick: visitors should not be sent there."""
        text = f"{node.name} is {'sick' if is_sick else 'unreachable'}: {reason}"
        self._on_alert(
            f"node:{node.name}", "error", text, event="node.down", node=node.name, layer=node.layer
        )

    def node_unproven(self, node: NodeConfig, reason: str) -> None:
        """Note that nothing shows that a node's purges are its own: it may serve what was purged."""
        self._pages.offer(node.name)
        text = f"{node.name} is {reason}"
        self._on_alert(
            f"node:{node.name}", "error", text, event="node.unproven", node=node.name, layer=node.layer
        )

    def still_unproven(self, node: NodeConfig) -> None:
        """Offer a node the oldest pages that wait for it once more."""
        self._pages.offer(node.name)

    def postponed(self, node: NodeConfig, pause_s: float) -> None:
        """Look at a node's delay queue when one of its rows may be sent again."""
        self._redelivery.deliver_later(node.name, pause_s)

    def node_returns(self, node: NodeConfig) -> None:
        """Deliver a node's delay queue: it answers again."""
        self._redelivery.deliver(node.name)

    def node_ready(self, node: NodeConfig, away_s: float) -> None:
        """A node is back, and what had been kept for it is delivered: visitors may be sent there again."""
        facts = {"node": node.name, "layer": node.layer, "away_s": round(away_s, 3)}
        text = f"{node.name} is back and up to date"
        self._on_alert(f"node:{node.name}", "resolved", text, event="node.ready", **facts)

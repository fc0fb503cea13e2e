"""The assembly of what clients order of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.api.forget import ForgetNode
from engine.api.pausing import PauseNode

if TYPE_CHECKING:
    import asyncio

    from engine.cluster.cluster import Cluster
    from engine.delivery.parts import Delivery
    from engine.process.core import Core


class NodeOrders(NamedTuple):
    """What clients order of a node."""

    forget: ForgetNode
    pausing: PauseNode


def make_node_orders(
    core: Core, delivery: Delivery, cluster: Cluster | None, replayed: asyncio.Event
) -> NodeOrders:
    """Return them for one engine."""
    return NodeOrders(
        ForgetNode(delivery.gone, peers=core.task_peers, cluster=cluster, replayed=replayed),
        PauseNode(delivery.pauses, core.nodes.keys(), peers=core.peers, cluster=cluster),
    )

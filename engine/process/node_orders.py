"""The assembly of what clients order of a node, and are told of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.api.engine_routes import EngineRoutes
from engine.api.forget import ForgetNode
from engine.api.pausing import PauseNode

if TYPE_CHECKING:
    import asyncio

    from engine.api.below import Below
    from engine.api.bodies import Bodies
    from engine.api.overview import Overview
    from engine.api.readiness import Readiness
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


def make_engine_routes(
    core: Core,
    orders: NodeOrders,
    overview: Overview,
    readiness: Readiness,
    bodies: Bodies,
    *,
    below: Below,
) -> EngineRoutes:
    """Return the routes about the engine and its nodes."""
    forget, pausing = orders
    return EngineRoutes(
        bodies,
        overview,
        readiness,
        forget=forget,
        pausing=pausing,
        logs=core.logs,
        peers=core.peers,
        below=below,
    )

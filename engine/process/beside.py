"""The assembly of what stands beside the way of a task: overview, recovery, cluster, housekeeping."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.api.overview import Overview
from engine.delivery.left_rows import LeftBehind
from engine.process.housekeeping import Housekeeping
from engine.recovery.replay import Replay

if TYPE_CHECKING:
    import asyncio

    from engine.api.readiness import Readiness
    from engine.cluster.cluster import Cluster
    from engine.delivery.parts import Delivery
    from engine.process.canaries import CanarySide
    from engine.process.core import Core
    from engine.process.proof import Proof
    from engine.process.stores import Stores
    from engine.process.task_answers import TaskAnswers
    from engine.process.tree import Tree
    from engine.recovery.rows import ReplayRows


def make_overview(
    core: Core,
    delivery: Delivery,
    tasks: TaskAnswers,
    cluster: Cluster | None,
    *,
    canaries: CanarySide,
    proof: Proof,
    tree: Tree,
) -> Overview:
    """Return what answers about the engine as a whole."""
    return Overview(
        core.stats,
        core.nodes,
        delivery.queues,
        core.logs,
        left=LeftBehind(delivery.gone, delivery.queues, core.savers, core.reader),
        canary=canaries.document,
        rewinding=tasks.rewinding,
        peers=core.peers,
        cluster=cluster,
        proof=proof.report,
        below=tree.below,
    )


def make_replay(
    core: Core, delivery: Delivery, rows: ReplayRows, replayed: asyncio.Event, *, has_predecessor: bool
) -> Replay:
    """Return what goes on with what the journal holds."""
    return Replay(
        rows,
        core.savers,
        core.reader,
        delivery,
        nodes=core.nodes,
        callbacks=core.callbacks,
        replayed=replayed,
        has_peers=core.task_peers is not None,
        has_predecessor=has_predecessor and not core.is_shared,
    )


def make_joining(
    core: Core, stores: Stores, delivery: Delivery, *, rows: ReplayRows, readiness: Readiness
) -> Cluster | None:
    """Return the engine's part of its cluster; None: its store is its own."""
    if not core.is_shared:
        return None
    from engine.process.shared_store import SharedStore, make_cluster  # noqa: PLC0415 - an embedded store needs no Redis

    assert isinstance(stores, SharedStore)
    return make_cluster(stores, core, delivery, rows=rows, is_draining=lambda: readiness.is_draining)


def make_housekeeping(core: Core, delivery: Delivery, cluster: Cluster | None) -> Housekeeping:
    """Return what is done now and then."""
    return Housekeeping(
        core.savers,
        core.regions,
        (core.timer, core.dues),
        backlog=lambda: delivery.load.live + delivery.queues.total(),
        may_forget=lambda: cluster is None or cluster.leads(),
        retention_s=core.config.engine.retention_days * 86400,
        now=core.clock.now,
        sweep=delivery.sweep,
        on_alert=core.on_alert,
    )

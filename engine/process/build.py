"""The assembly of an engine: its parts, made and wired together.

Parts that tell each other something form rings: tasks go to the savers, and the savers tell who sent them
that they are stored. A ring is closed by filling what was made empty: the pool of savers, then the nodes; the
claims of a cluster reach the redelivery once the store is open (`make_cluster`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from engine.api.readiness import Readiness
from engine.base.buffers import BufferPool
from engine.delivery.full_queues import rows_max_here
from engine.delivery.parts import Delivery, Surroundings, build_delivery
from engine.errors import ConfigError
from engine.intake.admission import Admission
from engine.intake.confirming import Confirming
from engine.intake.topology import Topology
from engine.intake.validate import Validator
from engine.intake.verify_asked import Verifying
from engine.nodes.inspection import places_above
from engine.nodes.node import Node
from engine.nodes.underway import link
from engine.process.above import Above
from engine.process.beside import make_housekeeping, make_joining, make_overview, make_replay
from engine.process.board import make_elsewhere
from engine.process.canaries import make_canaries
from engine.process.core import make_core
from engine.process.doors import Around, make_doors
from engine.process.gauges import register_gauges
from engine.process.interface import make_interface
from engine.process.node_orders import make_node_orders
from engine.process.proof import Proof, make_guards, make_proof
from engine.process.reports import StoreReports
from engine.process.stores import EmbeddedStores
from engine.process.task_answers import TaskAnswers
from engine.process.tree import make_tree
from engine.recovery.rows import ReplayRows
from engine.saver.saver import Saver
from engine.saver.sinks import Sinks
from engine.tree.census import NamesBelow

if TYPE_CHECKING:
    from engine.api.overview import Overview
    from engine.cluster.cluster import Cluster
    from engine.config.tables import Config
    from engine.doors.ports import DoorPorts
    from engine.nodes.elsewhere import Elsewhere
    from engine.observe.logs import Logs
    from engine.process.canaries import CanarySide
    from engine.process.core import Core
    from engine.process.housekeeping import Housekeeping
    from engine.process.interface import Interface
    from engine.process.stores import Stores
    from engine.process.tree import Tree
    from engine.recovery.replay import Replay
    from engine.workers.peers import Peers


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of one engine. `Lifecycle` starts and stops them; any other class takes the few it uses."""

    core: Core
    validator: Validator
    delivery: Delivery
    admission: Admission
    stores: Stores
    elsewhere: Elsewhere  #: prefetches of other processes
    replayed: asyncio.Event  #: set while nothing of an earlier process is left in the store
    replay: Replay
    cluster: Cluster | None  #: with a store that several engines share
    readiness: Readiness
    overview: Overview
    housekeeping: Housekeeping
    interface: Interface
    proof: Proof
    canaries: CanarySide
    tree: Tree
    doors: DoorPorts


def build(config: Config, logs: Logs, *, peers: Peers | None = None, has_predecessor: bool = False) -> Parts:
    """Make the parts of an engine. Nothing is opened or started yet; the loop must be running.

    Args:
        config: checked configuration.
        logs: the process's log.
        peers: the other workers, under a supervisor.
        has_predecessor: a worker of this slot still works with the store; see `Replay`.

    Raises:
        ConfigError: a node's CA file cannot be read.
    """
    core = make_core(config, logs, peers)
    readiness = Readiness(core.savers)
    validator = _validator(core)
    replayed = asyncio.Event()
    delivery = _delivery(core)
    admission, stores = _ringed(core, delivery, validator, replayed, has_predecessor=has_predecessor)
    proof = make_proof(core, make_guards(core), delivery.dispatch.layout)
    rows = ReplayRows(core.regions, delivery, validator, admission)
    cluster = make_joining(core, stores, delivery, rows=rows, readiness=readiness)
    canaries = make_canaries(core, delivery, stores, cluster)
    tasks = TaskAnswers.of(core, delivery, cluster, replayed, validator=validator, stores=stores, proof=proof)
    tree = make_tree(core, tasks.signer)
    validator.note_names(NamesBelow(tree.censuses))
    tasks.cancel.on_cancelled = tree.cancelled
    overview = make_overview(core, delivery, tasks, cluster, canaries=canaries, proof=proof, tree=tree)
    orders = make_node_orders(core, delivery, cluster, replayed)
    above = Above(tree, delivery.endings.watchers, overview.all_delayed, overview.all_nodes)
    origin = canaries.origin
    interface = make_interface(
        core, admission, tasks, orders, overview=overview, readiness=readiness, origin=origin, above=above
    )
    register_gauges(core, delivery, interface.gate, cluster)
    return Parts(
        core=core,
        validator=validator,
        delivery=delivery,
        admission=admission,
        stores=stores,
        elsewhere=make_elsewhere(core),
        replayed=replayed,
        replay=make_replay(core, delivery, rows, replayed, has_predecessor=has_predecessor),
        cluster=cluster,
        readiness=readiness,
        overview=overview,
        housekeeping=make_housekeeping(core, delivery, cluster),
        interface=interface,
        proof=proof,
        canaries=canaries,
        tree=tree,
        doors=make_doors(core, admission, delivery, interface, Around(tasks, stores, cluster, readiness)),
    )


def _ringed(
    core: Core, delivery: Delivery, validator: Validator, replayed: asyncio.Event, *, has_predecessor: bool
) -> tuple[Admission, Stores]:
    """Return what takes tasks, and what stores them, in their rings with the delivery."""
    _connect(core, delivery, validator, replayed)
    admission = _admission(core, delivery, validator, replayed)
    stores = _stores(core, validator, has_predecessor=has_predecessor)
    _close_rings(core, stores, admission, delivery)
    return admission, stores


def _connect(core: Core, delivery: Delivery, validator: Validator, replayed: asyncio.Event) -> None:
    """Tell the schedule how to plan, and the delivery of other workers of this slot."""
    schedule = delivery.dispatch.schedule
    schedule.plan_again = validator.plan_again
    schedule.subtasks_max = core.config.engine.live_subtasks_max
    if core.is_shared:
        schedule.now = core.clock.now
    if core.task_peers is not None:
        core.task_peers.on_successor = delivery.redelivery.hold
        core.task_peers.on_successor_lost = replayed.clear


# From the body of a request to the nodes


def _validator(core: Core) -> Validator:
    peers = core.task_peers
    return Validator(
        Topology(core.config),
        due_s=core.config.engine.due_s,
        skips_incapable=core.config.engine.on_incapable == "skip",
        rebound_s=core.config.engine.rebound_s,
        verifying=Verifying(core.config.proof),
        allows_callback=core.outbox.allows,
        is_ours=None if peers is None or peers.count == 1 else peers.is_mine,
        confirming=Confirming(core.config.site),
    )


def _delivery(core: Core) -> Delivery:
    settings, peers = core.config.engine, core.task_peers
    return build_delivery(
        Surroundings(
            regions=core.regions,
            nodes=core.nodes,
            savers=core.savers,
            reader=core.reader,
            dues=core.dues,
            timer=core.timer,
            clock=core.clock,
            stats=core.stats,
            audit=core.audit,
            on_alert=core.on_alert,
        ),
        ttl_s=settings.delay_ttl_s,
        rows_max=rows_max_here(settings.delay_rows_max, 1 if peers is None else peers.count),
        gone_after_s=settings.gone_after_s,
        is_shared=core.is_shared,
    )


def _admission(core: Core, delivery: Delivery, validator: Validator, replayed: asyncio.Event) -> Admission:
    settings = core.config.engine
    return Admission(
        validator,
        core.regions,
        delivery.dispatch,
        core.savers,
        core.stats,
        reader=core.reader,
        load=delivery.load,
        full=delivery.full,
        peers=core.task_peers,
        replayed=replayed,
        live_max=settings.live_subtasks_max,
        wait_s=settings.saver_push_timeout_s,
        waiting_max=settings.saver_backlog_count,
        audit=core.audit,
        on_alert=core.on_alert,
    )


def _stores(core: Core, validator: Validator, *, has_predecessor: bool) -> Stores:
    if not core.is_shared:
        return EmbeddedStores(core.config.engine, core.peers, core.clock, is_in_use=has_predecessor)
    from engine.process.shared_store import SharedStore  # noqa: PLC0415 - an embedded store needs no Redis

    slot = 0 if core.peers is None else core.peers.slot
    return SharedStore(core.config, slot, validator, core.on_alert)


def _close_rings(core: Core, stores: Stores, admission: Admission, delivery: Delivery) -> None:
    _fill_savers(core, stores, admission, delivery)
    _fill_nodes(core, delivery)


def _fill_savers(core: Core, stores: Stores, admission: Admission, delivery: Delivery) -> None:
    settings = core.config.engine
    reports = StoreReports(core.stats, core.audit, core.on_alert)
    for number in range(settings.saver_count):
        saver = Saver(
            stores.make(number),
            asyncio.get_running_loop(),
            Sinks(
                accepted=admission.accepted,
                known=admission.known,
                saved=delivery.endings.saved,
                callbacks=partial(core.callbacks.written, number),
                late=reports.settled_late,
                rows_left=delivery.late.note_left,
                state=reports.store_state,
                lost=delivery.dispatch.lost,
            ),
            backlog_count=settings.saver_backlog_count,
            push_timeout_s=settings.saver_push_timeout_s,
            has_peers=core.task_peers is not None,
            name=f"saver-{number}",
        )
        core.savers.savers.append(saver)


def _fill_nodes(core: Core, delivery: Delivery) -> None:
    settings = core.config.engine
    buffers = BufferPool()
    log_subtasks = core.logs.subtasks if settings.log_subtasks else None
    for node in core.config.node:
        try:
            core.nodes[node.name] = Node(
                node,
                delivery.dispatch,
                delivery.events,
                settings=settings,
                buffers=buffers,
                timer=core.timer,
                stats=core.stats,
                evidence_interval_s=core.config.proof.evidence_interval_s,
                above=partial(places_above, core.config, node.name),
                log_subtasks=log_subtasks,
            )
        except OSError as exc:
            raise ConfigError(f"node {node.name!r}: ca_file: {exc}") from exc
    link(core.nodes)

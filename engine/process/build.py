"""The assembly of an engine: its parts, made and wired together.

Parts that tell each other something form rings: tasks go to the savers, and the savers tell who sent them
that they are stored. Each ring is closed at one place, here: the pool of savers is made empty and filled
last.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from loguru import logger

from engine import _version
from engine.api.app import Requests, make_app
from engine.api.bodies import Bodies
from engine.api.cancel import WRITE_LIMIT_S, CancelElsewhere, CancelTask
from engine.api.engine_routes import EngineRoutes
from engine.api.find import FindTask
from engine.api.listing import ListTasks
from engine.api.overview import Overview
from engine.api.readiness import Readiness
from engine.api.server import ApiServer
from engine.api.tasks import TaskRoutes
from engine.api.worker_api import WorkerOverview, WorkerTasks, make_worker_app
from engine.base.buffers import BufferPool
from engine.base.timer import Timer
from engine.delivery.dispatch import Dispatch
from engine.delivery.queues import DelayQueues
from engine.errors import ConfigError
from engine.intake.admission import Admission
from engine.intake.auth import Auth
from engine.intake.gate import Gate
from engine.intake.topology import Topology
from engine.intake.validate import Validator
from engine.nodes.node import Node
from engine.notify.outbox import Outbox
from engine.notify.stored import StoredCallbacks
from engine.observe.counters import Stats
from engine.process.housekeeping import Housekeeping
from engine.process.reports import StoreReports
from engine.process.stores import EmbeddedStores
from engine.recovery.replay import Replay
from engine.recovery.rows import ReplayRows
from engine.saver.pool import SaverPool
from engine.saver.reader import StoreReader
from engine.saver.saver import Saver
from engine.saver.sinks import Sinks
from engine.tasks.region import RegionMap

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from engine.cluster.cluster import Cluster
    from engine.config.tables import Config, EngineConfig
    from engine.notify.callbacks import CallbackJob
    from engine.observe.logs import Logs
    from engine.store.store import Store
    from engine.workers.peers import Peers

_SERVER = f"purgeline/{_version.__version__}"


class Stores(Protocol):
    """Where the tasks are kept: `EmbeddedStores` or `SharedStore`."""

    def make(self, number: int) -> Store:
        """Return the store of saver *number*, not open yet."""

    async def open(self, savers: SaverPool, reader: StoreReader) -> None:
        """Open what the savers write to."""


@dataclass(frozen=True)
class Core:
    """What most other parts stand on."""

    config: Config
    logs: Logs
    peers: Peers | None  #: the other workers, under a supervisor
    stats: Stats
    timer: Timer  #: fires at everything but due times
    dues: Timer  #: fires at the due times of tasks
    regions: RegionMap
    savers: SaverPool
    reader: StoreReader
    outbox: Outbox
    callbacks: StoredCallbacks

    @property
    def is_shared(self) -> bool:
        """Whether other engines work with the same store."""
        return self.config.store.url != "sqlite:"

    @property
    def task_peers(self) -> Peers | None:
        """The other workers, where a task is with one of them; with a shared store every worker sees it."""
        return None if self.is_shared else self.peers

    @property
    def on_alert(self) -> Callable[..., None]:
        """Takes what an operator should know: key, level, message, and facts by name."""
        return self.outbox.alert


@dataclass(frozen=True)
class Interface:
    """What clients, the supervisor and the other workers reach."""

    api: ApiServer
    gate: Gate
    worker_app: web.Application


@dataclass(frozen=True)
class Parts:
    """The parts of one engine. `Lifecycle` starts and stops them; any other class takes the few it uses."""

    core: Core
    validator: Validator
    dispatch: Dispatch
    delay: DelayQueues
    admission: Admission
    stores: Stores
    replayed: asyncio.Event  #: set while nothing of an earlier process is left in the store
    replay: Replay
    cluster: Cluster | None  #: with a store that several engines share
    readiness: Readiness
    overview: Overview
    housekeeping: Housekeeping
    interface: Interface


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
    core = _core(config, logs, peers)
    readiness = Readiness(core.savers)
    validator = _validator(core)
    dispatch, delay = _delivery(core)
    replayed = asyncio.Event()
    admission = _admission(core, dispatch, validator, replayed)
    stores = _stores(core, validator, has_predecessor=has_predecessor)
    _fill_savers(core, stores, admission, dispatch)
    _make_nodes(core, dispatch)
    rows = ReplayRows(core.regions, dispatch, validator, admission)
    replay = Replay(
        rows,
        core.savers,
        core.reader,
        delay,
        nodes=dispatch.nodes,
        callbacks=core.callbacks,
        replayed=replayed,
        has_peers=core.task_peers is not None,
        has_predecessor=has_predecessor and not core.is_shared,
    )
    cluster = _cluster(core, stores, dispatch, delay, rows=rows, readiness=readiness)
    overview = Overview(core.stats, dispatch.nodes, delay, logs, peers=peers, cluster=cluster)
    housekeeping = _housekeeping(core, dispatch, delay, cluster)
    tasks = _TaskParts.of(core, dispatch, delay, cluster, replayed)
    interface = _interface(core, admission, tasks, overview, readiness)
    _register_gauges(core, dispatch, delay, interface.gate)
    return Parts(
        core,
        validator,
        dispatch,
        delay,
        admission,
        stores,
        replayed,
        replay,
        cluster,
        readiness,
        overview,
        housekeeping,
        interface,
    )


def _core(config: Config, logs: Logs, peers: Peers | None) -> Core:
    loop = asyncio.get_running_loop()
    stats = Stats()
    timer = Timer(loop, granularity_s=0.01, on_error=_log_timer_error)
    savers = SaverPool([])
    outbox = Outbox(
        config.callback, config.alert, timer, on_settled=partial(_drop_callback, savers), stats=stats
    )
    return Core(
        config=config,
        logs=logs,
        peers=peers,
        stats=stats,
        timer=timer,
        dues=Timer(loop, on_error=_log_timer_error),
        regions=RegionMap(config.engine.region_count),
        savers=savers,
        reader=StoreReader(),
        outbox=outbox,
        callbacks=StoredCallbacks(outbox),
    )


def _drop_callback(savers: SaverPool, job: CallbackJob, _is_delivered: bool) -> None:
    """A callback was delivered or given up."""
    number, key = job.key
    savers.savers[number].callback_over(key)


# From the body of a request to the nodes


def _validator(core: Core) -> Validator:
    peers = core.task_peers
    return Validator(
        Topology(core.config),
        due_s=core.config.engine.due_s,
        allows_callback=core.outbox.allows,
        is_ours=None if peers is None or peers.count == 1 else peers.is_mine,
    )


def _delivery(core: Core) -> tuple[Dispatch, DelayQueues]:
    settings = core.config.engine
    dispatch = Dispatch(
        core.regions,
        core.dues,
        core.timer,
        core.stats,
        attempts_max=settings.attempts_max,
        on_alert=core.on_alert,
        is_shared=core.is_shared,
    )
    delay = DelayQueues(dispatch, core.reader, ttl_s=settings.delay_ttl_s if core.is_shared else 0)
    dispatch.savers = core.savers
    dispatch.delay = delay
    return dispatch, delay


def _admission(core: Core, dispatch: Dispatch, validator: Validator, replayed: asyncio.Event) -> Admission:
    settings = core.config.engine
    return Admission(
        validator,
        core.regions,
        dispatch,
        core.savers,
        core.stats,
        peers=core.task_peers,
        replayed=replayed,
        live_max=settings.live_subtasks_max,
        wait_s=settings.saver_push_timeout_s,
        waiting_max=settings.saver_backlog_count,
        on_alert=core.on_alert,
    )


def _stores(core: Core, validator: Validator, *, has_predecessor: bool) -> Stores:
    if not core.is_shared:
        return EmbeddedStores(core.config.engine, core.peers, is_in_use=has_predecessor)
    from engine.process.shared_store import SharedStore  # noqa: PLC0415 - an embedded store needs no Redis

    slot = 0 if core.peers is None else core.peers.slot
    return SharedStore(core.config, slot, validator, core.on_alert)


def _fill_savers(core: Core, stores: Stores, admission: Admission, dispatch: Dispatch) -> None:
    settings = core.config.engine
    reports = StoreReports(core.stats, core.on_alert)
    for number in range(settings.saver_count):
        saver = Saver(
            stores.make(number),
            asyncio.get_running_loop(),
            Sinks(
                accepted=admission.accepted,
                known=admission.known,
                saved=dispatch.saved,
                callbacks=partial(core.callbacks.written, number),
                late=reports.settled_late,
                state=reports.store_state,
                lost=dispatch.lost,
            ),
            backlog_count=settings.saver_backlog_count,
            push_timeout_s=settings.saver_push_timeout_s,
            has_peers=core.task_peers is not None,
            name=f"saver-{number}",
        )
        core.savers.savers.append(saver)


def _make_nodes(core: Core, dispatch: Dispatch) -> None:
    settings = core.config.engine
    buffers = BufferPool()
    log_subtasks = core.logs.subtasks if settings.log_subtasks else None
    for node in core.config.node:
        try:
            dispatch.nodes[node.name] = Node(
                node, dispatch, settings, buffers, core.timer, stats=core.stats, log_subtasks=log_subtasks
            )
        except OSError as exc:
            raise ConfigError(f"node {node.name!r}: ca_file: {exc}") from exc


# Beside the way of a task


def _cluster(
    core: Core,
    stores: Stores,
    dispatch: Dispatch,
    delay: DelayQueues,
    *,
    rows: ReplayRows,
    readiness: Readiness,
) -> Cluster | None:
    if not core.is_shared:
        return None
    from engine.process.shared_store import SharedStore, make_cluster  # noqa: PLC0415 - see `_stores`

    assert isinstance(stores, SharedStore)
    return make_cluster(
        stores,
        core.config,
        dispatch,
        delay,
        core.savers,
        rows=rows,
        callbacks=core.callbacks,
        is_draining=lambda: readiness.is_draining,
    )


def _housekeeping(
    core: Core, dispatch: Dispatch, delay: DelayQueues, cluster: Cluster | None
) -> Housekeeping:
    return Housekeeping(
        core.savers,
        core.regions,
        (core.timer, core.dues),
        backlog=lambda: dispatch.live + delay.total(),
        may_forget=lambda: cluster is None or cluster.leads(),
        retention_s=core.config.engine.retention_days * 86400,
    )


# The interface


@dataclass(frozen=True)
class _TaskParts:
    """What answers questions about tasks."""

    find: FindTask
    cancel: CancelTask
    listing: ListTasks
    replayed: asyncio.Event

    @classmethod
    def of(
        cls,
        core: Core,
        dispatch: Dispatch,
        delay: DelayQueues,
        cluster: Cluster | None,
        replayed: asyncio.Event,
    ) -> _TaskParts:
        settings, peers = core.config.engine, core.task_peers
        find = FindTask(
            core.regions,
            core.savers,
            core.reader,
            peers=peers,
            replayed=replayed,
            retention_days=settings.retention_days,
        )
        cancel = CancelTask(
            find,
            dispatch,
            core.savers,
            delay,
            peers=peers,
            elsewhere=None if cluster is None else CancelElsewhere(cluster, core.reader),
            write_limit_s=settings.saver_push_timeout_s + WRITE_LIMIT_S,
        )
        listing = ListTasks(core.regions, core.savers, core.reader, peers=peers, is_shared=core.is_shared)
        return cls(find, cancel, listing, replayed)


def _interface(
    core: Core, admission: Admission, tasks: _TaskParts, overview: Overview, readiness: Readiness
) -> Interface:
    settings = core.config.engine
    auth = Auth(core.config.auth, core.config.site)
    bodies = Bodies(settings.body_timeout_s)
    requests = Requests(
        core.stats,
        readiness,
        admission.refuse,
        server=_SERVER,
        body_max_bytes=settings.body_max_bytes,
    )
    task_routes = TaskRoutes(
        auth, bodies, admission, find=tasks.find, cancel=tasks.cancel, listing=tasks.listing
    )
    engine_routes = EngineRoutes(auth, bodies, overview, readiness, logs=core.logs, peers=core.peers)
    api = ApiServer(make_app(task_routes, engine_routes, requests), idle_timeout_s=settings.idle_timeout_s)
    return Interface(
        api,
        _gate(settings, admission, auth, api),
        _worker_app(core, auth, admission, tasks, overview=overview, readiness=readiness),
    )


def _gate(settings: EngineConfig, admission: Admission, auth: Auth, api: ApiServer) -> Gate:
    return Gate(
        admission,
        auth,
        api.make_protocol,
        server=_SERVER,
        connections_max=settings.connections_max,
        body_max_bytes=settings.body_max_bytes,
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
    )


def _worker_app(
    core: Core,
    auth: Auth,
    admission: Admission,
    tasks: _TaskParts,
    *,
    overview: Overview,
    readiness: Readiness,
) -> web.Application:
    worker_tasks = WorkerTasks(
        auth,
        admission,
        find=tasks.find,
        cancel=tasks.cancel,
        listing=tasks.listing,
        replayed=tasks.replayed,
    )
    return make_worker_app(
        worker_tasks,
        WorkerOverview(overview, readiness, core.logs),
        readiness,
        refuse=admission.refuse,
        body_max_bytes=core.config.engine.body_max_bytes,
    )


def _register_gauges(core: Core, dispatch: Dispatch, delay: DelayQueues, gate: Gate) -> None:
    stats = core.stats
    stats.gauge("alert_queue", lambda: core.outbox.alerts_waiting)
    stats.gauge("input_task_queue", lambda: dispatch.inbox_count)
    stats.gauge("notify_queue", lambda: len(core.outbox))
    stats.gauge("pushing_queue", lambda: dispatch.live)
    stats.gauge("reporting_queue", lambda: delay.unfolded)
    stats.gauge("saver_queue", lambda: len(core.savers))
    stats.gauge("tasks_in_cache", lambda: len(core.regions))
    stats.gauge("timer_tasks", lambda: len(core.dues))
    stats.gauge("delayed", delay.total)
    stats.gauge("connections", lambda: len(gate.connections))
    stats.check()


def _log_timer_error(key: object, exc: Exception) -> None:
    logger.opt(exception=exc).error("timer {} failed", key)

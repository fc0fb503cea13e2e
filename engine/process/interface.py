"""The assembly of what clients, the supervisor and the other workers reach."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.api.app import Requests, make_app
from engine.api.bodies import Bodies
from engine.api.callers import Callers
from engine.api.cancel import WRITE_LIMIT_S, CancelElsewhere, CancelTask
from engine.api.checking import CheckRoutes
from engine.api.debug_routes import DebugRoutes
from engine.api.debug_task import TaskLook
from engine.api.find import FindTask
from engine.api.group_routes import GroupRoutes
from engine.api.listing import ListTasks
from engine.api.preview import PreviewTask
from engine.api.receipts import ReceiptRoutes
from engine.api.recording import RecordingRoutes
from engine.api.retry import RetryTask
from engine.api.retry_routes import RetryRoutes
from engine.api.rewind import RewindRoutes
from engine.api.rewinding import Rewinding
from engine.api.server import ApiServer
from engine.api.silencing import SilenceRoutes
from engine.api.tasks import TaskRoutes
from engine.api.why import WhyRoutes
from engine.api.worker_api import WorkerOverview, WorkerTasks, make_worker_app
from engine.console.routes import ConsoleRoutes
from engine.intake.auth import Auth
from engine.intake.client import Addresses
from engine.intake.gate import PortGate
from engine.process.node_orders import make_engine_routes
from engine.process.past import make_history
from engine.process.ports import SERVER, limits_of
from engine.proof.receipt_key import KeyFolder
from engine.proof.signer import Signer
from engine.tree.inspection import inspect_engine

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aiohttp import web

    from engine.api.canary_origin import CanaryOrigin
    from engine.api.history import HistoryRoutes
    from engine.api.overview import Overview
    from engine.api.readiness import Readiness
    from engine.api.recalling import Recalling
    from engine.api.route import Declares
    from engine.cluster.cluster import Cluster
    from engine.config.tables import EngineConfig
    from engine.delivery.parts import Delivery
    from engine.intake.admission import Admission
    from engine.intake.validate import Validator
    from engine.nodes.origin_guard import OriginGuards
    from engine.process.above import Above
    from engine.process.core import Core
    from engine.process.node_orders import NodeOrders
    from engine.process.proof import Proof
    from engine.process.stores import Stores
    from engine.proof.signer import SharesKeys
    from engine.tree.sealing import Sealing


@dataclass(frozen=True)
class Interface:
    """The public side, on one port, and the side of the other workers, on a Unix socket."""

    api: ApiServer
    gate: PortGate
    auth: Auth
    worker_app: web.Application
    signer: Signer


@dataclass(frozen=True)
class TaskAnswers:
    """What answers questions about tasks."""

    find: FindTask
    cancel: CancelTask
    listing: ListTasks
    preview: PreviewTask
    signer: Signer
    guards: OriginGuards
    rewinding: Rewinding
    lacks: Callable[[str, str, bool], str]  #: see `Validator.lacks`
    look: TaskLook
    replayed: asyncio.Event

    @classmethod
    def of(
        cls,
        core: Core,
        delivery: Delivery,
        cluster: Cluster | None,
        replayed: asyncio.Event,
        *,
        validator: Validator,
        stores: Stores,
        proof: Proof,
    ) -> TaskAnswers:
        """Return them for one engine."""
        settings, peers = core.config.engine, core.task_peers
        find = FindTask(
            core.regions,
            core.savers,
            core.reader,
            peers=peers,
            replayed=replayed,
            retention_days=settings.retention_days,
            told_of=core.outbox.told_of,
        )
        takeover_s = core.config.store.takeover_s
        elsewhere = None if cluster is None else CancelElsewhere(cluster, core.reader, takeover_s)
        cancel = CancelTask(
            find,
            delivery.dispatch,
            core.savers,
            delivery.queues,
            peers=peers,
            elsewhere=elsewhere,
            write_limit_s=settings.saver_push_timeout_s + WRITE_LIMIT_S,
        )
        listing = ListTasks(core.regions, core.savers, core.reader, peers=peers, is_shared=core.is_shared)
        preview = PreviewTask(validator, core.nodes)
        signer = _signer(core, stores.shared_keys)
        rewinds = stores.rewinds((lambda _: False) if cluster is None else cluster.is_nobody)
        rewinding = Rewinding(core.regions.rewinds, core.reader, peers=peers, shared=rewinds)
        look = TaskLook(
            find,
            delivery,
            core.savers,
            core.reader,
            outbox=core.outbox,
            nodes=core.nodes,
            cluster=cluster,
        )
        return cls(
            find, cancel, listing, preview, signer, proof.guards, rewinding, validator.lacks, look, replayed
        )


def _signer(core: Core, shared_keys: SharesKeys | None) -> Signer:
    settings = core.config.engine
    name = settings.name or f"{platform.node()}:{core.config.listen_address()[1]}"
    return Signer(KeyFolder(Path(settings.data_dir)), shared_keys, core.reader, engine=name)


def make_interface(
    core: Core,
    admission: Admission,
    tasks: TaskAnswers,
    orders: NodeOrders,
    *,
    overview: Overview,
    readiness: Readiness,
    origin: CanaryOrigin | None,
    above: Above,
) -> Interface:
    """Return both sides; *tasks* answers questions about tasks on each of them, *origin* asks of caches."""
    settings = core.config.engine
    auth = Auth(core.config.auth, core.config.site)
    addresses = Addresses(settings.trusted_proxies)
    callers = Callers(auth, addresses)
    bodies = Bodies(settings.body_timeout_s)
    requests = _requests(core, admission, callers, readiness, above.seals)
    history, recalling = make_history(core)
    history.below = above.below
    task_routes = _task_routes(core, admission, tasks, callers, bodies=bodies, history=history)
    engine_routes = make_engine_routes(core, orders, overview, readiness, bodies, below=above.below)
    receipt_routes = ReceiptRoutes(tasks.find, tasks.signer)
    again = _again(core, admission, tasks, callers, bodies, history=history, recalling=recalling)
    why_routes = WhyRoutes(
        core.config,
        core.nodes,
        tasks.guards,
        find=tasks.find,
        listing=tasks.listing,
        history=history,
        below=above.below,
    )
    group_routes = GroupRoutes(callers, bodies, admission, core.stats)
    recording = RecordingRoutes(
        admission.tap, core.peers, readiness, callers=callers, audit=core.audit, server=SERVER
    )
    debugging = DebugRoutes(core.nodes, tasks.look, core.peers, readiness, server=SERVER)
    declared: list[Declares] = [task_routes, group_routes, receipt_routes, *again]
    silencing = SilenceRoutes(
        core.silences, core.outbox.silenced.shown, bodies, callers, audit=core.audit, peers=core.peers
    )
    declared += [history, why_routes, engine_routes, recording, debugging, silencing]
    declared += [CheckRoutes(core.config, inspect_engine, above.below)]
    declared += [ConsoleRoutes(overview, readiness, core.peers, server=SERVER)]
    declared += [above.routes(tasks.find, tasks.cancel.handed, callers, bodies, admission)]
    declared += [] if origin is None else [origin]
    app = make_app(declared, auth, requests)
    api = ApiServer(app, requests, idle_timeout_s=settings.idle_timeout_s)
    return Interface(
        api,
        _gate(settings, admission, auth, addresses, api),
        auth,
        _worker_app(
            core,
            auth,
            admission,
            tasks,
            history=history,
            recalling=recalling,
            overview=WorkerOverview(overview, readiness, core.logs, orders.forget, orders.pausing),
            readiness=readiness,
            recording=recording,
            debugging=debugging,
            silencing=silencing,
        ),
        tasks.signer,
    )


def _requests(
    core: Core, admission: Admission, callers: Callers, readiness: Readiness, seals: Sealing
) -> Requests:
    return Requests(
        core.stats,
        readiness,
        admission.refuse,
        callers,
        core.audit,
        tap=admission.tap,
        server=SERVER,
        body_max_bytes=core.config.engine.body_max_bytes,
        seals=seals,
    )


def _task_routes(
    core: Core,
    admission: Admission,
    tasks: TaskAnswers,
    callers: Callers,
    *,
    bodies: Bodies,
    history: HistoryRoutes,
) -> TaskRoutes:
    return TaskRoutes(
        callers,
        core.audit,
        bodies,
        admission,
        find=tasks.find,
        cancel=tasks.cancel,
        listing=tasks.listing,
        preview=tasks.preview,
        history=history,
        below=history.below,
    )


def _again(
    core: Core,
    admission: Admission,
    tasks: TaskAnswers,
    callers: Callers,
    bodies: Bodies,
    *,
    history: HistoryRoutes,
    recalling: Recalling,
) -> tuple[RetryRoutes, RewindRoutes]:
    """Return what sends something once more."""
    reader = core.history_reader
    nodes = core.nodes.keys()
    retry = RetryTask(
        tasks.find,
        recalling,
        admission,
        task_of=tasks.preview.task,
        reader=reader,
        nodes=nodes,
        audit=core.audit,
    )
    rewind = RewindRoutes(
        callers,
        bodies,
        recalling,
        reader,
        admission,
        cancel=tasks.cancel,
        nodes={node.name: node for node in core.config.node},
        lacks=tasks.lacks,
        rewinding=tasks.rewinding,
        audit=core.audit,
        below=history.below,
    )
    return RetryRoutes(callers, bodies, retry, history, reader), rewind


def _gate(
    settings: EngineConfig, admission: Admission, auth: Auth, addresses: Addresses, api: ApiServer
) -> PortGate:
    return PortGate(
        admission,
        auth,
        api.make_protocol,
        body_max_bytes=settings.body_max_bytes,
        **limits_of(settings, addresses),
    )


def _worker_app(
    core: Core,
    auth: Auth,
    admission: Admission,
    tasks: TaskAnswers,
    *,
    history: HistoryRoutes,
    recalling: Recalling,
    overview: WorkerOverview,
    readiness: Readiness,
    recording: RecordingRoutes,
    debugging: DebugRoutes,
    silencing: SilenceRoutes,
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
        history,
        recalling,
        overview,
        readiness,
        rewinding=tasks.rewinding,
        recording=recording,
        debugging=debugging,
        silencing=silencing,
        refuse=admission.refuse,
        body_max_bytes=core.config.engine.body_max_bytes,
    )

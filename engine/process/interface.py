"""The assembly of what clients, the supervisor and the other workers reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.api.app import Requests, make_app
from engine.api.bodies import Bodies
from engine.api.callers import Callers
from engine.api.checking import CheckRoutes
from engine.api.debug_routes import DebugRoutes
from engine.api.group_routes import GroupRoutes
from engine.api.receipts import ReceiptRoutes
from engine.api.recording import RecordingRoutes
from engine.api.retry import RetryTask
from engine.api.retry_routes import RetryRoutes
from engine.api.rewind import RewindRoutes
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
from engine.tree.inspection import inspect_engine

if TYPE_CHECKING:
    from aiohttp import web

    from engine.api.canary_origin import CanaryOrigin
    from engine.api.history import HistoryRoutes
    from engine.api.overview import Overview
    from engine.api.readiness import Readiness
    from engine.api.recalling import Recalling
    from engine.api.route import Declares
    from engine.config.tables import EngineConfig
    from engine.intake.admission import Admission
    from engine.process.above import Above
    from engine.process.core import Core
    from engine.process.node_orders import NodeOrders
    from engine.process.task_answers import TaskAnswers
    from engine.proof.signer import Signer
    from engine.tree.sealing import Sealing


@dataclass(frozen=True)
class Interface:
    """The public side, on one port, and the side of the other workers, on a Unix socket."""

    api: ApiServer
    gate: PortGate
    auth: Auth
    worker_app: web.Application
    signer: Signer


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
    again = _again(core, admission, tasks, callers, bodies, history=history, recalling=recalling)
    both = _both_sides(core, admission, tasks, callers, bodies, readiness=readiness, history=history)
    declared: list[Declares] = [
        *(task_routes, GroupRoutes(callers, bodies, admission, core.stats)),
        *(ReceiptRoutes(tasks.find, tasks.signer), *again, history),
        *(_why_routes(core, tasks, history), engine_routes, both.recording, both.debugging, both.silencing),
        CheckRoutes(core.config, inspect_engine, above.below),
        ConsoleRoutes(overview, readiness, core.peers, server=SERVER),
        above.routes(tasks.find, tasks.cancel.handed, callers, bodies, admission),
        *([] if origin is None else [origin]),
    ]
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
            both,
            recalling=recalling,
            overview=WorkerOverview(overview, readiness, core.logs, orders.forget, orders.pausing),
            readiness=readiness,
        ),
        tasks.signer,
    )


def _why_routes(core: Core, tasks: TaskAnswers, history: HistoryRoutes) -> WhyRoutes:
    return WhyRoutes(
        core.config,
        core.nodes,
        tasks.guards,
        find=tasks.find,
        listing=tasks.listing,
        history=history,
        below=history.below,
    )


@dataclass(frozen=True)
class _BothSides:
    """What answers clients, and the other workers about this one."""

    history: HistoryRoutes
    recording: RecordingRoutes
    debugging: DebugRoutes
    silencing: SilenceRoutes


def _both_sides(
    core: Core,
    admission: Admission,
    tasks: TaskAnswers,
    callers: Callers,
    bodies: Bodies,
    *,
    readiness: Readiness,
    history: HistoryRoutes,
) -> _BothSides:
    return _BothSides(
        history,
        RecordingRoutes(
            admission.tap, core.peers, readiness, callers=callers, audit=core.audit, server=SERVER
        ),
        DebugRoutes(core.nodes, tasks.look, core.peers, readiness, server=SERVER),
        SilenceRoutes(
            core.silences, core.outbox.silenced.shown, bodies, callers, audit=core.audit, peers=core.peers
        ),
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
    both: _BothSides,
    *,
    recalling: Recalling,
    overview: WorkerOverview,
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
        both.history,
        recalling,
        overview,
        readiness,
        rewinding=tasks.rewinding,
        recording=both.recording,
        debugging=both.debugging,
        silencing=both.silencing,
        refuse=admission.refuse,
        body_max_bytes=core.config.engine.body_max_bytes,
    )

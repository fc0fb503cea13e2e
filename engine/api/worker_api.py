"""What one worker answers its supervisor and the other workers, on its own Unix socket.

The supervisor asks ``/readyz`` and ``/version``, as it would at the front. The others ask for tasks, with
what the store keeps besides (the digest of the body, the token), and for their part of what is shown as
one: statistics, nodes, metrics; and tell them to log in another format. Tokens have been checked by
the worker that asks, and come by name.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from loguru import logger

from engine.api.answers import json_reply, reply_to, response_of
from engine.errors import EngineError, StoreError
from engine.intake.client import HTTP, Again, Client
from engine.intake.problems import problem
from engine.intake.replies import Reply
from engine.tasks.records import By
from engine.workers.peers import GONE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from engine.api.cancel import CancelTask
    from engine.api.debug_routes import DebugRoutes
    from engine.api.find import FindTask
    from engine.api.forget import ForgetNode
    from engine.api.history import HistoryRoutes
    from engine.api.listing import ListTasks
    from engine.api.overview import Overview
    from engine.api.pausing import PauseNode
    from engine.api.readiness import Readiness
    from engine.api.recalling import Recalling
    from engine.api.recording import RecordingRoutes
    from engine.api.rewinding import Rewinding
    from engine.api.silencing import SilenceRoutes
    from engine.intake.admission import Admission
    from engine.intake.auth import Auth
    from engine.observe.logs import Logs

    Handler = Callable[[web.Request], Awaitable[Reply]]

_ENDING: Final = "this worker is ending"
_PREPARE_LIMIT_S: Final = 8.0  #: a worker that has just been started is asked before it has its store


def make_worker_app(
    tasks: WorkerTasks,
    history: HistoryRoutes,
    recalling: Recalling,
    overview: WorkerOverview,
    readiness: Readiness,
    *,
    rewinding: Rewinding,
    recording: RecordingRoutes,
    debugging: DebugRoutes,
    silencing: SilenceRoutes,
    refuse: Callable[..., Reply],
    body_max_bytes: int,
) -> web.Application:
    """Return the application.

    Args:
        tasks: answers about tasks.
        history: answers about those that have settled.
        recalling: tells what of them is sent once more.
        overview: answers about this worker.
        readiness: requests of other workers wait until this one is prepared.
        rewinding: tells which nodes are being rewound.
        recording: streams what passes.
        debugging: looks into this worker.
        silencing: silences alerts.
        refuse: counts an error and returns its reply; see `Admission.refuse`.
        body_max_bytes: longer bodies are refused.
    """
    app = web.Application(client_max_size=body_max_bytes)
    routes = _routes(
        tasks, history, recalling, overview, rewinding=rewinding, debugging=debugging, silencing=silencing
    )
    for method, path, handler in routes:
        app.router.add_route(method, path, _answering(handler, readiness, refuse))
    app.router.add_get("/worker/recording", recording.here, allow_head=False)
    app.router.add_get("/worker/debug/gc/trace", debugging.gc_trace_here, allow_head=False)
    return app


def _routes(
    tasks: WorkerTasks,
    history: HistoryRoutes,
    recalling: Recalling,
    overview: WorkerOverview,
    *,
    rewinding: Rewinding,
    debugging: DebugRoutes,
    silencing: SilenceRoutes,
) -> list[tuple[str, str, Handler]]:
    """Return method, path and handler of what is answered with a document."""
    return [
        ("GET", "/readyz", overview.ready),
        ("GET", "/version", overview.version),
        ("POST", "/worker/task", tasks.submit),
        ("GET", "/worker/task/{id}", tasks.find),
        ("DELETE", "/worker/task/{id}", tasks.cancel),
        ("DELETE", "/worker/handed", tasks.cancel_handed),
        ("GET", "/worker/tasks", tasks.list),
        ("GET", "/worker/history", history.page_here),
        ("GET", "/worker/failed/{id}", recalling.failed_here),
        ("GET", "/worker/purges", recalling.purges_here),
        ("GET", "/worker/rewind/{name}", rewinding.here),
        ("GET", "/worker/stats", overview.stats),
        ("GET", "/worker/delayed", overview.delayed),
        ("GET", "/worker/proof", overview.proof),
        ("GET", "/worker/nodes", overview.nodes),
        ("DELETE", "/worker/nodes/{name}", overview.forget_node),
        ("PUT", "/worker/pause", overview.pause_node),
        ("PUT", "/worker/silence", silencing.change_here),
        ("GET", "/worker/silenced", silencing.shown_here),
        ("GET", "/worker/metrics", overview.metrics),
        ("GET", "/worker/debug/{look}", debugging.here),
        ("PUT", "/worker/log-format/{name}", overview.swap_log_format),
    ]


def _answering(
    handler: Handler, readiness: Readiness, refuse: Callable[..., Reply]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            if request.path.startswith("/worker/"):
                await readiness.wait_prepared(_PREPARE_LIMIT_S)
            reply = await handler(request)
        except EngineError as exc:
            is_closed = readiness.is_ending and isinstance(exc, StoreError)
            what = f"{request.method} {request.path}"
            reply = problem(GONE, _ENDING) if is_closed else refuse(exc, request=what)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the other worker must not take it for an answer
            if not readiness.is_ending:
                logger.opt(exception=exc).error("{} {} failed", request.method, request.path)
            reply = problem(GONE, _ENDING)
        return response_of(reply)

    return answer


class WorkerTasks:
    """Answers about the tasks that this worker has.

    Args:
        replayed: set while nothing is left in the store that a worker before this one has accepted.
    """

    def __init__(
        self,
        auth: Auth,
        admission: Admission,
        *,
        find: FindTask,
        cancel: CancelTask,
        listing: ListTasks,
        replayed: asyncio.Event,
    ) -> None:
        self._auth = auth
        self._admission = admission
        self._find = find
        self._cancel = cancel
        self._listing = listing
        self._replayed = replayed

    async def submit(self, request: web.Request) -> Reply:
        """Take a task in that another worker has from its client, and that belongs here."""
        query = request.query
        token = self._auth.named(query["token"])
        unset = msgspec.UNSET
        path = query.get("path", unset)  # of a task that is handed down, whose id may be that of a retry
        by = By(token.name, query.get("address", ""), query.get("door", HTTP), path)  # N-1 names no address
        again = Again(query.get("retries", "")) if "retries" in query or path is not unset else None
        client = Client(token, by, again, query.get("traceparent", ""))
        body = await request.read()
        return await reply_to(partial(self._admission.submit, body, client, is_forwarded=True))

    async def find(self, request: web.Request) -> Reply:
        """Give a task's private document."""
        document = await self._find.here(request.match_info["id"])
        if document is not None:
            return json_reply(document)
        if request.query.get("sure") and not self._replayed.is_set():
            return problem(GONE, "what was left to this worker is not taken up yet")
        return problem(404, "not here")

    async def cancel(self, request: web.Request) -> Reply:
        """Cancel what has no answer of a task, and give its document."""
        token = self._auth.named(request.query["token"])
        return json_reply(await self._cancel.cancel_here(request.match_info["id"], token))

    async def cancel_handed(self, request: web.Request) -> Reply:
        """Cancel what an engine above handed down, and give how many tasks that were."""
        token = self._auth.named(request.query["token"])
        names = msgspec.json.decode(await request.read(), type=list[str])
        return json_reply({"cancelled": await self._cancel.handed.here(names, token)})

    async def list(self, request: web.Request) -> Reply:
        """Give a page of private documents."""
        query = request.query
        state, only = query.get("state") or None, query.get("token") or None
        page, cursor = await self._listing.page_here(
            state, query.get("cursor", ""), int(query["limit"]), only
        )
        return json_reply({"tasks": page, "cursor": cursor})


class WorkerOverview:
    """Answers about this worker itself, and its log."""

    def __init__(
        self,
        overview: Overview,
        readiness: Readiness,
        logs: Logs,
        forget: ForgetNode,
        pausing: PauseNode,
    ) -> None:
        self._pausing = pausing
        self._overview = overview
        self._forget = forget
        self._readiness = readiness
        self._logs = logs

    async def ready(self, _request: web.Request) -> Reply:
        """Say whether new requests should come here; which nodes are unproven; which no probe proves."""
        reason = self._readiness.not_ready_reason()
        if reason:
            return problem(503, reason)
        proof = {
            "unproven": self._overview.own_unproven(),
            "need_pages": self._overview.own_needing_pages(),
        }
        return json_reply({"status": "ready"} | {key: names for key, names in proof.items() if names})

    async def version(self, _request: web.Request) -> Reply:
        """Give which engine runs."""
        return json_reply(self._overview.version_document())

    async def stats(self, _request: web.Request) -> Reply:
        """Give this worker's counters."""
        return json_reply(self._overview.own_stats())

    async def delayed(self, _request: web.Request) -> Reply:
        """Give how many rows this worker's delay queues have."""
        return json_reply(self._overview.own_delayed())

    async def proof(self, _request: web.Request) -> Reply:
        """Give this worker's part of what is said of proof."""
        return json_reply(self._overview.own_proof())

    async def nodes(self, _request: web.Request) -> Reply:
        """Give this worker's nodes."""
        return json_reply(await self._overview.own_nodes())

    async def forget_node(self, request: web.Request) -> Reply:
        """Fail what is left of a node that is not configured any more."""
        return json_reply(await self._forget.forget_here(request.match_info["name"]))

    async def pause_node(self, request: web.Request) -> Reply:
        """Pause or resume a node, as another worker was asked to."""
        return Reply(200, await self._pausing.change_here(await request.read()))

    async def metrics(self, _request: web.Request) -> Reply:
        """Give this worker's Prometheus page."""
        return Reply(200, await self._overview.own_metrics(), "text/plain")

    async def swap_log_format(self, request: web.Request) -> Reply:
        """Log in another format."""
        self._logs.swap(request.match_info["name"])
        return json_reply({})

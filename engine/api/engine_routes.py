"""The routes about the engine itself: readiness, overview, and the format of its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from aiohttp import web

from engine.api.answers import json_response, response_of
from engine.api.below import NONE_BELOW
from engine.api.passing_on import UNTOLD, pass_on
from engine.api.route import QUERY, TOKEN, Route, Text
from engine.api.schemas import Cluster, Forgotten, LogFormat, Nodes, Paused, Statistics, Status, Version
from engine.errors import RequestError
from engine.intake.problems import problem
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from engine.api.below import Below
    from engine.api.bodies import Bodies
    from engine.api.forget import ForgetNode
    from engine.api.overview import Overview
    from engine.api.pausing import PauseNode
    from engine.api.readiness import Readiness
    from engine.observe.logs import Logs
    from engine.workers.peers import Peers


class NodesQuery(msgspec.Struct):
    """``GET /v1/engine/nodes``."""

    leaves: Annotated[
        Literal["0", "1"], msgspec.Meta(description="1: the leaves below nodes that are engines, one by one")
    ] = "0"


NODES: Final = "/v1/engine/nodes"
_VERSION: Final = "version, revision, build time, Python, event loop, PID, uptime"


class EngineRoutes:
    """Handlers; what needs no token asks for none."""

    routes: Final = (
        Route(
            "DELETE",
            "/v1/engine/nodes/{name}",
            "forget_node",
            "admin",
            text="forget a cache that is not configured any more: what waits for it fails now; scope `admin`",
            answers={200: Forgotten},
            errors={404: "nothing is known of it", 409: "an engine configures it", 502: UNTOLD},
        ),
        Route(
            "POST",
            "/v1/engine/nodes/{name}/pause",
            "pause_node",
            "admin",
            text="what is for the node waits from here on, see docs/pausing.md; the "
            "answer says who paused it first, and when; scope `admin`",
            answers={200: Paused},
            errors={404: "it is not configured", 409: "it was resumed meanwhile", 502: UNTOLD},
        ),
        Route(
            "POST",
            "/v1/engine/nodes/{name}/resume",
            "resume_node",
            "admin",
            text="what waits for a paused node is delivered; scope `admin`",
            answers={200: Paused},
            errors={404: "it is not configured", 409: "it was paused meanwhile", 502: UNTOLD},
        ),
        Route(
            "GET",
            "/v1/engine/nodes",
            "nodes",
            "read",
            NodesQuery,
            text="every cache: `state` (`ready`, `catching_up`, `refusing`, `unproven`, `sick`, `down`, "
            "`paused`; `gone`: not configured any more, shown while something waits for it), its "
            "`reason` and `since` when, on what `evidence` its purges count (`mark`, `shape`, `prober`, "
            "`any`, `none`), what waits for it (`delayed`: rows; a host-wide row stands for many "
            "subtasks), of what was acked the part that it had nothing of (`absent`), what it refuses, "
            "was sick of or cannot do by host and operation (`held`, below), what its last canaries showed "
            "(`canary`; null: there was none), `last_error` and "
            "`last_error_at` (empty and 0 when it has been ready for an hour since), and what it does "
            "otherwise than one may expect (`notes`). A node that is an engine tells of "
            "the caches below it, in numbers (`leaves`), and with `leaves=1` one by one as `eu/edge-7`; "
            "`current` is false where it does not answer, and the last known is shown",
            answers={200: Nodes},
        ),
        Route(
            "GET",
            "/v1/engine/cluster",
            "cluster",
            "read",
            text="the engines of one Redis: who lives, who leads, journal entries each has at work and the "
            "age of the oldest, how far its clock is ahead of that of Redis (`clock_ahead_s`); "
            "`wait_replicas`, the `replicas` of the master with the fewest, `warnings` of what a "
            "failover can lose",
            answers={200: Cluster},
        ),
        Route(
            "GET",
            "/v1/engine/stats",
            "stats",
            "read",
            text="queue lengths and rates",
            answers={200: Statistics},
        ),
        Route("GET", "/v1/engine/version", "version", text=_VERSION, answers={200: Version}),
        Route("GET", "/version", "version", text=_VERSION, answers={200: Version}, name="version_here"),
        Route("GET", "/healthz", "health", text="that the process lives", answers={200: Status}),
        Route(
            "GET",
            "/readyz",
            "ready",
            text="whether requests should come here",
            answers={200: Status},
            errors={503: "starting, draining, or unable to save; `Retry-After`"},
        ),
        Route(
            "GET",
            "/metrics",
            "metrics",
            "read",
            text="Prometheus text format",
            answers={200: Text("text/plain")},
        ),
        Route(
            "PUT",
            "/v1/engine/log-format",
            "swap_log_format",
            "admin",
            text="the format of log lines; in all workers, until they are started again; scope `admin`",
            takes=LogFormat,
            answers={200: LogFormat},
        ),
    )

    def __init__(
        self,
        bodies: Bodies,
        overview: Overview,
        readiness: Readiness,
        *,
        forget: ForgetNode,
        pausing: PauseNode,
        logs: Logs,
        peers: Peers | None,
        below: Below = NONE_BELOW,
    ) -> None:
        self._bodies = bodies
        self._overview = overview
        self._readiness = readiness
        self._forget = forget
        self._pausing = pausing
        self._logs = logs
        self._peers = peers
        self._below = below

    async def health(self, _request: web.Request) -> web.Response:
        """Say that the process runs."""
        return json_response(Status("ok"))

    async def ready(self, _request: web.Request) -> web.Response:
        """Say whether new requests should come here."""
        reason = self._readiness.not_ready_reason()
        if reason:
            return response_of(problem(503, reason, headers={"Retry-After": "1"}))
        return json_response(Status("ready"))

    async def version(self, _request: web.Request) -> web.Response:
        """Show which engine runs."""
        return json_response(self._overview.version_document())

    async def stats(self, _request: web.Request) -> web.Response:
        """Show the counters."""
        return json_response(await self._overview.all_stats())

    async def nodes(self, request: web.Request) -> web.Response:
        """Show the nodes."""
        asked: NodesQuery = request[QUERY]
        document: dict[str, Any] = {"nodes": await self._overview.all_nodes()}
        if asked.leaves == "1":
            document["leaves"] = await self._overview.leaves()
        return json_response(document)

    async def forget_node(self, request: web.Request) -> web.Response:
        """Fail what is left of a node that is not configured any more."""
        name = request.match_info["name"]
        passed = await pass_on(self._below, name, request, "DELETE", f"{NODES}/{{leaf}}")
        return json_response(await self._forget.forget(name) if passed is None else passed)

    async def pause_node(self, request: web.Request) -> web.Response:
        """Have what is for a node wait until it is resumed."""
        return await self._change_pause(request, is_paused=True)

    async def resume_node(self, request: web.Request) -> web.Response:
        """Deliver what waits for a node that was paused."""
        return await self._change_pause(request, is_paused=False)

    async def _change_pause(self, request: web.Request, *, is_paused: bool) -> web.Response:
        name, what = request.match_info["name"], "pause" if is_paused else "resume"
        passed = await pass_on(self._below, name, request, "POST", f"{NODES}/{{leaf}}/{what}")
        if passed is None:
            passed = await self._pausing.change(name, request[TOKEN].name, is_paused=is_paused)
        return json_response(passed)

    async def cluster(self, _request: web.Request) -> web.Response:
        """Show the engines that share the store."""
        return json_response(await self._overview.cluster_document())

    async def metrics(self, _request: web.Request) -> web.Response:
        """Show the counters to Prometheus."""
        body = await self._overview.all_metrics()
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def swap_log_format(self, request: web.Request) -> web.Response:
        """Swap the format of every worker's log lines; one that starts later has the configured one."""
        try:
            name = msgspec.json.decode(await self._bodies.read(request), type=LogFormat).format
            self._logs.swap(name)
            if self._peers is not None:
                await self._peers.ask_all(worker_path("log-format", name), "PUT")
        except (msgspec.DecodeError, ValueError, KeyError) as exc:
            raise RequestError(422, f"format: takes struct, dict or text ({exc})", field="format") from exc
        return json_response(LogFormat(name))

"""The routes about the engine itself: readiness, overview, and the format of its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from engine.api.answers import json_response, response_of
from engine.errors import RequestError
from engine.intake.problems import problem
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from engine.api.bodies import Bodies
    from engine.api.forget import ForgetNode
    from engine.api.overview import Overview
    from engine.api.pausing import PauseNode
    from engine.api.readiness import Readiness
    from engine.intake.auth import Auth
    from engine.observe.logs import Logs
    from engine.workers.peers import Peers


class _LogFormat(msgspec.Struct, forbid_unknown_fields=True):
    format: str


class EngineRoutes:
    """Handlers; what needs no token asks for none."""

    def __init__(
        self,
        auth: Auth,
        bodies: Bodies,
        overview: Overview,
        readiness: Readiness,
        *,
        forget: ForgetNode,
        pausing: PauseNode,
        logs: Logs,
        peers: Peers | None,
    ) -> None:
        self._auth = auth
        self._bodies = bodies
        self._overview = overview
        self._readiness = readiness
        self._forget = forget
        self._pausing = pausing
        self._logs = logs
        self._peers = peers

    async def health(self, _request: web.Request) -> web.Response:
        """Say that the process runs."""
        return json_response({"status": "ok"})

    async def ready(self, _request: web.Request) -> web.Response:
        """Say whether new requests should come here."""
        reason = self._readiness.not_ready_reason()
        if reason:
            return response_of(problem(503, reason, headers={"Retry-After": "1"}))
        return json_response({"status": "ready"})

    async def version(self, _request: web.Request) -> web.Response:
        """Show which engine runs."""
        return json_response(self._overview.version_document())

    async def stats(self, request: web.Request) -> web.Response:
        """Show the counters."""
        self._check_reader(request)
        return json_response(await self._overview.all_stats())

    async def nodes(self, request: web.Request) -> web.Response:
        """Show the nodes."""
        self._check_reader(request)
        return json_response({"nodes": await self._overview.all_nodes()})

    async def forget_node(self, request: web.Request) -> web.Response:
        """Fail what is left of a node that is not configured any more."""
        self._auth.check(request.headers.get("Authorization"), "admin")
        return json_response(await self._forget.forget(request.match_info["name"]))

    async def pause_node(self, request: web.Request) -> web.Response:
        """Have what is for a node wait until it is resumed."""
        return await self._change_pause(request, is_paused=True)

    async def resume_node(self, request: web.Request) -> web.Response:
        """Deliver what waits for a node that was paused."""
        return await self._change_pause(request, is_paused=False)

    async def _change_pause(self, request: web.Request, *, is_paused: bool) -> web.Response:
        token = self._auth.check(request.headers.get("Authorization"), "admin")
        name = request.match_info["name"]
        return json_response(await self._pausing.change(name, token.name, is_paused=is_paused))

    async def cluster(self, request: web.Request) -> web.Response:
        """Show the engines that share the store."""
        self._check_reader(request)
        return json_response(await self._overview.cluster_document())

    async def metrics(self, request: web.Request) -> web.Response:
        """Show the counters to Prometheus."""
        self._check_reader(request)
        body = await self._overview.all_metrics()
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def swap_log_format(self, request: web.Request) -> web.Response:
        """Swap the format of every worker's log lines; one that starts later has the configured one."""
        self._auth.check(request.headers.get("Authorization"), "admin")
        try:
            name = msgspec.json.decode(await self._bodies.read(request), type=_LogFormat).format
            self._logs.swap(name)
            if self._peers is not None:
                await self._peers.ask_all(worker_path("log-format", name), "PUT")
        except (msgspec.DecodeError, ValueError, KeyError) as exc:
            raise RequestError(422, f"format: takes struct, dict or text ({exc})", field="format") from exc
        return json_response({"format": name})

    def _check_reader(self, request: web.Request) -> None:
        self._auth.check(request.headers.get("Authorization"), "read")

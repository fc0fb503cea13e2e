"""aiohttp's side of the port: it serves the connections that `engine.intake` hands over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from loguru import logger

from engine.api.answers import response_of
from engine.intake.problems import problem

if TYPE_CHECKING:
    from aiohttp.web_server import Server


class ApiProtocol(web.RequestHandler):
    """aiohttp's protocol, with problem documents for what its parser refuses."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response for a request that never reached a handler."""
        if status >= 500:  # noqa: PLR2004 - HTTP
            logger.opt(exception=exc).error("a request failed")
            reply = problem(status, "an error in the engine; its log says more")
        else:
            reply = problem(status, f"not a valid HTTP request: {(message or 'malformed').splitlines()[0]}")
        response = response_of(reply)
        response.force_close()
        return response


class ApiServer:
    """Runs the application without a port of its own.

    Args:
        app: with all routes.
        idle_timeout_s: between two requests of a connection.
    """

    def __init__(self, app: web.Application, *, idle_timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None)
        self._server: Server
        self._idle_timeout_s = idle_timeout_s

    async def start(self) -> None:
        """Make the application ready for connections."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        self._server = server

    def make_protocol(self) -> ApiProtocol:
        """Make the protocol of a connection that is handed over; after `start`."""
        return ApiProtocol(
            self._server,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=self._idle_timeout_s,
            max_field_size=16 * 1024,
            max_line_size=16 * 1024,
            auto_decompress=False,
            lingering_time=1,
        )

    async def close(self) -> None:
        """End the application."""
        await self._runner.cleanup()

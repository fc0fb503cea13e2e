"""aiohttp's side of the port: it serves the connections that `engine.intake` hands over."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import BadHttpMethod
from loguru import logger
from yarl import URL

from engine.api.answers import response_of
from engine.api.app import TOO_OLD
from engine.intake.problems import problem

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.web_server import Server

    from engine.api.app import Requests
    from engine.intake.replies import Reply


METHODS: Final = "DELETE, GET, HEAD, OPTIONS, POST, PUT"  #: that some route takes

_OTHER_METHOD: Final = re.compile(r"'([!#$%&*+.^_`|~0-9A-Za-z-]{1,40}) \S* HTTP/1\.[01]'\n")


class ApiProtocol(web.RequestHandler):
    """aiohttp's protocol, with problem documents for what its parser refuses.

    Args:
        server: value of ``Server`` in these.
    """

    __slots__ = ("_server_name",)

    def __init__(self, manager: Server, *, server: str, **options: Any) -> None:
        super().__init__(manager, **options)
        self._server_name = server

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response for a request that never reached a handler."""
        if isinstance(exc, ConnectionError):
            reply = problem(400, "the connection has ended")  # which nobody reads
        elif status >= 500:  # noqa: PLR2004 - HTTP
            logger.opt(exception=exc).error("a request failed")
            reply = problem(status, "an error in the engine; its log says more")
        else:
            reply = _refusal(status, exc, message or "malformed")
        response = response_of(reply)
        response.headers["Server"] = self._server_name
        response.force_close()
        request._version = HttpVersion11  # noqa: SLF001 - aiohttp gives what it cannot read the version 1.0
        return response


def _refusal(status: int, exc: BaseException | None, message: str) -> Reply:
    """Return the reply for bytes that aiohttp's parser refuses; an unknown method is HTTP all the same."""
    method = _OTHER_METHOD.search(message) if isinstance(exc, BadHttpMethod) else None
    if method is not None:
        return problem(405, f"no route takes {method[1]}; they take {METHODS}", headers={"Allow": METHODS})
    return problem(status, f"not a valid HTTP request: {message.splitlines()[0].rstrip(':')}")


class ApiServer:
    """Runs the application without a port of its own.

    Args:
        app: with all routes.
        requests: what every request goes through before the application.
        idle_timeout_s: between two requests of a connection.
    """

    def __init__(self, app: web.Application, requests: Requests, *, idle_timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None)
        self._server: Server
        self._requests = requests
        self._idle_timeout_s = idle_timeout_s

    async def start(self) -> None:
        """Make the application ready for connections."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        app, make_request = server.request_handler, server.request_factory

        def make(message: RawRequestMessage, *parts: Any) -> web.BaseRequest:
            if message.version >= HttpVersion10:
                return make_request(message, *parts)
            # aiohttp's parser takes the requests of 1991, of CONNECT even without a target.
            known = message._replace(version=HttpVersion11, url=message.url or URL("/"), should_close=True)
            request = make_request(known, *parts)
            request[TOO_OLD] = True
            return request

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            assert isinstance(request, web.Request)
            return await self._requests.handle(request, app)

        server.request_handler, server.request_factory = handle, make
        self._server = server

    def make_protocol(self) -> ApiProtocol:
        """Make the protocol of a connection that is handed over; after `start`."""
        return ApiProtocol(
            self._server,
            server=self._requests.server,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=self._idle_timeout_s,
            max_field_size=16 * 1024,
            max_line_size=16 * 1024,
            auto_decompress=False,
            lingering_time=1,
        )

    async def close(self) -> None:
        """End the application."""
        await self._runner.cleanup()

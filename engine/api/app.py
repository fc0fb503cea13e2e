"""Every route but the fast lane's, on aiohttp.

Errors are problem documents on both lanes, also for what aiohttp itself refuses.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web
from loguru import logger

from engine.api.answers import response_of
from engine.api.bodies import is_continue_expected, lane_of, leave_to_bodies
from engine.api.browsers import check_browser
from engine.api.description import Description
from engine.api.query import QueryReader
from engine.api.recording import head_of
from engine.api.route import API, QUERY, TOKEN
from engine.errors import EngineError, RequestError
from engine.intake.client import HTTP
from engine.intake.problems import problem, too_large
from engine.intake.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.api.callers import Callers
    from engine.api.readiness import Readiness
    from engine.api.route import Declares, Route
    from engine.intake.auth import Auth
    from engine.observe.audit import Audit
    from engine.observe.counters import Stats
    from engine.recordings.tap import Tap

TOO_OLD: Final = "too old"  #: set on a request of HTTP/0.9


def make_app(declared: Sequence[Declares], auth: Auth, requests: Requests) -> web.Application:
    """Return the application with all routes; `Requests` stands around it."""
    app = web.Application(client_max_size=requests.body_max_bytes)
    paths: dict[str, list[str]] = {}
    add = partial(app.router.add_route, expect_handler=leave_to_bodies)
    for owner in (*declared, Description(declared)):
        for route in owner.routes:
            handler = _checked(route, getattr(owner, route.call), auth, requests)
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                add(method, route.path, handler)
                paths.setdefault(route.path, []).append(method)
    for path, methods in paths.items():
        add("OPTIONS", path, _options(", ".join(sorted({*methods, "OPTIONS"}))))
    return app


def _checked(route: Route, handler: Any, auth: Auth, requests: Requests) -> Any:
    """Return *handler*, which is called when the client may ask, and the query can be read."""
    reader = QueryReader(route.query) if route.path.startswith(API) else None

    async def checked(request: web.Request) -> web.StreamResponse:
        check_browser(request.method, request.headers, is_open=auth.is_open)
        if route.scope is not None:
            request[TOKEN] = auth.check(request.headers.get("Authorization"), route.scope)
            await requests.seals.check(request)
        if reader is not None:
            request[QUERY] = reader.read(request.query)
        response: web.Response = await handler(request)
        if route.scope == "admin":
            requests.note_admin(request, response.status)
        if route.scope is not None:
            await requests.seals.sealed(request, response)
        return response

    return checked


def _check_head(request: web.Request) -> None:
    """Refuse what no route takes.

    Raises:
        RequestError: 400, 417.
    """
    if TOO_OLD in request:
        raise RequestError(400, "not a valid HTTP request: takes HTTP/1.1")
    is_continue_expected(request)


def _options(allowed: str) -> Any:
    async def options(_request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Allow": allowed})

    return options


_REFUSED: Final = 400
_SHOWN: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""What a refusal outside the interface is sent with: a browser may have asked for the page, and shows it."""


class Seals(Protocol):
    """What engines above this one are answered with; see `engine.tree.sealing`."""

    async def check(self, request: web.Request) -> None:
        """Refuse a question that has been here. RequestError: 409, 422."""

    async def sealed(self, request: web.Request, response: web.Response) -> None:
        """Sign an answer, when such an engine asks."""

    def who(self, request: web.Request) -> str:
        """Return who asked an engine above for it; empty: nobody did."""


class _NoSeals:
    async def check(self, request: web.Request) -> None:
        """Do nothing."""

    async def sealed(self, request: web.Request, response: web.Response) -> None:
        """Do nothing."""

    def who(self, request: web.Request) -> str:
        """Return nothing."""
        return ""


class Requests:
    """What every request of aiohttp's lane goes through, before a route is looked for.

    Args:
        stats: counts requests.
        readiness: a draining engine ends its connections with their next answer.
        refuse: counts an error and returns its reply; see `Admission.refuse`.
        callers: tell who is refused.
        audit: told of admin actions.
        tap: shows requests to those who record.
        server: value of the ``Server`` header.
        body_max_bytes: longer bodies are refused.
        base: below which there is something.
        door: what requests come in by, see `By.door`.
        seals: sign what engines above are answered.
    """

    def __init__(
        self,
        stats: Stats,
        readiness: Readiness,
        refuse: Callable[..., Reply],
        callers: Callers,
        audit: Audit,
        *,
        tap: Tap,
        server: str,
        body_max_bytes: int,
        base: str = "/v1/engine/",
        door: str = HTTP,
        seals: Seals = _NoSeals(),  # noqa: B008 - it has no state
    ) -> None:
        self.seals = seals
        self._stats = stats
        self._responses = stats.responses_of(door)
        self._readiness = readiness
        self._refuse = refuse
        self._callers = callers
        self._audit = audit
        self._tap = tap
        self.server = server
        self.body_max_bytes = body_max_bytes
        self._base = base

    async def handle(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Turn every error into a problem document and tell the connection what is under way.

        Args:
            request: whatever aiohttp's parser took for one.
            handler: aiohttp's application.
        """
        lane = lane_of(request)
        began_ns = time.time_ns() if self._tap.recordings else 0
        self._stats.requests += 1
        if lane is not None:
            lane.request_begins()
        try:
            response = await self._answer(request, handler)
        finally:
            if lane is not None:
                lane.request_ends()
        self._responses[response.status] += 1
        response.headers["Server"] = self.server
        if response.status >= _REFUSED and not request.path.startswith(API):
            response.headers.update(_SHOWN)
        if self._readiness.is_draining:
            response.force_close()
        if began_ns:
            self._record(request, response, began_ns)
        return response

    def _record(self, request: web.Request, response: web.StreamResponse, began_ns: int) -> None:
        """Show a request and its answer to those who record; of a body, as much as was read."""
        if isinstance(response, web.Response):
            is_said = request.method != "HEAD" and isinstance(response.body, bytes)
            body: Any = response.body if is_said else b""
            said = Reply(response.status, body, response.content_type, dict(response.headers))
            read: bytes | None = request._read_bytes  # noqa: SLF001 - `read` would wait for what was refused
            self._tap.saw(head_of(request), read or b"", said, began_ns)

    def note_admin(self, request: web.Request, status: int) -> None:
        """Tell the audit of an admin action."""
        what, by = f"{request.method} {request.path}", self._callers.by(request)
        self._audit.admin(what, by, status, behind=self.seals.who(request))

    async def _answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            _check_head(request)
            return await handler(request)  # type: ignore[no-any-return]
        except EngineError as exc:
            return self._refused(exc, request)
        except web.HTTPRequestEntityTooLarge:
            return self._refused(too_large(self.body_max_bytes), request)
        except web.HTTPMethodNotAllowed as exc:
            allowed = ", ".join(sorted({*exc.allowed_methods, "OPTIONS"}))
            detail = f"{request.path} takes {allowed}, not {request.method}"
            reply = problem(405, detail, headers={"Allow": allowed})
        except web.HTTPNotFound:
            reply = problem(404, f"there is nothing at {request.path}; the interface is under {self._base}")
        except web.HTTPException as exc:
            reply = problem(exc.status, exc.reason)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 - a client never sees a traceback, the log does
            logger.exception("{} {} failed", request.method, request.path)
            self._stats.requests_failed += 1
            reply = problem(500, "an error in the engine; its log says more")
        if reply.status < 500:  # noqa: PLR2004 - HTTP
            self._stats.requests_refused += 1
        return response_of(reply)

    def _refused(self, error: EngineError, request: web.Request) -> web.Response:
        what = f"{request.method} {request.path}"
        return response_of(self._refuse(error, self._callers.by(request), request=what))

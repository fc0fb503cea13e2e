"""``GET /``, the files of the page, and ``GET /v1/engine/events``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11, web

from engine.api.answers import response_of
from engine.api.route import TOKEN, Route, Text
from engine.console.feed import Feed, Viewer, event
from engine.console.files import JAVASCRIPT, PAGE, PICTURE, STYLE, Files
from engine.console.looking import Look
from engine.errors import RequestError
from engine.intake.problems import problem
from engine.workers.latest import LatestAnswers

if TYPE_CHECKING:
    import asyncio

    from engine.api.overview import Overview
    from engine.api.readiness import Readiness
    from engine.console.files import File
    from engine.workers.peers import Peers

EVENTS: Final = "text/event-stream"
_SAME: Final = ("frame-ancestors", "base-uri", "form-action", "default-src")
_POLICY: Final = "; ".join(
    (
        *(f"{name} 'none'" for name in _SAME),
        *(f"{kind}-src 'self'" for kind in ("script", "style", "connect", "img")),
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cache-Control": "no-cache",  # asked for again, and mostly answered 304
}
"""What the page and its files are sent with: only its own modules run, and nobody frames it."""


class ConsoleRoutes:
    """Handlers.

    Args:
        overview: tells what this engine is and does.
        readiness: a draining engine ends its streams.
        peers: the other workers, under a supervisor.
        server: value of ``Server``.
    """

    routes: Final = (
        Route(
            "GET",
            "/",
            "page",
            text="the operators' page, see docs/console.md; no token is asked for, the page asks for one",
            answers={200: Text("text/html")},
            name="console",
        ),
        Route(
            "GET",
            "/console/{file}",
            "file",
            text="a file of that page; no token is asked for",
            answers={200: Text(JAVASCRIPT, (STYLE, PICTURE))},
            errors={404: "there is no such file"},
            name="console_file",
        ),
        Route(
            "GET",
            "/v1/engine/events",
            "events",
            "read",
            text="what the operators' page shows of the engine, as Server-Sent Events, once a second: "
            "`hello` (who asks, and the version), `whole` (nodes, statistics, cluster), then `change` with "
            "what is another since; `bye` when the engine drains. A client that does not read is dropped",
            answers={200: Text(EVENTS)},
        ),
    )

    def __init__(self, overview: Overview, readiness: Readiness, peers: Peers | None, *, server: str) -> None:
        self._overview = overview
        self._readiness = readiness
        self._server = server
        self._files = Files()
        latest = None if peers is None else LatestAnswers(peers)
        look = Look(overview, readiness.not_ready_reason, latest, leaves=overview.leaves)
        self.feed = Feed(look, lambda: readiness.is_draining)

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Give the page."""
        return _response(request, self._files.all[PAGE])

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Give a file of the page."""
        name = request.match_info["file"]
        file = self._files.all.get(name)
        if file is None or name == PAGE:
            raise RequestError(404, f"there is no file {name[:64]!r} of the operators' page")
        return _response(request, file)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Stream what is to be seen, until the client goes or the engine drains."""
        if request.method == "HEAD":
            return web.Response(content_type=EVENTS)
        if self._readiness.is_draining:
            return response_of(problem(503, "the engine is draining", headers={"Retry-After": "1"}))
        headers = {"Server": self._server, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        headers["X-Accel-Buffering"] = "no"  # an nginx in front hands events on as they come
        response = web.StreamResponse(headers=headers)
        response.content_type = EVENTS
        response.force_close()
        await response.prepare(request)
        await response.write(event("hello", self._hello(request)))
        transport: asyncio.Transport | None = request.transport
        if transport is not None:
            is_chunked = request.version >= HttpVersion11
            viewer = Viewer(transport, is_chunked=is_chunked, now=request.loop.time())
            try:
                self.feed.add(viewer)
                await viewer.is_over
            finally:
                self.feed.remove(viewer)
        return response

    def _hello(self, request: web.Request) -> dict[str, object]:
        token = request[TOKEN]
        return {
            "token": token.name,
            "scopes": sorted(token.scopes),
            "page": self._files.digest,
            **self._overview.version_document(),
        }


def _response(request: web.Request, file: File) -> web.Response:
    headers = {**HEADERS, "ETag": file.etag}
    if file.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    response = web.Response(body=file.body, headers=headers)
    response.content_type = file.content_type
    response.charset = None if file.content_type == PICTURE else "utf-8"
    return response

"""A worker's private interface, on its Unix socket: for its supervisor and for the other workers.

The supervisor asks ``/readyz`` and ``/version``, as it would at the front. The others ask for tasks, with
what the store keeps besides (the digest of the body, the token), and for their part of what is shown as
one: statistics, nodes, metrics; and tell them to log in another format. Tokens have been checked by
whoever asks, and come by name.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web
from loguru import logger

from engine.errors import EngineError
from engine.intake.problems import problem
from engine.intake.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.process.lifecycle import Engine

GONE: Final = 410  #: not an answer: ask again, the supervisor will say whom
_PREPARE_LIMIT_S: Final = 8.0  #: a worker that has just been started is asked before it has its store
_encode = msgspec.json.encode


def make_private_app(engine: Engine) -> web.Application:
    """Return the application; its handlers are methods of one object, for they share the engine."""
    private = _Private(engine)
    app = web.Application(client_max_size=engine.config.engine.body_max_bytes)
    routes: list[tuple[str, str, Callable[[web.Request], Awaitable[Reply]]]] = [
        ("GET", "/readyz", private.ready),
        ("GET", "/version", private.version),
        ("POST", "/worker/task", private.submit),
        ("GET", "/worker/task/{id}", private.task),
        ("DELETE", "/worker/task/{id}", private.cancel),
        ("GET", "/worker/tasks", private.tasks),
        ("GET", "/worker/stats", private.stats),
        ("GET", "/worker/nodes", private.nodes),
        ("GET", "/worker/metrics", private.metrics),
        ("PUT", "/worker/log-format/{name}", private.swap_log),
    ]
    for method, path, handler in routes:
        app.router.add_route(method, path, _answering(engine, handler))
    return app


def _answering(
    engine: Engine, handler: Callable[[web.Request], Awaitable[Reply]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            if request.path.startswith("/worker/"):
                await engine.wait_prepared(_PREPARE_LIMIT_S)
            reply = await handler(request)
        except EngineError as exc:
            reply = engine.accept.refuse(exc)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the other worker must not take it for an answer
            if not engine.is_ending:
                logger.opt(exception=exc).error("{} {} failed", request.method, request.path)
            reply = problem(GONE, "this worker is ending")
        response = web.Response(status=reply.status, body=reply.body, headers=dict(reply.headers))
        response.content_type = reply.content_type
        return response

    return answer


def _json(value: object) -> Reply:
    return Reply(200, _encode(value))


class _Private:
    """The handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ready(self, _request: web.Request) -> Reply:
        reason = self._engine.not_ready_reason()
        return problem(503, reason) if reason else _json({"status": "ready"})

    async def version(self, _request: web.Request) -> Reply:
        return _json(self._engine.version_document())

    async def submit(self, request: web.Request) -> Reply:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answer(reply: Reply) -> None:
            if not future.done():
                future.set_result(reply)

        token = self._engine.auth.named(request.query["token"])
        self._engine.accept.submit(await request.read(), token, answer, is_forwarded=True)
        return await future

    async def task(self, request: web.Request) -> Reply:
        found = await self._engine.lookup.here(request.match_info["id"])
        if found is not None:
            return _json(found)
        if request.query.get("sure") and not self._engine.takeup.done.is_set():
            return problem(GONE, "what was left to this worker is not taken up yet")
        return problem(404, "not here")

    async def cancel(self, request: web.Request) -> Reply:
        token = self._engine.auth.named(request.query["token"])
        return _json(await self._engine.lookup.cancel_here(request.match_info["id"], token))

    async def tasks(self, request: web.Request) -> Reply:
        query = request.query
        page, cursor = await self._engine.lookup.page_here(
            query.get("state") or None, query.get("cursor", ""), int(query["limit"])
        )
        return _json({"tasks": page, "cursor": cursor})

    async def stats(self, _request: web.Request) -> Reply:
        return _json(self._engine.stats.document())

    async def nodes(self, _request: web.Request) -> Reply:
        return _json(self._engine.node_documents())

    async def metrics(self, _request: web.Request) -> Reply:
        return Reply(200, self._engine.metrics.render(), "text/plain")

    async def swap_log(self, request: web.Request) -> Reply:
        self._engine.logs.swap(request.match_info["name"])
        return _json({})


def documents(body: bytes) -> list[dict[str, Any]]:
    """Decode a list of documents of another worker."""
    return msgspec.json.decode(body, type=list[dict[str, Any]])

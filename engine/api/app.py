"""Every route but the fast lane's, on aiohttp; and the task routes again, for requests that are not plain.

Errors are problem documents on both lanes, also for what aiohttp itself refuses.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import HttpVersion11, web
from loguru import logger

from engine.errors import EngineError, RequestError
from engine.intake.problems import problem
from engine.tasks.words import State

if TYPE_CHECKING:
    from engine.config.tables import Scope
    from engine.intake.aiohttp_lane import AiohttpLane
    from engine.intake.auth import Token
    from engine.intake.fast_lane import ClientConnection
    from engine.intake.replies import Reply
    from engine.process.lifecycle import Engine

_ENGINE: web.AppKey[Engine] = web.AppKey("engine")
_PAGE_MAX: Final = 1000
_PAGE: Final = 100
_DIGITS_MAX: Final = 20  #: Python refuses to read numbers of thousands of digits

_encode = msgspec.json.encode


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
        response = _response(reply)
        response.force_close()
        return response


def make_app(engine: Engine) -> web.Application:
    """Return the application with all routes."""
    app = web.Application(middlewares=[_middleware], client_max_size=engine.config.engine.body_max_bytes)
    app[_ENGINE] = engine
    routes: list[tuple[str, str, Any]] = [
        ("POST", "/v1/engine/task", _post_task),
        ("POST", "/v1/engine/tasks", _post_tasks),
        ("GET", "/v1/engine/task/{id}", _get_task),
        ("DELETE", "/v1/engine/task/{id}", _delete_task),
        ("GET", "/v1/engine/tasks", _get_tasks),
        ("GET", "/v1/engine/stats", _get_stats),
        ("GET", "/v1/engine/nodes", _get_nodes),
        ("GET", "/v1/engine/cluster", _get_cluster),
        ("GET", "/v1/engine/version", _get_version),
        ("GET", "/version", _get_version),
        ("GET", "/healthz", _get_health),
        ("GET", "/readyz", _get_ready),
        ("GET", "/metrics", _get_metrics),
        ("PUT", "/v1/engine/log-format", _put_log_format),
    ]
    paths: dict[str, list[str]] = {}
    for method, path, handler in routes:
        app.router.add_route(method, path, handler, expect_handler=_expected)
        paths.setdefault(path, []).append(method)
        if method == "GET":
            app.router.add_route("HEAD", path, handler)
            paths[path].append("HEAD")
    for path, methods in paths.items():
        app.router.add_route("OPTIONS", path, _options(", ".join(sorted({*methods, "OPTIONS"}))))
    return app


@web.middleware
async def _middleware(request: web.Request, handler: Any) -> web.StreamResponse:
    """Turn every error into a problem document and tell the connection what is under way."""
    engine = request.app[_ENGINE]
    lane = _lane_of(request)
    engine.stats.requests += 1
    if lane is not None:
        lane.request_begins()
    try:
        response = await _answer(engine, request, handler)
    finally:
        if lane is not None:
            lane.request_ends()
    response.headers["Server"] = engine.server
    if engine.gate.is_draining:
        response.force_close()
    return response


def _lane_of(request: web.Request) -> AiohttpLane | None:
    """Return the lane that the request came by; None when its client has gone."""
    if request.transport is None:
        return None
    connection: ClientConnection = request.transport.get_protocol()  # type: ignore[assignment]
    return connection.lane


async def _answer(engine: Engine, request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        return await handler(request)  # type: ignore[no-any-return]
    except EngineError as exc:
        return _response(engine.accept.refuse(exc))
    except web.HTTPRequestEntityTooLarge:
        limit = engine.config.engine.body_max_bytes
        reply = problem(413, f"the body is over {limit} bytes (body_max_bytes)")
    except web.HTTPMethodNotAllowed as exc:
        allowed = ", ".join(sorted({*exc.allowed_methods, "OPTIONS"}))
        detail = f"{request.path} takes {allowed}, not {request.method}"
        reply = problem(405, detail, headers={"Allow": allowed})
    except web.HTTPNotFound:
        reply = problem(404, f"there is nothing at {request.path}; the interface is under /v1/engine/")
    except web.HTTPException as exc:
        reply = problem(exc.status, exc.reason)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:  # noqa: BLE001 - a client never sees a traceback, the log does
        logger.exception("{} {} failed", request.method, request.path)
        engine.stats.requests_failed += 1
        reply = problem(500, "an error in the engine; its log says more")
    if reply.status < 500:  # noqa: PLR2004 - HTTP
        engine.stats.requests_refused += 1
    return _response(reply)


def _response(reply: Reply) -> web.Response:
    response = web.Response(status=reply.status, body=reply.body, headers=dict(reply.headers))
    response.content_type = reply.content_type
    return response


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(value), content_type="application/json")


def _check(request: web.Request, scope: Scope) -> Token:
    return request.app[_ENGINE].auth.check(request.headers.get("Authorization"), scope)


def _options(allowed: str) -> Any:
    async def options(request: web.Request) -> web.Response:  # noqa: ARG001 - aiohttp's interface
        return web.Response(status=204, headers={"Allow": allowed})

    return options


async def _expected(request: web.Request) -> web.Response | None:
    """Tell a client that waits for it to send its body."""
    expected = request.headers.get("Expect", "")
    if expected.lower() != "100-continue":
        return _response(problem(417, f"expect: takes 100-continue, not {expected!r}"))
    if request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the response has not begun
    return None


# Tasks


async def _read_body(request: web.Request) -> bytes:
    if (
        request.content_type
        not in {
            "application/json",
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
        }
        and "Content-Type" in request.headers
    ):
        raise RequestError(415, f"content-type: takes application/json, not {request.content_type!r}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RequestError(415, "content-encoding: send the body as it is, not compressed")
    lane = _lane_of(request)
    if lane is None:
        raise ConnectionResetError("the client has gone")
    try:
        async with lane.reading_body(request.app[_ENGINE].config.engine.body_timeout_s):
            return await request.read()
    except (EngineError, web.HTTPException):
        raise
    except Exception as exc:
        raise RequestError(400, f"the body cannot be read: {exc}") from exc


async def _post_task(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    token = _check(request, "submit")
    body = await _read_body(request)
    return await _submit(engine.accept.submit, body, token)


async def _post_tasks(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    token = _check(request, "submit")
    body = await _read_body(request)
    return await _submit(engine.accept.submit_lines, body, token)


async def _submit(submit: Any, body: bytes, token: Token) -> web.Response:
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def answer(reply: Reply) -> None:
        if not future.done():  # the client may be gone
            future.set_result(reply)

    submit(body, token, answer)
    return _response(await future)


async def _get_task(request: web.Request) -> web.Response:
    token = _check(request, "read")
    return _json(await request.app[_ENGINE].lookup.document(request.match_info["id"], token))


async def _delete_task(request: web.Request) -> web.Response:
    token = _check(request, "submit")
    return _json(await request.app[_ENGINE].lookup.cancel(request.match_info["id"], token))


async def _get_tasks(request: web.Request) -> web.Response:
    """Tasks in memory, newest first, then stored ones. A cursor goes on where the last page ended."""
    token = _check(request, "read")
    state = request.query.get("state") or None
    if state is not None and state not in State.__members__.values():
        raise RequestError(422, f"state: {state!r} is not known; takes {', '.join(State)}", field="state")
    limit = _number(request, "limit", _PAGE, _PAGE_MAX)
    lookup = request.app[_ENGINE].lookup
    tasks, cursor = await lookup.page(state, request.query.get("cursor", ""), limit, token)
    return _json({"tasks": tasks, "cursor": cursor or None})


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal() or len(text) > _DIGITS_MAX or not 1 <= int(text) <= most:
        raise RequestError(422, f"{name}: takes a number from 1 to {most}, not {text[:20]!r}", field=name)
    return int(text)


# The engine


async def _get_stats(request: web.Request) -> web.Response:
    _check(request, "read")
    return _json(await request.app[_ENGINE].all_stats())


async def _get_nodes(request: web.Request) -> web.Response:
    _check(request, "read")
    return _json({"nodes": await request.app[_ENGINE].all_nodes()})


async def _get_cluster(request: web.Request) -> web.Response:
    _check(request, "read")
    return _json(await request.app[_ENGINE].cluster_document())


async def _get_version(request: web.Request) -> web.Response:
    return _json(request.app[_ENGINE].version_document())


async def _get_health(request: web.Request) -> web.Response:  # noqa: ARG001 - aiohttp's interface
    return _json({"status": "ok"})


async def _get_ready(request: web.Request) -> web.Response:
    engine = request.app[_ENGINE]
    reason = engine.not_ready_reason()
    if reason:
        return _response(problem(503, reason, headers={"Retry-After": "1"}))
    return _json({"status": "ready"})


async def _get_metrics(request: web.Request) -> web.Response:
    _check(request, "read")
    body = await request.app[_ENGINE].all_metrics()
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


class _LogFormat(msgspec.Struct, forbid_unknown_fields=True):
    format: str


async def _put_log_format(request: web.Request) -> web.Response:
    """Swap the format of the log lines at run time."""
    _check(request, "admin")
    try:
        wanted = msgspec.json.decode(await _read_body(request), type=_LogFormat).format
        await request.app[_ENGINE].swap_all_logs(wanted)
    except (msgspec.DecodeError, ValueError, KeyError) as exc:
        raise RequestError(422, f"format: takes struct, dict or text ({exc})", field="format") from exc
    return _json({"format": wanted})

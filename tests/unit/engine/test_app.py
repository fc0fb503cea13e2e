"""What every request of aiohttp's lane goes through: errors become answers, and the lane knows what runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from engine.api.app import Requests, make_app
from engine.api.callers import Callers
from engine.api.engine_routes import EngineRoutes
from engine.api.readiness import Readiness
from engine.api.tasks import TaskRoutes
from engine.config.tables import AuthConfig, TokenConfig
from engine.errors import BacklogFullError, RequestError, StoreError
from engine.intake.auth import Auth
from engine.intake.client import Addresses
from engine.intake.problems import reply_of
from engine.observe.counters import Stats
from engine.recordings.tap import Tap
from tests.fakes.audit import audit_of


class Savers:
    error: StoreError | None = None
    is_partial = False


class World:
    """The requests of one engine, and what happened."""

    def __init__(self) -> None:
        self.stats = Stats()
        self.readiness = Readiness(Savers())
        self.requests = Requests(
            self.stats,
            self.readiness,
            lambda exc, *_, **__: reply_of(exc),
            Callers(Auth(AuthConfig(), []), Addresses()),
            audit_of(),
            tap=Tap(),
            server="purgeline/1",
            body_max_bytes=1000,
        )

    async def answer(self, raised: BaseException | None = None, path: str = "/x") -> web.Response:
        async def handler(request: web.Request) -> web.Response:
            if raised is not None:
                raise raised
            return web.Response(text="fine")

        return await self.requests.handle(make_mocked_request("GET", path), handler)  # type: ignore[return-value]


def detail(response: web.Response) -> str:
    body: Any = response.body
    return str(json.loads(body)["detail"])


async def test_an_answer_says_who_serves() -> None:
    world = World()
    response = await world.answer()
    assert (response.status, response.headers["Server"]) == (200, "purgeline/1")
    assert world.stats.requests == 1
    assert response.keep_alive is None


async def test_a_draining_engine_ends_its_connections() -> None:
    world = World()
    world.readiness.note_draining()
    assert (await world.answer()).keep_alive is False


@pytest.mark.parametrize(
    ("raised", "status", "text"),
    [
        (RequestError(422, "targets: none"), 422, "targets: none"),
        (BacklogFullError("saver_queue", retry_after_s=1), 503, "saver_queue"),
        (StoreError("disk full"), 503, "disk full"),
        (web.HTTPNotFound(), 404, "there is nothing at /x; the interface is under /v1/engine/"),
        (web.HTTPMethodNotAllowed("GET", ["PUT"]), 405, "/x takes OPTIONS, PUT, not GET"),
        (web.HTTPRequestEntityTooLarge(1, 2), 413, "the body is over 1000 bytes (body_max_bytes)"),
        (web.HTTPNotAcceptable(), 406, "Not Acceptable"),
        (RuntimeError("secret"), 500, "an error in the engine; its log says more"),
    ],
)
async def test_every_error_is_a_problem_document(raised: Exception, status: int, text: str) -> None:
    response = await World().answer(raised)
    assert (response.status, response.content_type) == (status, "application/problem+json")
    assert text in detail(response)


async def test_what_aiohttp_refuses_counts_as_refused_and_what_breaks_as_failed() -> None:
    world = World()
    await world.answer(web.HTTPNotFound())
    await world.answer(RuntimeError())
    assert (world.stats.requests_refused, world.stats.requests_failed) == (1, 1)


async def test_a_connection_that_breaks_gets_no_answer() -> None:
    with pytest.raises(ConnectionResetError):
        await World().answer(ConnectionResetError())


class Routes:
    """Any handler; they declare what *owner* declares."""

    def __init__(self, owner: type[TaskRoutes | EngineRoutes]) -> None:
        self.routes = owner.routes

    def __getattr__(self, name: str) -> Any:
        async def handler(request: web.Request) -> web.Response:
            return web.Response(text=name)

        return handler


async def call(app: web.Application, method: str, path: str) -> web.Response:
    request = make_mocked_request(method, path, app=app)
    match = await app.router.resolve(request)
    return await match.handler(request)  # type: ignore[return-value]


async def test_every_path_says_what_it_takes_and_answers_head() -> None:
    app = make_app((Routes(TaskRoutes), Routes(EngineRoutes)), Auth(AuthConfig(), []), World().requests)
    options = await call(app, "OPTIONS", "/v1/engine/tasks")
    assert (options.status, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert (await call(app, "HEAD", "/readyz")).text == "ready"
    assert (await call(app, "DELETE", "/v1/engine/task/t")).text == "cancel"
    assert (await call(app, "PUT", "/v1/engine/log-format")).text == "swap_log_format"


async def test_who_may_not_ask_is_told_so_before_what_is_wrong_with_the_question() -> None:
    token = TokenConfig(name="cms", sha256="00" * 32, scopes=["submit"])
    auth = Auth(AuthConfig(tokens=[token]), [])
    app = make_app((Routes(TaskRoutes),), auth, World().requests)
    with pytest.raises(RequestError) as error:
        await call(app, "GET", "/v1/engine/tasks?x=1")
    assert error.value.status == 401

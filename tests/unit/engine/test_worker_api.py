"""What a worker answers the others, called as aiohttp calls it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp.test_utils import make_mocked_request

from engine.api.readiness import Readiness
from engine.api.worker_api import WorkerOverview, WorkerTasks, make_worker_app
from engine.errors import RequestError, StoreError
from engine.intake.problems import reply_of

if TYPE_CHECKING:
    import pytest


class World:
    """The parts that answer, and what they were asked."""

    error: Any = None
    is_partial = False

    def __init__(self) -> None:
        world: Any = self
        self.log: list[Any] = []
        self.document: dict[str, Any] | None = {"task_id": "t", "digest": "aa"}
        self.unproven: dict[str, str] = {}
        self.need_pages: list[str] = []
        self.replayed = asyncio.Event()
        self.replayed.set()
        self.readiness = Readiness(world)
        tasks = WorkerTasks(world, world, find=world, cancel=world, listing=world, replayed=self.replayed)
        overview = WorkerOverview(world, self.readiness, world, world, world)
        self.app = make_worker_app(
            tasks,
            world,
            world,
            overview,
            self.readiness,
            rewinding=world,
            recording=world,
            debugging=world,
            silencing=world,
            refuse=reply_of,
            body_max_bytes=1000,
        )

    async def ask(self, method: str, path: str) -> tuple[int, Any]:
        request = make_mocked_request(method, path, app=self.app)
        match = await self.app.router.resolve(request)
        request._match_info = match
        response = await match.handler(request)
        body: Any = response.body  # type: ignore[attr-defined]
        return response.status, json.loads(body)

    # Tasks

    async def failed_here(self, request: Any) -> None:
        """Of the history."""

    async def change_here(self, request: Any) -> None:
        """Of silences."""

    async def shown_here(self, request: Any) -> None:
        """Of silences."""

    async def purges_here(self, request: Any) -> None:
        """Of the history."""

    def named(self, name: str) -> str:
        return f"token {name}"

    async def here(self, task_id: str) -> dict[str, Any] | None:
        if task_id == "closed":
            raise StoreError("the store is closed")
        return self.document

    gc_trace_here = here

    async def cancel_here(self, task_id: str, token: str) -> dict[str, Any]:
        self.log.append((task_id, token))
        raise RequestError(409, "it is done")

    async def page_here(self, *asked: Any) -> tuple[list[Any], str]:
        self.log.append(asked)
        return [self.document], "next"

    # This worker

    def version_document(self) -> dict[str, Any]:
        return {"version": "1"}

    def own_needing_pages(self) -> list[str]:
        return self.need_pages

    def own_unproven(self) -> dict[str, str]:
        return self.unproven

    def own_stats(self) -> dict[str, Any]:
        raise RuntimeError("a part that is closed")

    def swap(self, name: str) -> None:
        self.log.append(name)


async def test_the_supervisor_is_answered_before_the_worker_is_prepared() -> None:
    world = World()
    status, problem = await world.ask("GET", "/readyz")
    assert (status, problem["detail"]) == (503, "the engine is starting")
    assert await world.ask("GET", "/version") == (200, {"version": "1"})
    world.readiness.note_prepared()
    assert await world.ask("GET", "/readyz") == (200, {"status": "ready"})
    world.unproven["edge-1"] = "unproven: a server behind edge-1 answered 200"
    assert await world.ask("GET", "/readyz") == (200, {"status": "ready", "unproven": world.unproven})
    world.need_pages.append("edge-2")
    status, body = await world.ask("GET", "/readyz")
    assert (status, body["need_pages"]) == (200, ["edge-2"])


async def test_other_workers_wait_until_it_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    asking = asyncio.create_task(world.ask("GET", "/worker/task/t"))
    await asyncio.sleep(0)
    assert not asking.done()
    world.readiness.note_prepared()
    assert await asking == (200, world.document)
    monkeypatch.setattr("engine.api.worker_api._PREPARE_LIMIT_S", 0.001)
    status, problem = await World().ask("GET", "/worker/task/t")
    assert status == 503
    assert "the worker is starting" in problem["detail"]


async def test_a_task_that_may_still_come_is_no_404_for_who_must_be_sure() -> None:
    world = World()
    world.readiness.note_prepared()
    world.document = None
    world.replayed.clear()
    assert (await world.ask("GET", "/worker/task/t"))[0] == 404
    assert (await world.ask("GET", "/worker/task/t?sure=1"))[0] == 410
    world.replayed.set()
    assert (await world.ask("GET", "/worker/task/t?sure=1"))[0] == 404


async def test_tokens_come_by_name_and_errors_go_back_as_they_are() -> None:
    world = World()
    world.readiness.note_prepared()
    status, problem = await world.ask("DELETE", "/worker/task/t?token=cms")
    assert (status, problem["detail"]) == (409, "it is done")
    assert world.log == [("t", "token cms")]


async def test_a_page_is_asked_for_with_its_state_and_cursor() -> None:
    world = World()
    world.readiness.note_prepared()
    answer = await world.ask("GET", "/worker/tasks?limit=5&state=&cursor=s0.1")
    assert answer == (200, {"tasks": [world.document], "cursor": "next"})
    assert world.log == [(None, "s0.1", 5, None)]


async def test_a_worker_that_breaks_gives_no_answer_that_could_be_taken_for_one() -> None:
    world = World()
    world.readiness.note_ending()
    world.readiness.note_prepared()
    status, problem = await world.ask("GET", "/worker/stats")
    assert (status, problem["detail"]) == (410, "this worker is ending")


async def test_a_worker_whose_store_is_closed_is_asked_no_further() -> None:
    """Its successor can tell; before the end an error of the store is an answer."""
    world = World()
    world.readiness.note_prepared()
    assert (await world.ask("GET", "/worker/task/closed"))[0] == 503
    world.readiness.note_ending()
    status, problem = await world.ask("GET", "/worker/task/closed")
    assert (status, problem["detail"]) == (410, "this worker is ending")


async def test_the_log_is_swapped_by_name() -> None:
    world = World()
    world.readiness.note_prepared()
    assert await world.ask("PUT", "/worker/log-format/text") == (200, {})
    assert world.log == ["text"]

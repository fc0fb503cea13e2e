"""Pages of tasks: every task once, newest first, worker by worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import pytest

from engine.api.listing import ListTasks
from engine.errors import RequestError, StoreError
from engine.intake.auth import Token
from engine.intake.host_rules import HostRules
from engine.tasks.records import PageStart
from engine.tasks.region import RegionMap
from engine.tasks.task import Task

ALL = Token("all", frozenset(), HostRules([]))


def document(name: str, state: str = "done", token: str = "") -> dict[str, Any]:
    return {"task_id": name, "state": state, "token": token, "digest": "aa"}


class Store:
    """Stored documents, the newest last; its cursor is how many are older."""

    def __init__(self, *documents: dict[str, Any]) -> None:
        self._documents = list(documents)

    def documents(
        self,
        state: str | None,
        begin: PageStart,
        limit: int,
        _missing: set[int] | None = None,
        token: str | None = None,
    ) -> tuple[list[bytes], PageStart | None]:
        older = [
            one
            for one in self._documents[: begin.row]
            if state in {None, one["state"]} and token in {None, one["token"]}
        ]
        page = older[::-1][:limit]
        after = self._documents.index(page[-1]) if page else 0
        return [msgspec.json.encode(one) for one in page], PageStart(after) if after else None


class Peers:
    """This worker is of generation 1; the other has one page of *documents* a task, or has gone."""

    generation = 1

    def __init__(self, *documents: dict[str, Any]) -> None:
        self._documents = documents
        self.has_gone = False
        self.status = 200

    def all(self) -> list[Any]:
        return [SimpleNamespace(generation=1), SimpleNamespace(generation=2)]

    def others(self) -> list[Any]:
        return self.all()[1:]

    async def ask(self, _worker: object, _method: str, path: str) -> Any:
        if self.has_gone:
            raise aiohttp.ServerDisconnectedError
        place = int(path.rpartition("cursor=")[2] or 0)
        more = place + 1 < len(self._documents)
        answer = {"tasks": [self._documents[place]], "cursor": str(place + 1) if more else ""}
        return SimpleNamespace(status=self.status, body=msgspec.json.encode(answer | {"detail": "why"}))


def listing(*stores: Store, peers: Any = None, is_shared: bool = False) -> tuple[ListTasks, RegionMap]:
    regions = RegionMap(4)
    savers: Any = SimpleNamespace(savers=[SimpleNamespace(store=store) for store in stores])

    async def read(function: Any, *args: object) -> Any:
        return function(*args)

    reader: Any = SimpleNamespace(read=read)
    return ListTasks(regions, savers, reader, peers=peers, is_shared=is_shared), regions


def put(regions: RegionMap, name: str, created_at: float, token: str = "") -> Task:
    task = Task.internal(["http://a/"], owner=None, task_id=name)
    task.created_at, task.token = created_at, token
    regions.add(task)
    return task


async def names(tasks: ListTasks, limit: int, state: str | None = None, token: Token = ALL) -> list[str]:
    """Return the ids of all pages."""
    seen: list[str] = []
    cursor = ""
    while True:
        page, cursor = await tasks.page(state, cursor, limit, token, set())
        assert len(page) <= limit
        seen += [shown["task_id"] for shown in page]
        if not cursor:
            return seen


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_go_through_memory_and_then_every_store(limit: int) -> None:
    tasks, regions = listing(Store(document("a"), document("b")), Store(), Store(document("c")))
    for number in range(3):
        put(regions, f"m{number}", float(number))
    assert await names(tasks, limit) == ["m2", "m1", "m0", "b", "a", "c"]


async def test_tasks_of_one_moment_are_told_apart_by_their_ids() -> None:
    tasks, regions = listing(Store())
    for number in range(5):
        put(regions, f"m{number}", 1.0)
    assert sorted(await names(tasks, 2)) == [f"m{number}" for number in range(5)]


async def test_a_stored_task_that_is_at_work_again_is_shown_once() -> None:
    tasks, regions = listing(Store(document("a"), document("b")))
    put(regions, "a", 1.0)
    assert await names(tasks, 10) == ["a", "b"]


async def test_a_task_that_leaves_memory_while_the_store_is_read_is_shown_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(document("a"), document("b"))
    tasks, regions = listing(store)
    put(regions, "b", 1.0)
    read = store.documents

    def read_late(*asked: Any) -> tuple[list[bytes], PageStart | None]:
        regions.remove("b")
        return read(*asked)

    monkeypatch.setattr(store, "documents", read_late)
    assert await names(tasks, 10) == ["b", "a"]


async def test_a_task_that_is_being_saved_is_not_shown() -> None:
    tasks, regions = listing(Store())
    put(regions, "t", 1.0).waiters = []
    assert await names(tasks, 10) == []


async def test_only_tasks_of_one_state() -> None:
    tasks, regions = listing(Store(document("a"), document("b", "failed"), document("c")))
    put(regions, "m", 1.0)
    assert await names(tasks, 1, state="done") == ["c", "a"]
    assert await names(tasks, 1, state="accepted") == ["m"]


async def test_a_limited_token_sees_its_own() -> None:
    tasks, regions = listing(Store(document("a", token="cms"), document("b", token="other")))
    put(regions, "m", 1.0, "cms")
    put(regions, "n", 2.0, "other")
    limited = Token("cms", frozenset(), HostRules([]), is_limited=True)
    assert await names(tasks, 10, token=limited) == ["m", "a"]


async def test_documents_are_public() -> None:
    tasks, _ = listing(Store(document("a")))
    (shown,), _ = await tasks.page(None, "", 10, ALL, set())
    assert "digest" not in shown


@pytest.mark.parametrize("limit", [1, 10])
async def test_workers_come_one_after_the_other(limit: int) -> None:
    tasks, regions = listing(Store(document("a")), peers=Peers(document("x"), document("y")))
    put(regions, "m", 1.0)
    assert await names(tasks, limit) == ["m", "a", "x", "y"]


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [(422, RequestError, "the cursor of the page before"), (503, StoreError, "cannot list its tasks: why")],
)
async def test_what_a_worker_cannot_list_is_no_empty_page(
    status: int, error: type[Exception], text: str
) -> None:
    peers = Peers(document("x"))
    peers.status = status
    tasks, _ = listing(Store(), peers=peers)
    with pytest.raises(error, match=text):
        await tasks.page(None, "w1:0", 10, ALL, set())


async def test_a_worker_that_is_ending_is_left_out() -> None:
    peers = Peers(document("x"))
    peers.status = 410
    tasks, _ = listing(Store(document("a")), peers=peers)
    assert await names(tasks, 10) == ["a"]


async def test_a_worker_that_has_gone_is_left_out() -> None:
    peers = Peers(document("x"))
    peers.has_gone = True
    tasks, _ = listing(Store(document("a")), peers=peers)
    assert await names(tasks, 10) == ["a"]


@pytest.mark.parametrize("limit", [1, 10])
async def test_of_a_shared_store_a_task_at_work_here_is_shown_as_it_is_here(limit: int) -> None:
    tasks, regions = listing(Store(document("a", "running"), document("b")), is_shared=True)
    put(regions, "a", 1.0)
    assert await names(tasks, limit) == ["b", "a"]
    assert await names(tasks, limit, state="running") == []
    assert await names(tasks, limit, state="accepted") == ["a"]


async def test_a_cursor_of_another_kind_of_store_is_refused() -> None:
    tasks, _ = listing(Store(), is_shared=True)
    with pytest.raises(RequestError, match="cursor"):
        await tasks.page(None, "w0:", 10, ALL, set())

"""Finding one task, wherever it is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from engine.api.find import FindTask
from engine.errors import RequestError, StoreError
from engine.intake.auth import Token
from engine.intake.host_rules import HostRules
from engine.tasks.region import RegionMap
from engine.tasks.task import Task
from tests.waiting import until

ALL = Token("all", frozenset(), HostRules([]))
LIMITED = Token("cms", frozenset(), HostRules([]), is_limited=True)


def task(name: str, token: str = "") -> Task:
    made = Task.internal(["http://a/"], owner=None, task_id=name)
    made.token = token
    return made


class Peers:
    """The other workers; this one is of slot 0 and has ids that begin with m."""

    def __init__(self) -> None:
        self.elsewhere: dict[str, dict[str, Any]] = {}
        self.has_older = False

    def is_mine(self, task_id: str) -> bool:
        return task_id.startswith("m")

    def has_predecessor(self) -> bool:
        return self.has_older

    async def find(self, task_id: str, *, is_sure: bool) -> dict[str, Any] | None:
        assert is_sure
        return self.elsewhere.get(task_id)


class World:
    """One worker: tasks in memory, in its store, and with other workers."""

    def __init__(self, *, has_peers: bool = False) -> None:
        self.regions = RegionMap(4)
        self.stored: dict[str, bytes] = {}
        self.reads = 0
        self.peers = Peers()
        self.replayed = asyncio.Event()
        self.replayed.set()
        savers: Any = SimpleNamespace(of=lambda _: SimpleNamespace(store=self))
        reader: Any = self
        peers: Any = self.peers if has_peers else None
        self.find = FindTask(
            self.regions,
            savers,
            reader,
            peers=peers,
            replayed=self.replayed,
            retention_days=3,
            told_of=lambda _: None,
        )

    async def read(self, function: Any, *args: object) -> Any:
        self.reads += 1
        return function(*args)

    def document(self, task_id: str) -> bytes | None:
        return self.stored.get(task_id)

    def store(self, name: str, token: str = "") -> None:
        shown = {"task_id": name, "state": "done", "token": token, "digest": "aa"}
        self.stored[name] = msgspec.json.encode(shown)

    async def state_of(self, name: str, token: Token = ALL) -> str:
        document = await self.find.document(name, token)
        assert "digest" not in document
        return str(document["state"])


async def missing(world: World, name: str, token: Token = ALL) -> RequestError:
    with pytest.raises(RequestError, match="there is no task") as caught:
        await world.find.document(name, token)
    return caught.value


async def test_a_task_in_memory_needs_no_look_into_the_store() -> None:
    world = World()
    world.regions.add(task("t"))
    assert await world.state_of("t") == "accepted"
    assert world.reads == 0


async def test_a_task_that_is_not_stored_yet_is_not_there_yet() -> None:
    world = World()
    saving = task("t")
    saving.waiters = []
    world.regions.add(saving)
    assert world.find.in_memory("t") is None
    assert (await missing(world, "t")).status == 404


async def test_a_settled_task_is_read_from_the_store() -> None:
    world = World()
    world.store("t")
    assert await world.state_of("t") == "done"


@pytest.mark.parametrize("name", ["no such task", "", "ä" * 3, "nothing"])
async def test_what_is_nowhere_is_404_and_says_how_long_tasks_are_kept(name: str) -> None:
    error = await missing(World(), name)
    assert "settled ones are kept 3 days" in error.detail


async def test_a_limited_token_sees_only_its_own_tasks() -> None:
    world = World()
    world.store("t", token="other")
    world.regions.add(task("u", token="cms"))
    assert (await missing(world, "t", LIMITED)).status == 404
    assert await world.state_of("u", LIMITED) == "accepted"


async def test_a_task_of_another_slot_is_asked_for_there() -> None:
    world = World(has_peers=True)
    world.peers.elsewhere["other"] = {"task_id": "other", "state": "running", "digest": "aa"}
    assert await world.state_of("other") == "running"
    assert world.reads == 0


async def test_a_task_of_this_slot_may_be_with_the_worker_before() -> None:
    world = World(has_peers=True)
    world.replayed.clear()
    world.peers.has_older = True
    world.peers.elsewhere["mine"] = {"task_id": "mine", "state": "running"}
    assert await world.state_of("mine") == "running"


async def test_what_a_worker_before_left_is_waited_for_once_that_has_gone() -> None:
    world = World()
    world.replayed.clear()
    looking = asyncio.create_task(world.find.here("t"))
    await until(lambda: world.reads > 0)
    world.regions.add(task("t"))
    world.replayed.set()
    document = await looking
    assert document is not None
    assert document["task_id"] == "t"


async def test_a_client_is_told_to_ask_again_when_that_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.api.find._REPLAY_LIMIT_S", 0.001)
    world = World()
    world.replayed.clear()
    with pytest.raises(StoreError, match="what another worker left is not taken up yet"):
        await world.find.document("t", ALL)

"""Cancelling a task, in memory, in the store, and with others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from engine.api.cancel import CancelElsewhere, CancelTask
from engine.errors import RequestError, StoreError
from engine.intake.auth import Token
from engine.intake.host_rules import HostRules
from engine.tasks.task import Task
from engine.tasks.words import State

ALL = Token("all", frozenset(), HostRules([]))


class World:
    """One engine: tasks in memory and in the store, and what was done to them, in order."""

    def __init__(self, *, elsewhere: Any = None, peers: Any = None) -> None:
        self.memory: dict[str, Task] = {}
        self.stored: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []
        world: Any = self
        self.cancel_task = CancelTask(
            world,
            SimpleNamespace(cancel=self._cancel),  # type: ignore[arg-type]
            SimpleNamespace(of=lambda _: self),  # type: ignore[arg-type]
            world,
            peers=peers,
            elsewhere=elsewhere,
            write_limit_s=7,
        )

    def put(self, name: str, token: str = "") -> Task:
        task = self.memory[name] = Task.internal(["http://a/"], owner=None, task_id=name)
        task.token = token
        task.state = State.RUNNING
        return task

    # Of `FindTask`

    def in_memory(self, task_id: str) -> Task | None:
        return self.memory.get(task_id)

    async def here(self, task_id: str) -> dict[str, Any] | None:
        return self.stored.get(task_id)

    def no_task(self, task_id: str) -> RequestError:
        return RequestError(404, f"there is no task {task_id!r}")

    # Of the dispatch, a saver and the delay queues

    def _cancel(self, task: Task) -> int:
        self.log.append("cancel")
        task.state = State.CANCELLED
        return 1

    def cancel_stored(self, task_id: str, at: float) -> None:
        self.log.append("cancel stored")
        self.stored[task_id]["state"] = "cancelled"

    def cancelled(self, task_id: str) -> None:
        self.log.append("forget rows")

    def after_all(self, then: Any) -> None:
        self.log.append("recount later")

    async def flushed(self, limit_s: float) -> None:
        assert limit_s == 7
        self.log.append("flushed")

    def names(self) -> list[str]:
        return []

    async def cancel(self, name: str) -> dict[str, Any]:
        return await self.cancel_task.cancel(name, ALL)


async def refused(world: World, name: str, token: Token = ALL) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await world.cancel_task.cancel(name, token)
    return caught.value


async def test_a_cancelled_task_is_answered_when_the_store_has_it() -> None:
    world = World()
    world.put("t")
    assert (await world.cancel("t"))["state"] == "cancelled"
    assert world.log == ["cancel", "recount later", "flushed"]


async def test_a_settled_task_cannot_be_cancelled() -> None:
    world = World()
    world.put("t").state = State.DONE
    world.stored["u"] = {"task_id": "u", "state": "done", "delayed": 0}
    for name in "tu":
        error = await refused(world, name)
        assert (error.status, error.detail) == (409, f"task {name!r} is done; nothing is left to cancel")


async def test_a_task_that_waits_for_delayed_ones_is_cancelled_in_the_store() -> None:
    world = World()
    world.stored["t"] = {"task_id": "t", "state": "partial", "delayed": 2}
    assert (await world.cancel("t"))["state"] == "cancelled"
    assert world.log == ["cancel stored", "forget rows", "recount later", "flushed"]


async def test_a_task_whose_document_is_being_written_is_cancelled_in_the_store() -> None:
    world = World()
    world.put("t").is_handed = True
    world.stored["t"] = {"task_id": "t", "state": "partial", "delayed": 2}
    await world.cancel("t")
    assert world.log == ["flushed", "cancel stored", "forget rows", "recount later", "flushed"]


@pytest.mark.parametrize("name", ["nothing", "no id", "of-another"])
async def test_what_is_not_there_or_not_theirs_is_404(name: str) -> None:
    world = World()
    world.stored["of-another"] = {"task_id": name, "state": "partial", "token": "other"}
    limited = Token("cms", frozenset(), HostRules([]), is_limited=True)
    assert (await refused(world, name, limited)).status == 404


class Elsewhere:
    """Another engine works on the task, and cancels it in the shared store."""

    def __init__(self) -> None:
        self.world: World

    async def cancel(self, task_id: str) -> bool:
        self.world.stored[task_id]["state"] = "cancelled"
        return True


async def test_an_engine_that_works_on_a_task_cancels_it_itself() -> None:
    elsewhere = Elsewhere()
    world = elsewhere.world = World(elsewhere=elsewhere)
    world.stored["t"] = {"task_id": "t", "state": "running", "delayed": 0}
    assert (await world.cancel("t"))["state"] == "cancelled"
    assert world.log == []


class Peers:
    def __init__(self, status: int, document: dict[str, Any]) -> None:
        self.reply: Any = SimpleNamespace(status=status, body=msgspec.json.encode(document))
        self.asked: list[tuple[str, str]] = []

    def is_mine(self, task_id: str) -> bool:
        return task_id.startswith("m")

    async def ask_owner(self, method: str, path: str, task_id: str) -> Any:
        self.asked.append((method, path))
        return self.reply


async def test_a_task_of_another_worker_is_cancelled_there() -> None:
    peers = Peers(200, {"state": "cancelled"})
    assert await World(peers=peers).cancel("other") == {"state": "cancelled"}
    assert peers.asked == [("DELETE", "/worker/task/other?token=all")]


async def test_what_another_worker_refuses_is_refused_here() -> None:
    error = await refused(World(peers=Peers(409, {"detail": "task 'o' is done"})), "o")
    assert (error.status, error.detail) == (409, "task 'o' is done")


async def test_a_task_that_no_worker_of_its_slot_has_is_404() -> None:
    peers = Peers(0, {})
    peers.reply = None
    assert (await refused(World(peers=peers), "other")).status == 404


class Cluster:
    """*rounds* looks long an engine works on the task."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.progress = b""
        self.asked: list[str] = []
        self.members: Any = SimpleNamespace(store=self)
        self.inbox = self

    def live(self, task_id: str) -> Any:
        self.rounds -= 1
        return SimpleNamespace(consumer="b/0.1", progress=self.progress) if self.rounds >= 0 else None

    async def ask_to_cancel(self, consumer: str, task_id: str) -> None:
        self.asked.append(consumer)

    def others(self) -> list[str]:
        return ["b/0.1", "c/0.1"]

    async def read(self, function: Any, *args: object) -> Any:
        return function(*args)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.api.cancel._POLL_S", 0)


async def test_another_engine_is_asked_once_and_waited_for() -> None:
    cluster: Any = Cluster(3)
    assert await CancelElsewhere(cluster, cluster, 0).cancel("t")
    assert cluster.asked == ["b/0.1"]


async def test_all_engines_are_told_of_a_task_whose_rows_they_may_be_delivering() -> None:
    cluster: Any = Cluster(0)
    await CancelElsewhere(cluster, cluster, 0).forget_rows("t")
    assert cluster.asked == ["b/0.1", "c/0.1"]


async def test_one_that_takes_the_task_over_is_asked_too() -> None:
    cluster: Any = Cluster(3)
    has_it = iter(["b/0.1", "b/0.1", "c/0.1"])
    cluster.live = lambda _: next((SimpleNamespace(consumer=name, progress=b"") for name in has_it), None)
    assert await CancelElsewhere(cluster, cluster, 0).cancel("t")
    assert cluster.asked == ["b/0.1", "c/0.1"]


async def test_another_engine_is_not_waited_for_when_it_has_stored_that_the_task_is_cancelled() -> None:
    cluster: Any = Cluster(10**9)
    cluster.progress = b'{"state": "cancelled"}'
    assert await CancelElsewhere(cluster, cluster, 0).cancel("t")


async def test_a_task_that_no_engine_works_on_needs_nobody() -> None:
    cluster: Any = Cluster(0)
    assert not await CancelElsewhere(cluster, cluster, 0).cancel("t")
    assert cluster.asked == []


async def test_an_engine_that_does_not_answer_in_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.api.cancel._OTHER_ENGINE_LIMIT_S", 0)
    cluster: Any = Cluster(10**9)
    with pytest.raises(StoreError, match=r"the engine b/0\.1 that works on it does not answer"):
        await CancelElsewhere(cluster, cluster, 0).cancel("t")

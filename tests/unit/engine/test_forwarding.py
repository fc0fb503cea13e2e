"""What intake asks of the other workers of an engine; the workers are recorders."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from engine.errors import EngineError, StoreError
from engine.intake.forwarding import Forwarding
from engine.intake.replies import Reply
from engine.tasks.records import By
from engine.tasks.task import Task

if TYPE_CHECKING:
    from engine.workers.peers import Peers


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class OtherWorkers:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.mine = True
        self.others: list[object] = []
        self.answer: Any = None
        self.asked: list[tuple[object, ...]] = []
        self.is_there = True

    def is_mine(self, _task_id: str) -> bool:
        return self.mine

    def others_of(self, _task_id: str) -> list[object]:
        return self.others

    def has_predecessor(self) -> bool:
        return self.is_there

    async def find(self, task_id: str) -> Any:
        return await self.ask_owner("find", task_id)

    async def ask_owner(self, *words: object) -> Any:
        self.asked.append(words)
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Bench:
    """A forwarding, and what it tells."""

    def __init__(self) -> None:
        self.workers = OtherWorkers()
        self.replayed = asyncio.Event()
        self.told: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self.forwarding = Forwarding(
            cast("Peers", self.workers),
            self.replayed,
            refuse=lambda exc, _: Reply(503, str(exc).encode()),
            on_new=lambda task: self.told.put_nowait(("new", task.id)),
            on_known=lambda _, document: self.told.put_nowait(("known", document["digest"])),
            on_unsure=self._unsure,
        )

    def _unsure(self, _task: Task, error: EngineError) -> None:
        self.told.put_nowait(("unsure", str(error)))

    async def forward(self) -> Reply:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        asked = task()
        asked.by, asked.traceparent = By("cms", "192.0.2.7", "http"), TRACEPARENT
        self.forwarding.forward(asked, b"{}", answered.set_result)
        return await asyncio.wait_for(answered, 30)

    async def news(self) -> tuple[str, object]:
        return await asyncio.wait_for(self.told.get(), 30)


def task(*, digest: bytes = b"x") -> Task:
    made = Task.internal([], owner=None, task_id="a")
    made.digest = digest
    return made


async def test_only_ids_that_clients_chose_belong_elsewhere() -> None:
    bench = Bench()
    bench.workers.mine = False
    assert bench.forwarding.is_elsewhere(task())
    assert not bench.forwarding.is_elsewhere(task(digest=b""))
    bench.workers.mine = True
    assert not bench.forwarding.is_elsewhere(task())


async def test_an_id_may_be_known_while_a_second_worker_or_its_work_is_left() -> None:
    bench = Bench()
    assert bench.forwarding.may_be_known(task())
    assert not bench.forwarding.may_be_known(task(digest=b""))
    bench.replayed.set()
    assert not bench.forwarding.may_be_known(task())
    bench.workers.others = [object()]
    assert bench.forwarding.may_be_known(task())


async def test_the_owners_reply_is_passed_on_with_the_headers_that_clients_need() -> None:
    bench = Bench()
    headers = {"Content-Type": "application/json; charset=utf-8", "Retry-After": "1", "Server": "private"}
    bench.workers.answer = Reply(503, b"full", headers=headers)
    assert await bench.forward() == Reply(503, b"full", "application/json", {"Retry-After": "1"})
    path = f"/worker/task?token=cms&address=192.0.2.7&door=http&traceparent={TRACEPARENT}"
    assert bench.workers.asked == [("POST", path, "a", b"{}")]


@pytest.mark.parametrize(
    ("answer", "words"), [(None, b"being replaced"), (StoreError("no answer"), b"no answer")]
)
async def test_an_owner_that_is_away_is_told_as_503(answer: object, words: bytes) -> None:
    bench = Bench()
    bench.workers.answer = answer
    reply = await bench.forward()
    assert reply.status == 503
    assert words in reply.body


async def test_what_another_worker_has_is_known() -> None:
    bench = Bench()
    bench.workers.answer = {"digest": "ff"}
    bench.forwarding.ask(task())
    assert await bench.news() == ("known", "ff")


async def test_what_no_other_worker_has_is_new() -> None:
    bench = Bench()
    bench.forwarding.ask(task())
    assert await bench.news() == ("new", "a")


async def test_the_work_of_a_worker_that_has_gone_is_waited_for() -> None:
    """The task may be among what it left in the store."""
    bench = Bench()
    bench.workers.is_there = False
    bench.forwarding.ask(task())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bench.told.empty()
    bench.replayed.set()
    assert await bench.news() == ("new", "a")


async def test_a_worker_that_cannot_tell_leaves_it_unsure() -> None:
    bench = Bench()
    bench.workers.answer = StoreError("it does not answer")
    bench.forwarding.ask(task())
    assert await bench.news() == ("unsure", "it does not answer")


async def test_a_released_task_is_told_to_nobody() -> None:
    """An older task with its id has come into memory meanwhile."""
    bench = Bench()
    asked = task()
    bench.forwarding.ask(asked)
    assert bench.forwarding.release("a") is asked
    assert bench.forwarding.release("a") is None
    for _ in range(5):
        await asyncio.sleep(0)
    assert bench.told.empty()

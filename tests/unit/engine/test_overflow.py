"""Accepted tasks that wait for room: the first one first, and each for a bounded time."""

from __future__ import annotations

import asyncio

from engine.errors import BacklogFullError
from engine.saver.overflow import Overflow
from engine.tasks.task import Task


def task(name: str) -> Task:
    return Task.internal([], owner=None, task_id=name)


class Refusals:
    """Notes who was refused."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Exception]] = []
        self.news = asyncio.Event()

    def __call__(self, refused: Task, error: Exception) -> None:
        self.told.append((refused.id, error))
        self.news.set()


async def test_room_goes_to_the_task_that_has_waited_longest() -> None:
    overflow = Overflow(asyncio.get_running_loop(), 60, Refusals())
    for name in "abc":
        overflow.add(task(name))
    assert [overflow.take().id for _ in range(2)] == ["a", "b"]
    assert len(overflow) == 1
    overflow.close()


async def test_what_finds_no_room_in_time_is_refused_in_order() -> None:
    refusals = Refusals()
    overflow = Overflow(asyncio.get_running_loop(), 0.001, refusals)
    for name in "ab":
        overflow.add(task(name))
    async with asyncio.timeout(30):
        while overflow:
            refusals.news.clear()
            await refusals.news.wait()
    assert [name for name, _ in refusals.told] == ["a", "b"]
    assert all(isinstance(error, BacklogFullError) for _, error in refusals.told)


async def test_a_closed_one_refuses_nobody() -> None:
    refusals = Refusals()
    overflow = Overflow(asyncio.get_running_loop(), 0, refusals)
    overflow.add(task("a"))
    overflow.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert refusals.told == []

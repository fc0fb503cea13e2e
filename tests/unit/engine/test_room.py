"""Room for tasks: who is taken, who waits, and who is refused with what name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.intake.room import Room
from engine.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.errors import BacklogFullError


def task(name: str, total: int) -> Task:
    made = Task.internal([], owner=None, task_id=name)
    made.total = total
    return made


class Bench:
    """A room, the count that it looks at, the tasks in memory, and what became of them."""

    def __init__(self, *, live_max: int = 100, wait_s: float = 60, waiting_max: int = 10) -> None:
        self.live = 0
        self.on_room: Callable[[], None] | None = None
        self.memory: list[Task] = []
        self.taken: list[tuple[str, bool]] = []  #: name, and whether it had waited
        self.refused: list[tuple[str, str]] = []  #: name, and what is full
        self.news = asyncio.Event()
        self.room = Room(
            asyncio.get_running_loop(),
            self,
            self.memory,
            live_max=live_max,
            wait_s=wait_s,
            waiting_max=waiting_max,
            on_taken=self._take,
            on_refused=self._refuse,
        )

    def _take(self, task: Task, until: float | None) -> None:
        self.taken.append((task.id, until is not None))
        self.news.set()

    def _refuse(self, task: Task, error: BacklogFullError) -> None:
        self.memory.remove(task)
        self.refused.append((task.id, error.backlog))
        self.news.set()

    def admit(self, name: str, total: int) -> None:
        made = task(name, total)
        self.memory.append(made)
        self.room.admit(made)

    def reserve(self, count: int) -> None:
        self.live += count

    def call_on_room(self, callback: Callable[[], None]) -> None:
        self.on_room = callback

    def settle(self, count: int) -> None:
        self.live -= count
        on_room, self.on_room = self.on_room, None
        if on_room is not None:
            on_room()

    async def until(self, *, taken: int = 0, refused: int = 0) -> None:
        async with asyncio.timeout(30):
            while len(self.taken) < taken or len(self.refused) < refused:
                self.news.clear()
                await self.news.wait()


async def test_a_task_that_fits_is_taken_and_counted_at_once() -> None:
    bench = Bench()
    bench.admit("a", 60)
    bench.admit("b", 40)
    assert bench.taken == [("a", False), ("b", False)]
    assert bench.live == 100


async def test_tasks_that_do_not_fit_wait_in_their_order() -> None:
    """Also a small one behind a large one: whoever came first goes first."""
    bench = Bench()
    bench.admit("a", 90)
    bench.admit("large", 20)
    bench.admit("small", 1)
    assert bench.taken == [("a", False)]
    bench.settle(80)
    assert bench.taken[1:] == [("large", True), ("small", True)]
    assert (bench.live, bench.on_room, bench.refused) == (31, None, [])


async def test_room_for_some_leaves_the_others_waiting() -> None:
    bench = Bench()
    for name in ("a", "b", "c"):
        bench.admit(name, 60)
    bench.settle(60)
    assert bench.taken == [("a", False), ("b", True)]
    assert bench.on_room is not None
    bench.settle(60)
    assert bench.taken[2:] == [("c", True)]


async def test_a_task_larger_than_all_room_is_taken_alone() -> None:
    """It would never fit beside another one."""
    bench = Bench(live_max=10)
    bench.admit("large", 50)
    bench.admit("next", 1)
    assert bench.taken == [("large", False)]
    bench.settle(50)
    assert bench.taken[1:] == [("next", True)]


async def test_it_is_crowded_when_half_is_taken_or_a_task_waits() -> None:
    """After each of these: half, a bit more, less again; then one that waits, with nothing live."""
    bench = Bench()
    crowded = []
    for total in (50, 1, -51, 200, 1):
        if total > 0:
            bench.admit("a", total)
        else:
            bench.settle(-total)
        crowded.append(bench.room.is_crowded)
    bench.live = 0
    assert (crowded, bench.room.is_crowded) == ([False, True, False, True, True], True)


async def test_more_than_may_wait_are_refused_at_once() -> None:
    bench = Bench(waiting_max=1)
    bench.admit("a", 100)
    bench.admit("waits", 1)
    bench.admit("refused", 1)
    assert bench.refused == [("refused", "pushing_queue")]


async def test_what_finds_no_room_in_time_is_refused_in_order() -> None:
    bench = Bench(wait_s=0.001)
    bench.admit("a", 100)
    bench.admit("b", 1)
    bench.admit("c", 1)
    await bench.until(refused=2)
    assert bench.refused == [("b", "pushing_queue"), ("c", "pushing_queue")]
    assert bench.taken == [("a", False)]


async def test_tasks_in_memory_have_a_limit_of_their_own() -> None:
    """Their subtasks may all be in delay queues, and count no more; they take memory still."""
    bench = Bench(live_max=2, wait_s=0.001)
    bench.memory += [task("old-1", 0), task("old-2", 0)]
    bench.admit("a", 1)
    await bench.until(refused=1)
    assert bench.refused == [("a", "tasks_in_cache")]


async def test_memory_that_has_become_free_is_seen_at_the_last_moment() -> None:
    """Nobody tells when a task leaves the memory, so a task looks once more before it gives up."""
    bench = Bench(live_max=1, wait_s=0.01)
    bench.memory.append(task("old", 0))
    bench.admit("a", 1)
    assert bench.taken == []
    del bench.memory[0]
    await bench.until(taken=1)
    assert bench.refused == []

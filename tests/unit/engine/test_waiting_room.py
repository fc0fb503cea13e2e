"""Who waits for room: the first one first, and each for a bounded time."""

from __future__ import annotations

import asyncio

from engine.base.waiting_room import WaitingRoom


class Late:
    """Notes who found no room in time."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.news = asyncio.Event()

    def __call__(self, name: str) -> None:
        self.told.append(name)
        self.news.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.told) < count:
                self.news.clear()
                await self.news.wait()


def room_of(wait_s: float, late: Late | None = None) -> WaitingRoom[str]:
    return WaitingRoom(asyncio.get_running_loop(), wait_s, late or Late())


async def test_room_goes_to_who_has_waited_longest() -> None:
    room = room_of(60)
    for name in "abc":
        room.add(name)
    assert [room.take()[0] for _ in range(2)] == ["a", "b"]
    assert len(room) == 1
    room.close()


async def test_who_finds_no_room_in_time_is_late_in_order() -> None:
    late = Late()
    room = room_of(0.001, late)
    for name in "ab":
        room.add(name)
    await late.until(2)
    assert late.told == ["a", "b"]
    assert not room


async def test_who_waited_in_another_room_brings_its_time_along() -> None:
    """It waits once: what is left of its time, not all of it again."""
    late, second = Late(), Late()
    first = room_of(0.001, late)
    first.add("a")
    until = first.queue[0][0]
    name, until_taken = first.take()
    assert until_taken == until
    room = room_of(60, second)
    room.add(name, until)
    room.add("b")
    await second.until(1)
    assert second.told == ["a"]
    assert late.told == []
    assert len(room) == 1
    room.close()


async def test_somebody_may_be_taken_at_the_last_moment() -> None:
    late = Late()
    taken: list[str] = []
    room = WaitingRoom(
        asyncio.get_running_loop(), 0.001, late, last_chance=lambda: taken.append(room.take()[0])
    )
    room.add("a")
    room.add("b")
    await late.until(1)
    assert (taken, late.told) == (["a"], ["b"])


async def test_in_a_closed_room_nobody_is_late() -> None:
    late = Late()
    room = room_of(0, late)
    room.add("a")
    room.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert late.told == []

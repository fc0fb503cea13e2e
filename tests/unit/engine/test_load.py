"""The count of live subtasks: who is told of room, and who waits for none."""

from __future__ import annotations

import asyncio

from engine.delivery.load import Load


class Calls:
    """Notes how often it is called."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def turn() -> None:
    """Let the loop make what was asked of it."""
    await asyncio.sleep(0)


async def test_what_is_reserved_counts_until_it_is_released() -> None:
    load = Load(asyncio.get_running_loop())
    load.reserve(30)
    load.release(10)
    assert load.live == 20


async def test_who_waits_for_room_is_called_once_and_not_within_the_release() -> None:
    load, called = Load(asyncio.get_running_loop()), Calls()
    load.reserve(2)
    load.call_on_room(called)
    load.release(1)
    counts = [called.count]
    load.release(1)
    await turn()
    assert [*counts, called.count] == [0, 1]


async def test_a_task_that_leaves_the_memory_makes_room_too() -> None:
    load, called = Load(asyncio.get_running_loop()), Calls()
    load.call_on_room(called)
    load.made_room()
    load.made_room()
    await turn()
    assert called.count == 1


async def test_draining_ends_with_the_last_subtask() -> None:
    load = Load(asyncio.get_running_loop())
    assert await load.drain(0)
    load.reserve(2)
    draining = asyncio.ensure_future(load.drain(60))
    await turn()
    load.release(1)
    await turn()
    assert not draining.done()
    load.release(1)
    assert await draining


async def test_draining_gives_up_after_its_time() -> None:
    load = Load(asyncio.get_running_loop())
    load.reserve(1)
    assert not await load.drain(0.001)

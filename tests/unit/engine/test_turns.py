"""Work in slices: others have their turn, and each piece goes on in its turn."""

from __future__ import annotations

import asyncio
import time

from engine.base.turns import SLICE_S, Turns


async def test_the_loop_turns_between_two_slices() -> None:
    loop = asyncio.get_running_loop()
    turns = Turns(loop)
    done = asyncio.Event()
    seen: list[str] = []

    def work(name: str, slices: int) -> bool:
        until = time.monotonic() + SLICE_S
        while time.monotonic() < until:
            pass
        seen.append(name)
        if seen.count(name) < slices:
            loop.call_soon(seen.append, "other")
            return False
        if seen.count("a") == seen.count("b") == 2:
            done.set()
        return True

    for name in "ab":
        turns.add(lambda name=name: work(name, 2))  # type: ignore[misc]
    assert seen == [], "never at once"
    async with asyncio.timeout(30):
        await done.wait()
    assert [name for name in seen if name != "other"] == ["a", "b", "a", "b"]
    assert seen.index("other") < seen.index("b", 2)
    assert "0 under way" in repr(turns)


async def test_short_pieces_share_a_turn() -> None:
    turns = Turns(asyncio.get_running_loop())
    seen: list[int] = []
    for number in range(3):
        turns.add(lambda number=number: seen.append(number) is None)  # type: ignore[misc,func-returns-value]
    await asyncio.sleep(0)
    assert seen == [0, 1, 2]

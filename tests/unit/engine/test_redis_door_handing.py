"""What has been read, on its way into the intake."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import closing
from typing import TYPE_CHECKING

from engine.doors.redis.handing import IN_HAND_MAX, Handing
from engine.intake.problems import problem
from tests.model.loop import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.doors.redis.handing import Item
    from engine.intake.replies import Reply

SOON = {"Retry-After": "0"}


class Ends:
    """Notes what became of items."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def saved(self, item: Item) -> None:
        self.told.append(("saved", item.name))

    def expired(self, item: Item) -> None:
        self.told.append(("expired", item.name))

    def refused(self, item: Item, why: Reply) -> None:
        self.told.append((f"refused {why.status}", item.name))

    def delayed(self, item: Item, why: Reply) -> None:
        self.told.append((f"delayed {why.status}", item.name))


class Asking:
    """An item; its answers come one after the other, the last one again and again."""

    def __init__(self, name: str, *answers: Reply | None, expires_at: float = math.inf) -> None:
        self.name = name
        self.expires_at = expires_at
        self._answers = list(answers)
        self.answer: Callable[[Reply | None], None]

    def say(self, answer: Reply | None) -> None:
        """Answer so from now on."""
        self._answers = [answer]

    def hand_in(self, answer: Callable[[Reply | None], None]) -> None:
        self.answer = answer
        if self._answers:
            answer(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])


class Broken(Asking):
    """The engine has an error with it."""

    def hand_in(self, answer: Callable[[Reply | None], None]) -> None:
        answer(None)
        raise ZeroDivisionError


def new() -> tuple[Handing, Ends]:
    ends = Ends()
    return Handing(asyncio.get_running_loop(), ends), ends


async def test_what_is_answered_later_is_handed_in_again() -> None:
    handing, ends = new()
    handing.add(Asking("a", problem(503, "full", headers=SOON), problem(429, "slow", headers=SOON), None))
    assert handing.is_settled.is_set()
    assert handing.names == ["a"]
    await asyncio.wait_for(handing.is_empty.wait(), 5)
    assert ends.told == [("delayed 503", "a"), ("delayed 429", "a"), ("saved", "a")]


def test_the_longer_there_is_no_room_the_less_often_it_is_asked_for() -> None:
    """And soon by all, when there was room for one."""
    with closing(VirtualLoop(random.Random(1))) as loop:
        loop.run_until_complete(_without_room())


async def _without_room() -> None:
    loop = asyncio.get_running_loop()
    handing, ends = new()
    full = problem(503, "full", headers=SOON)
    items = [Asking(str(number), full) for number in range(10)]
    for item in items:
        handing.add(item)
    await asyncio.sleep(0.5)
    assert 20 <= len(ends.told) <= 60  # the same pause each time would be some 80
    for item in items:
        item.say(None)
    handing.add(Asking("one", None))
    since = loop.time()
    await handing.is_empty.wait()
    assert loop.time() - since < 0.1


async def test_what_is_refused_is_so_for_good() -> None:
    handing, ends = new()
    handing.add(Asking("a", problem(422, "no")))
    assert ends.told == [("refused 422", "a")]
    assert handing.names == []


async def test_there_is_room_for_so_many() -> None:
    handing, _ = new()
    items = [Asking(str(number)) for number in range(IN_HAND_MAX)]
    for item in items:
        handing.add(item)
    assert (handing.room, handing.has_room.is_set(), handing.is_settled.is_set()) == (0, False, False)
    items[0].answer(None)
    items[0].answer(None)  # a second answer changes nothing
    assert (handing.room, handing.has_room.is_set()) == (1, True)


async def test_what_is_too_old_when_its_turn_comes_is_dropped() -> None:
    handing, ends = new()
    now = asyncio.get_running_loop().time()
    handing.add(Asking("old", None, expires_at=now - 1))
    handing.add(Asking("waits", problem(503, "full", headers=SOON), expires_at=now + 0.05))
    await asyncio.wait_for(handing.is_empty.wait(), 5)
    assert ends.told[:2] == [("expired", "old"), ("delayed 503", "waits")]
    assert ends.told[-1] == ("expired", "waits")


async def test_an_error_of_the_engine_is_the_end_of_one_item_alone() -> None:
    handing, ends = new()
    handing.add(Broken("a"))
    assert ends.told == [("saved", "a")]
    assert handing.names == []


async def test_what_waits_at_the_end_is_left_to_others() -> None:
    handing, ends = new()
    handing.add(Asking("waits", problem(503, "full")))
    late = Asking("late")
    handing.add(late)
    handing.stop()
    assert handing.names == ["late"]
    late.answer(problem(503, "full"))
    assert handing.names == []
    assert ends.told == [("delayed 503", "waits")]

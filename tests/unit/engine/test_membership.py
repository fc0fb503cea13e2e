"""Who lives, who leads, and when this engine can tell."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec

from engine.base.clock import SteadyClock
from engine.cluster.membership import Membership
from engine.cluster.process_mark import process_mark
from engine.store.redis.members import About, Member, View

if TYPE_CHECKING:
    import pytest

TTL_S = 10.0
OTHER_HOST = "other-boot/pid:[1]:77"


class Inline:
    """Calls on the loop what the cluster calls in threads."""

    async def call(self, function: Any, *args: object, **named: object) -> Any:
        return function(*args, **named)


class Members:
    def __init__(self, view: View) -> None:
        self.store = SimpleNamespace(consumer="me")
        self.view = view
        self.beats: list[bool] = []

    def beat(self, about: About, *, may_lead: bool) -> View:
        assert may_lead
        self.beats.append(about.is_draining)
        return self.view


class Clock:
    """The loop's time, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)


def member(consumer: str, *, lives: bool = True, process: str = OTHER_HOST, **more: Any) -> Member:
    about = About(process=process, is_draining=more.pop("is_draining", False), pid=os.getpid())
    return Member(consumer, about, lives, more.pop("has_left", False))


class Engine:
    def __init__(self, *members: Member, leader: str = "") -> None:
        self.members = Members(View(leader, 4, list(members)))
        self.is_draining = False
        recorder: Any = self.members
        threads: Any = Inline()
        about = About(process=process_mark(os.getpid()))
        self.membership = Membership(
            recorder,
            threads,
            about,
            clock=SteadyClock(),
            ttl_s=TTL_S,
            is_draining=lambda: self.is_draining,
            kept=lambda: (0, {}),
        )

    async def steady(self, clock: Clock) -> Membership:
        """Beat long enough to tell that others are dead."""
        await self.membership.join()
        for _ in range(3):
            clock.now += TTL_S / 2
            await self.membership.beat()
        return self.membership


async def test_a_silent_engine_is_dead_only_for_one_that_was_heard_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    silent = member("other", lives=False)
    engine = Engine(silent)
    await engine.membership.join()
    assert not engine.membership.is_gone(silent)
    assert (await engine.steady(clock)).is_gone(silent)


async def test_after_a_gap_nobody_is_dead_until_it_has_been_steady_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    silent = member("other", lives=False)
    engine = Engine(silent)
    membership = await engine.steady(clock)
    clock.now += TTL_S * 0.7  # Redis was away
    await membership.beat()
    assert not membership.is_gone(silent)
    assert (await engine.steady(clock)).is_gone(silent)


async def test_an_engine_that_said_goodbye_is_gone_at_once() -> None:
    engine = Engine()
    assert engine.membership.is_gone(member("other", has_left=True))
    assert not engine.membership.is_gone(member("me", lives=False, has_left=True))


async def test_a_process_of_this_host_that_is_not_there_any_more_is_gone() -> None:
    membership = Engine().membership
    mine = process_mark(os.getpid())
    assert not membership.is_gone(member("other", process=mine))
    assert membership.is_gone(member("other", process=f"{mine.rpartition(':')[0]}:1"))


async def test_who_drains_takes_nothing_over_but_oneself_is_always_counted() -> None:
    engine = Engine(member("b"), member("a"), member("c", is_draining=True), member("d", has_left=True))
    await engine.membership.join()
    assert engine.membership.workers() == ["a", "b", "me"]


async def test_a_leader_that_is_not_heard_of_in_time_leads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    engine = Engine(leader="me")
    await engine.membership.join()
    assert engine.membership.leads()
    clock.now += TTL_S
    assert not engine.membership.leads()


async def test_the_others_see_whether_this_engine_drains() -> None:
    engine = Engine()
    await engine.membership.join()
    engine.is_draining = True
    await engine.membership.beat()
    assert engine.members.beats == [False, True]


async def test_what_an_engine_kept_is_known_until_what_it_left_is_taken() -> None:
    other = member("other")
    other.about.keeps = {"e1": 3}
    engine = Engine(other)
    await engine.membership.beat()
    engine.members.view = View("", 4, [member("other", has_left=True)])
    await engine.membership.beat()
    assert engine.membership.said()["other"].keeps == {"e1": 3}
    engine.members.view = View("", 4, [])
    await engine.membership.beat()
    assert engine.membership.said() == {}


async def test_an_engine_lives_as_long_as_its_beats_grow_whatever_the_clock_of_the_store_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A key that expires would say that all are dead when that clock is set forward, and none when back."""
    clock = Clock(monkeypatch)
    beating, dead = member("beating", lives=False), member("dead")
    beating.about.beats, dead.about.beats = 1, 9
    engine = Engine(beating, dead)
    membership = engine.membership
    await membership.join()
    for _ in range(3):
        clock.now += TTL_S / 2
        beating.about = msgspec.structs.replace(beating.about, beats=beating.about.beats + 1)
        await membership.beat()
    assert [membership.is_gone(one) for one in (beating, dead)] == [False, True]
    assert [membership.is_nobody(name) for name in ("beating", "dead", "buried", "me")] == [
        False,
        True,
        True,
        False,
    ]


async def test_after_a_gap_an_engine_that_has_not_beaten_meanwhile_is_not_dead_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both were paused, and the other one wakes up later."""
    clock = Clock(monkeypatch)
    other = member("other")
    other.about.beats = 1
    engine = Engine(other)
    await engine.membership.join()
    clock.now += TTL_S * 5
    await engine.membership.beat()
    assert not engine.membership.is_gone(other)
    assert not engine.membership.is_nobody("other")
    assert not engine.membership.is_nobody("buried")


async def test_an_engine_that_is_not_in_the_table_any_more_may_live_for_as_long_as_others_do_unheard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An operator deleted the table: it is back with the next beat."""
    clock = Clock(monkeypatch)
    other = member("other")
    other.about.beats = 1
    engine = Engine(other)
    membership = await engine.steady(clock)
    other.about = msgspec.structs.replace(other.about, beats=2)
    await membership.beat()
    engine.members.view = View("", 4, [])
    for is_nobody in (False, False, True):
        assert membership.is_nobody("other") is is_nobody
        clock.now += TTL_S / 2
        await membership.beat()


async def test_a_store_that_has_forgotten_a_beat_was_set_back() -> None:
    """One whose answer was lost may be there or not; and a store that knows nothing was emptied."""
    engine = Engine()
    for known, times in ((0, 0), (1, 0), (2, 0), (1, 1), (4, 1), (0, 1)):
        engine.members.view = View("", 4, [], own_beats=known)
        await engine.membership.beat()
        assert engine.membership.times_set_back == times

"""Purges of datagrams: gathered, handed in again, taken apart. The intake is a recorder."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from engine.doors.htcp import batches
from engine.doors.htcp.batches import Batches
from engine.doors.htcp.messages import Cleared
from engine.doors.htcp.tally import Tally
from engine.doors.submitting import Saved
from engine.intake.problems import problem
from engine.observe.counters import Stats

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from engine.doors.asked import Asked

THERE = "10.0.0.9"
SAVED = Saved(("t1",), 1)


def refused(status: int) -> Saved:
    return Saved((), 0, refusal=problem(status, "not so"))


class Bench:
    """Batches, and what was handed in."""

    def __init__(self, *, wait_s: float = 0) -> None:
        self.stats = Stats()
        self.handed_in: list[tuple[Asked, float, Callable[[Saved], None]]] = []
        self.news = asyncio.Event()
        self.admission = SimpleNamespace(stats=self.stats, is_crowded=False)
        submitting: Any = SimpleNamespace(admission=self.admission, submit=self._submit)
        token: Any = SimpleNamespace(name="cms")
        tally = Tally("127.0.0.1:4827", self.stats, asyncio.get_running_loop(), None)
        self.batches = Batches(submitting, token, tally, wait_s=wait_s)
        self.answers: list[tuple[str, Cleared]] = []

    def _submit(
        self, asked: Asked, client: object, answer: Callable[[Saved], None], *, wait_s: float
    ) -> None:
        self.handed_in.append((asked, wait_s, answer))
        self.news.set()

    def add(self, *urls: str, address: str = THERE, wants_answer: bool = False) -> None:
        for url in urls:
            answer = (lambda cleared, url=url: self.answers.append((url, cleared))) if wants_answer else None
            self.batches.add(url, address, answer)

    def answer(self, number: int, saved: Saved) -> None:
        self.handed_in[number][2](saved)

    @property
    def targets(self) -> list[list[str]]:
        return [list(map(str, asked.targets)) for asked, _, _ in self.handed_in]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.handed_in) < count:
                self.news.clear()
                await self.news.wait()


async def test_what_comes_together_from_an_address_is_one_task_and_a_url_stands_once() -> None:
    bench = Bench()
    bench.add("http://a/1", "http://a/2", "http://a/1")
    bench.add("http://a/1", address="10.0.0.8")
    assert bench.handed_in == []
    await bench.until(2)
    assert bench.targets == [["http://a/1", "http://a/2"], ["http://a/1"]]
    bench.answer(0, SAVED)
    bench.answer(1, SAVED)
    assert bench.stats.datagrams == {"accepted": 4}


async def test_a_task_is_bounded_by_count_and_by_size() -> None:
    """A thousand URLs, or a mebibyte."""
    bench = Bench()
    bench.add(*(f"http://a/{number}" for number in range(2500)))
    assert [len(targets) for targets in bench.targets] == [1000, 1000]
    bench.add(*(f"http://a/{number}{'x' * 8000}" for number in range(140)))
    assert len(bench.handed_in) == 3


async def test_what_is_refused_for_now_is_tried_again_and_others_wait_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One at a time; what comes meanwhile is gathered, so that it is few tasks when there is room again."""
    monkeypatch.setattr(batches, "_RETRY_FIRST_S", 0.01)
    bench = Bench()
    bench.add("http://a/1", wants_answer=True)
    bench.batches.flush()
    bench.answer(0, refused(503))
    for number in range(2, 5):
        bench.add(f"http://a/{number}")
        bench.batches.flush()
    await bench.until(2)
    bench.answer(1, refused(429))
    await bench.until(3)
    assert bench.targets == [["http://a/1"]] * 3
    assert (bench.answers, bench.stats.datagrams) == ([], {})
    bench.answer(2, SAVED)
    assert bench.answers == [("http://a/1", Cleared.GONE)]
    await bench.until(4)
    assert bench.targets[3] == ["http://a/2", "http://a/3", "http://a/4"]
    bench.answer(3, SAVED)
    await asyncio.sleep(0)
    bench.add("http://a/5")
    bench.batches.flush()
    assert bench.targets[4:] == [["http://a/5"]]
    bench.answer(4, SAVED)
    assert bench.stats.datagrams == {"accepted": 5}


async def test_what_is_refused_for_too_long_is_given_up_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those behind it, too, though nobody has asked for them."""
    monkeypatch.setattr(batches, "_RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(batches, "KEEP_S", 0.05)
    bench = Bench()
    for address in ("10.0.0.8", THERE):
        bench.add("http://a/1", address=address, wants_answer=True)
    bench.batches.flush()
    bench.answer(0, refused(503))
    bench.answer(1, refused(503))
    at = 2
    async with asyncio.timeout(30):
        while len(bench.answers) < 2:
            await asyncio.sleep(0.01)
            for _, _, answer in bench.handed_in[at:]:
                at += 1
                answer(refused(503))
    assert bench.answers == [("http://a/1", Cleared.KEPT)] * 2
    assert bench.stats.datagrams == {"unsaved": 2}
    assert repr(bench.batches) == "<Batches [0 in hand, 0 bytes]>"


async def test_who_waits_for_caches_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_RETRY_FIRST_S", 0.01)
    bench = Bench(wait_s=5)
    bench.add("http://a/1", wants_answer=True)
    bench.answer(0, refused(503))
    bench.add("http://a/2", wants_answer=True)
    await bench.until(3)
    assert bench.targets == [["http://a/1"], ["http://a/1"], ["http://a/2"]]


async def test_a_task_that_is_refused_for_good_is_taken_apart_to_its_last_url() -> None:
    """Each datagram is counted and answered by what became of its own URL."""
    bench = Bench()
    bench.add("http://a/1", "http://a/2", "http://a/3", "http://a/2", wants_answer=True)
    bench.batches.flush()
    at = 0
    while at < len(bench.handed_in):
        targets = bench.targets[at]
        bench.answer(at, refused(422) if len(targets) > 1 or targets == ["http://a/2"] else SAVED)
        at += 1
        await asyncio.sleep(0)
    assert bench.targets[1:] == [["http://a/1"], ["http://a/2", "http://a/3"], ["http://a/2"], ["http://a/3"]]
    assert bench.stats.datagrams == {"accepted": 2, "unsaved": 2}
    assert sorted(bench.answers) == [
        ("http://a/1", Cleared.GONE),
        ("http://a/2", Cleared.KEPT),
        ("http://a/2", Cleared.KEPT),
        ("http://a/3", Cleared.GONE),
    ]


async def test_who_waits_for_the_caches_has_a_task_alone() -> None:
    """What they say of others would not be the answer; who asks for none does not wait."""
    bench = Bench(wait_s=5)
    bench.add("http://a/1", "http://a/2", wants_answer=True)
    bench.add("http://a/3", "http://a/4")
    bench.batches.flush()
    assert bench.targets == [["http://a/1"], ["http://a/2"], ["http://a/3", "http://a/4"]]
    assert [wait_s for _, wait_s, _ in bench.handed_in] == [5, 5, 0]
    for number, (acked, absent, expected) in enumerate(((2, 1, Cleared.GONE), (2, 2, Cleared.ABSENT))):
        bench.answer(number, Saved(("t",), 2, tasks=(task(acked, absent),)))
        assert bench.answers[-1][1] == expected
    bench.add("http://a/5", wants_answer=True)
    bench.answer(3, Saved(("t",), 2, tasks=(task(1, 0),)))
    assert bench.answers[-1] == ("http://a/5", Cleared.KEPT)


def task(acked: int, absent: int) -> Any:
    return SimpleNamespace(total=2, absent_count=absent, shares=[SimpleNamespace(acked_count=acked)])


async def test_what_is_in_hand_is_bounded() -> None:
    """By bytes; and while the engine is crowded, one task at a time."""
    bench = Bench()
    bench.admission.is_crowded = True
    assert bench.batches.has_room()
    bench.add("http://a/1")
    assert not bench.batches.has_room()
    bench.admission.is_crowded = False
    assert bench.batches.has_room()
    while bench.batches.has_room():
        bench.add(f"http://a/{len(bench.handed_in)}/{'x' * 8000}{bench.stats.requests}")
        bench.batches.flush()
    assert 1000 < len(bench.handed_in) < 4000
    for number in range(len(bench.handed_in)):
        bench.answer(number, SAVED)
    assert repr(bench.batches) == "<Batches [0 in hand, 0 bytes]>"


async def test_at_the_end_nothing_is_handed_in_again_and_what_is_left_is_told() -> None:
    bench = Bench()
    bench.add("http://a/1")
    bench.batches.stop_retrying()
    bench.answer(0, refused(503))
    assert bench.stats.datagrams == {"unsaved": 1}
    bench.add("http://a/2")
    bench.batches.flush()
    await bench.batches.wait_empty(0.01)
    bench.batches.close()
    assert bench.stats.datagrams == {"unsaved": 2}
    bench.answer(1, SAVED)
    assert bench.stats.datagrams == {"unsaved": 2}


async def test_who_waits_for_the_caches_keeps_nobody_else_from_being_heard() -> None:
    bench = Bench(wait_s=5)
    bench.admission.is_crowded = True
    bench.add("http://a/1", wants_answer=True)
    assert bench.batches.has_room()
    bench.answer(0, refused(503))  # now it waits for the intake, as others do
    assert not bench.batches.has_room()

"""Prefetches that are entered in a register before they are sent; purges that wait for a look at it."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, cast

from engine.nodes.counting import Counting
from engine.nodes.postponed import Postponed
from engine.nodes.register import SENT_WITHIN_S, Entering
from engine.nodes.underway import Fetch
from engine.tasks.words import Operation
from tests.fakes.shares import items_of
from tests.unit.engine.test_underway import Clock, prefetch
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.nodes.queue import Item
    from engine.nodes.register import Acks
    from engine.tasks.task import Share

URL, OTHER = "http://a.com/1", "http://a.com/2"


class Register:
    """A register whose answers come when a test says so."""

    def __init__(self) -> None:
        self.entered: dict[int, Callable[[], None]] = {}
        self.lasts_s: list[float] = []
        self.ended: list[int] = []
        self.looks: list[Acks] = []

    def enter(
        self,
        url: str,
        nodes: Sequence[str],
        task_ids: Sequence[str],
        *,
        lasts_s: float,
        on_entered: Callable[[], None],
    ) -> int:
        self.lasts_s.append(lasts_s)
        number = len(self.lasts_s)
        self.entered[number] = on_entered
        return number

    def end(self, number: int) -> None:
        self.ended.append(number)

    def look(self, acks: Acks) -> None:
        self.looks.append(acks)


class Bench:
    """What is between the queue of a node's prefetches and the wire."""

    def __init__(self) -> None:
        self.register = Register()
        self.clock = Clock()
        self.ready = 0
        self.cancelled: list[Item] = []
        self.entering = Entering(
            self.register,
            ["edge-1"],
            self.clock.now,
            lasts_s=60,
            on_ready=self._told,
            without_cancelled=lambda items: [item for item in items if item not in self.cancelled],
        )

    def _told(self) -> None:
        self.ready += 1


def test_a_prefetch_is_taken_when_it_is_entered_and_not_before() -> None:
    bench = Bench()
    one, two = prefetch(URL)[0], prefetch(OTHER)[0]
    bench.entering.enter([one, two])
    assert (bench.entering.take(8), len(bench.entering)) == (([], []), 2)
    bench.register.entered[2]()
    assert bench.ready == 1
    assert bench.entering.take(8) == ([(two, 2)], [])
    assert (len(bench.entering), bench.register.ended) == (1, [])
    assert bench.register.lasts_s == [60 + SENT_WITHIN_S] * 2  # it may be sent so much later


def test_one_that_was_entered_too_long_ago_is_given_back_to_be_entered_again() -> None:
    bench = Bench()
    [item] = prefetch(URL)
    bench.entering.enter([item])
    bench.register.entered[1]()
    bench.clock.go(SENT_WITHIN_S + 1)
    assert bench.entering.take(1) == ([], [item])
    assert (bench.register.ended, len(bench.entering)) == ([1], 0)
    bench.entering.enter([item])
    bench.register.entered[2]()
    assert bench.entering.take(1) == ([(item, 2)], [])


async def test_a_page_that_was_entered_too_long_ago_is_entered_again() -> None:
    """Others may have read the first entry long before this engine was told that it is there."""
    bench = Bench()
    page = asyncio.create_task(bench.entering.page(URL))
    await until(lambda: 1 in bench.register.entered)
    bench.clock.go(SENT_WITHIN_S + 1)
    bench.register.entered[1]()
    await until(lambda: 2 in bench.register.entered, timeout_s=5)
    bench.register.entered[2]()
    assert await page == 2
    assert bench.register.ended == [1]


def test_one_that_was_cancelled_is_not_taken_and_has_ended() -> None:
    bench = Bench()
    [item] = bench.cancelled = prefetch(URL)
    bench.entering.enter([item])
    bench.register.entered[1]()
    assert bench.entering.take(1) == ([], [])
    assert (bench.register.ended, len(bench.entering)) == ([1], 0)


def test_a_node_that_goes_away_gets_back_what_was_not_sent() -> None:
    bench = Bench()
    one, two = prefetch(URL)[0], prefetch(OTHER)[0]
    bench.entering.enter([one, two])
    bench.register.entered[1]()
    assert bench.entering.take_all() == [one, two]
    bench.register.entered[2]()  # it comes too late
    assert bench.entering.take(8) == ([], [])
    assert sorted(bench.register.ended) == [1, 2]


class Outcomes:
    """Notes what counts, and what is sent again."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.counted: list[Item] = []
        self.absent: list[Item] = []
        self.sent_again: list[Item] = []
        self.late: list[tuple[Share, int]] = []
        self.register = Register()
        told: Any = self
        self.counting = Counting(
            lambda: self.oldest_sent_at,
            self.clock,
            Postponed(self.clock.now, 3600),
            told,
            send_again=self.sent_again.extend,
            on_rows=lambda: None,
        )
        self.counting.beside._now = self.clock.now
        self.counting.register = self.register
        self.oldest_sent_at = float("inf")

    def count_later(self, subtasks: Sequence[tuple[Share, int]]) -> None:
        self.late += subtasks

    def acked(self, items: list[Item], *, is_absent: bool) -> None:
        self.counted += items
        self.absent += items if is_absent else []


def test_what_waits_for_its_look_for_long_is_told_once() -> None:
    """What is below is purged meanwhile."""
    told = Outcomes()
    purges = items_of(URL, OTHER)
    told.counting.acked(purges, 10.0)
    cast("Any", told.register.looks[0]).acked_at -= 1.5
    told.clock.go(1)
    told.clock.go(1)
    assert told.late == [(share, index) for share, index, _ in purges]
    assert told.counted == []
    told.register.looks[0].looked(purges, covered_since=9.0)
    told.clock.go(1)
    assert (told.counted, told.clock.due) == (purges, {})


def test_an_acked_purge_counts_after_a_look_and_a_prefetch_at_once() -> None:
    told = Outcomes()
    purges, fetched = items_of(URL, OTHER), items_of(URL, operation=Operation.PREFETCH)
    told.counting.acked(purges, 10.0)
    told.counting.acked(fetched, 11.0)
    assert (told.counted, len(told.counting)) == (fetched, 2)
    [look] = told.register.looks
    look.looked(purges[1:], covered_since=9.0)  # a part of the log may be away
    look.looked(purges[:1], covered_since=9.0)
    assert told.counted == [*fetched, *purges[::-1]]
    assert (len(told.counting), told.counting.acked_count) == (0, 3)
    assert not told.counting._oldest  # it would grow for ever


def test_what_a_node_had_nothing_of_is_so_after_the_look_too() -> None:
    told = Outcomes()
    purges = items_of(URL, OTHER)
    told.counting.acked(purges[:1], 10.0, is_absent=True)
    told.counting.acked(purges[1:], 10.0)
    for look in told.register.looks:
        look.looked(look.items, covered_since=9.0)
    assert (told.counted, told.absent, told.counting.absent_count) == (purges, purges[:1], 1)


def test_what_ended_while_a_purge_waited_for_its_look_counts_for_it() -> None:
    told = Outcomes()
    underway = told.counting.underway
    fetch = Fetch("a.com/1", (underway,), 1000.0, ["another"])
    underway.begin(fetch)
    purges = items_of(URL)
    told.counting.acked(purges, 1000.5)
    fetch.end(1001.0)
    underway.forget_ended(2000.0)
    [look] = told.register.looks
    look.looked(purges, covered_since=0.0)
    assert (told.counted, len(told.counting)) == ([], 1)
    underway.forget_ended(2000.0)
    assert not underway.fetches


def test_a_purge_that_no_look_covers_is_sent_again() -> None:
    told = Outcomes()
    purges = items_of(URL)
    told.counting.acked(purges, 10.0)
    [look] = told.register.looks
    look.looked(purges, covered_since=11.0)
    told.clock.go(1)
    assert (told.counted, told.sent_again) == ([], purges)


def test_what_ends_while_a_part_of_the_log_is_away_for_long_is_not_kept() -> None:
    """The purge that waits for that part is sent again instead."""
    told = Outcomes()
    underway = told.counting.underway
    purges = items_of(URL)
    told.counting.acked(purges, 1000.5)
    [look] = told.register.looks
    cast("Any", look).acked_at -= 61
    fetch = Fetch("a.com/2", (underway,), 1001.0, ["another"])
    underway.begin(fetch)
    fetch.end(1002.0)
    underway.forget_ended(2000.0)
    assert not underway.fetches
    look.looked(purges, covered_since=0.0)
    told.clock.go(1)
    assert (told.counted, told.sent_again) == ([], purges)


def test_nothing_is_kept_of_purges_that_were_looked_at_and_the_oldest_that_waits_is_known() -> None:
    """Also where nobody prefetches, and while one waits for a part of the log that is away."""
    told = Outcomes()
    told.counting.acked(items_of(URL), 10.0)
    for _ in range(1000):
        told.counting.acked(items_of(OTHER), 11.0)
    waiting, *looks = told.register.looks
    kind = type(waiting)
    told.register.looks = [waiting]
    for look in looks:
        look.looked(look.items, covered_since=0.0)
    del look, looks
    assert sum(type(one) is kind for one in gc.get_objects()) < 100
    fetch = Fetch("a.com/2", (told.counting.underway,), 1000.0)
    told.counting.underway.begin(fetch)
    fetch.end(1001.0)
    assert told.counting.underway.fetches  # it ended after the purge that waits was sent
    waiting.looked(waiting.items, covered_since=0.0)
    told.counting.underway.forget_ended(2000.0)
    assert not told.counting.underway.fetches


def test_what_is_looked_at_after_the_end_is_left_to_the_journal() -> None:
    told = Outcomes()
    purges = items_of(URL)
    told.counting.acked(purges, 10.0)
    told.counting.close()
    [look] = told.register.looks
    look.looked(purges, covered_since=0.0)
    assert told.counted == []

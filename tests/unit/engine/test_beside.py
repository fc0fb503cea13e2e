"""Purges beside own prefetches: which count, which wait, and when they are sent again."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from engine.nodes.beside import SETTLE_S, Beside
from engine.nodes.postponed import Postponed
from engine.tasks.task import Share, Task
from engine.tasks.words import SENT, Operation
from tests.fakes.shares import NotingNode, items_of
from tests.unit.engine.test_underway import Clock, Place, prefetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.nodes.queue import Item

PURGE = Operation.PURGE_URL
URL, OTHER = "http://a.com/1", "http://a.com/2"


class Bench:
    """The purges of one node beside its prefetches."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.place = Place(self.clock)
        self.sent_again: list[Item] = []
        self.postponed = Postponed(self.clock.now, 3600)
        self.rows_told = 0
        self.beside = Beside(
            self.place.underway,
            self.clock,
            self.postponed,
            now=self.clock.now,
            send_again=self.sent_again.extend,
            on_rows=self._told,
        )

    def _told(self) -> None:
        self.rows_told += 1

    def fetch(self, url: str = URL) -> list[Item]:
        """Begin a prefetch."""
        items = prefetch(url)
        self.place.fetches.begin(items)
        return items

    def end(self, items: list[Item]) -> None:
        """Have a prefetch answered."""
        self.place.fetches.answered(items)

    def acked(self, items: list[Item], after_s: float = 0.5) -> list[Item]:
        """Have purges acked that are sent now; return those that count."""
        since = self.clock.s
        self.clock.go(after_s)
        for share, index, _ in items:
            share.states[index] = SENT
        return self.beside.counted(items, since)


def test_a_purge_beside_a_prefetch_is_sent_again_after_its_end_and_counts_then() -> None:
    bench = Bench()
    fetch = bench.fetch()
    purges = items_of(URL, OTHER)
    assert bench.acked(purges) == purges[1:]
    bench.clock.go(10)
    assert not bench.sent_again
    bench.end(fetch)
    assert not bench.sent_again
    bench.clock.go(SETTLE_S)
    assert bench.sent_again == purges[:1]
    assert bench.acked(purges[:1]) == purges[:1]
    assert len(bench.beside) == 0


def test_a_prefetch_that_ends_while_the_purge_is_on_the_wire_counts() -> None:
    bench = Bench()
    fetch = bench.fetch()
    sent_at = bench.place.oldest_sent_at = bench.clock.s
    bench.clock.go(0.1)
    bench.end(fetch)
    bench.clock.go(0.1)
    purges = items_of(URL)
    assert bench.beside.counted(purges, sent_at) == []
    bench.clock.go(SETTLE_S)
    assert bench.sent_again == purges


def test_a_purge_that_is_sent_again_does_not_wait_for_what_began_after_its_first_ack() -> None:
    """Otherwise a URL that is prefetched all the time would never be purged."""
    bench = Bench()
    first = bench.fetch()
    purges = items_of(URL)
    assert bench.acked(purges) == []
    bench.clock.go(1)
    bench.fetch()
    bench.end(first)
    bench.clock.go(SETTLE_S)
    assert bench.sent_again == purges
    assert bench.acked(purges) == purges


def test_a_later_purge_of_the_same_waits_for_what_is_under_way_then() -> None:
    """One request settles both: the first one's purge counts, the second one's waits on."""
    bench = Bench()
    first = bench.fetch()
    (one,) = items_of(URL)
    assert bench.acked([one]) == []
    bench.clock.go(1)
    second = bench.fetch()
    bench.end(first)
    bench.clock.go(SETTLE_S)
    ((other, place, _),) = items_of(URL)
    assert bench.acked([(other, place, [one[:2]])]) == [one]
    bench.sent_again.clear()
    bench.end(second)
    bench.clock.go(SETTLE_S)
    assert bench.sent_again == [(other, place, None)]


def test_two_prefetches_of_the_same_are_both_waited_for() -> None:
    bench = Bench()
    first, second = bench.fetch(), bench.fetch()
    bench.acked(items_of(URL))
    bench.end(first)
    bench.clock.go(1)
    assert not bench.sent_again
    bench.end(second)
    bench.clock.go(1)
    assert len(bench.sent_again) == 1


def test_a_purge_that_is_sent_right_after_the_end_of_a_prefetch_is_sent_again() -> None:
    """The cache may put the object in its place a moment after its client has it."""
    bench = Bench()
    bench.end(bench.fetch())
    bench.clock.go(0.002)
    purges = items_of(URL)
    assert bench.acked(purges, 0.001) == []
    bench.clock.go(SETTLE_S)
    assert bench.sent_again == purges
    assert bench.acked(purges, 0.001) == purges


def test_each_purge_is_sent_again_a_moment_after_its_own_prefetch() -> None:
    bench = Bench()
    first, second = bench.fetch(), bench.fetch(OTHER)
    one, other = items_of(URL, OTHER)
    bench.acked([one, other])
    bench.end(first)
    bench.clock.go(SETTLE_S - 0.01)
    bench.end(second)
    bench.clock.go(0.01)
    assert bench.sent_again == [one]
    bench.clock.go(SETTLE_S - 0.01)
    assert bench.sent_again == [one, other]


def test_what_waits_is_given_back_when_the_node_goes_down() -> None:
    bench = Bench()
    fetch = bench.fetch()
    purges = items_of(URL)
    bench.acked(purges)
    assert bench.beside.take_all() == purges
    bench.end(fetch)
    bench.clock.go(1)
    assert not bench.sent_again


class Rows:
    """Owner of what was sent for rows of the delay queue."""

    def __init__(self) -> None:
        self.left: list[int] = []
        self.first_at = -inf

    def acked_beside(self, share: Share, index: int, began_at: float, now: float, /) -> float:
        if self.first_at == -inf:
            self.first_at = now
        return self.first_at if began_at <= self.first_at else -inf

    def acked(self, share: Share, indexes: Sequence[int], /, *, is_absent: bool = False) -> None:
        raise AssertionError

    def failed(self, share: Share, indexes: Sequence[int], reason: str, /) -> None:
        raise AssertionError

    def parked(self, share: Share, indexes: Sequence[int], /) -> None:
        raise AssertionError

    def postponed(self, share: Share, indexes: Sequence[int], /) -> None:
        self.left += indexes


def test_rows_of_the_delay_queue_stay_until_the_prefetch_has_ended() -> None:
    bench = Bench()
    owner = Rows()
    share = Share(Task.internal([URL], owner=owner, task_id="delayed"), NotingNode(), PURGE, 1)
    fetch = bench.fetch()
    assert bench.acked([(share, 0, None)]) == []
    assert owner.left == [0]
    assert bench.postponed.is_waiting(PURGE, URL)
    assert len(bench.postponed) == 1
    bench.end(fetch)
    bench.clock.go(1)
    assert bench.rows_told == 1
    assert not bench.postponed.is_waiting(PURGE, URL)
    assert len(bench.postponed) == 0


def test_what_its_owner_sends_again_does_not_wait_for_what_began_after_its_first_ack() -> None:
    bench = Bench()
    share = Share(Task.internal([URL], owner=Rows(), task_id="delayed"), NotingNode(), PURGE, 1)
    first = bench.fetch()
    assert bench.acked([(share, 0, None)]) == []
    bench.clock.go(1)
    bench.fetch()
    assert bench.acked([(share, 0, None)]) == [], "the first one is still under way"
    bench.end(first)
    bench.clock.go(SETTLE_S)
    assert bench.acked([(share, 0, None)]) == [(share, 0, None)]


def test_a_purge_without_an_answer_is_kept_only_beside_a_prefetch_of_the_same() -> None:
    bench = Bench()
    (purge,) = items_of(URL)
    assert not bench.beside.keeps_unanswered(purge)
    fetch = bench.fetch()
    (other,) = items_of(OTHER)
    assert not bench.beside.keeps_unanswered(other)
    assert bench.beside.keeps_unanswered(purge)
    bench.fetch()  # whether the purge was done before this one began is not known
    bench.end(fetch)
    bench.clock.go(SETTLE_S)
    assert bench.sent_again == [purge]
    assert bench.acked([purge]) == []

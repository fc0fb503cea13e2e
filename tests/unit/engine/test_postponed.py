"""Requests that go wrong again and again: when each may be sent again, and which are poison."""

from __future__ import annotations

import itertools

import pytest

from engine.nodes.holds import PAUSE_FIRST_S, PAUSE_MAX_S, Holds
from engine.nodes.postponed import Postponed
from engine.tasks.records import ParkedRow
from engine.tasks.words import Operation
from tests.fakes.shares import items_of

PURGE = Operation.PURGE_URL
URL, OTHER, ELSEWHERE = "http://a.com/1", "http://a.com/2", "http://b.com/1"


class Bench:
    """A node's postponed requests, and a clock that stands still until it is moved."""

    def __init__(self, poison_after_s: float = 3600) -> None:
        self.s = 1000.0
        self.holds = Holds(lambda: self.s)
        self.postponed = Postponed(lambda: self.s, poison_after_s, self.holds)

    def goes_wrong(self, target: str = URL) -> float | None:
        """Have a request go wrong, and let its pause pass."""
        pause_s = self.postponed.postpone(PURGE, target)
        self.s += pause_s or 0
        return pause_s


def test_a_purge_of_a_host_pattern_waits_where_the_cache_is_one_that_does_not_know_it() -> None:
    postponed = Bench().postponed
    host, key, regex = (
        ParkedRow("k", 1.0, "n", int(operation), target, "t", "", 1.0)
        for operation, target in (
            (Operation.PURGE_HOST, "*.a.com"),
            (Operation.PURGE_HOST, "a.com"),
            (Operation.PURGE_URL, URL),
        )
    )
    assert postponed.sendable([host, key, regex]) == [host, key, regex]
    postponed.misses_patterns = True
    assert postponed.sendable([host, key, regex]) == [key, regex]
    assert postponed.is_waiting(Operation.PURGE_HOST, "*.a.com")


def test_pauses_grow_to_their_limit() -> None:
    bench = Bench()
    pauses = [bench.goes_wrong() or 0 for _ in range(12)]
    assert PAUSE_FIRST_S / 2 <= pauses[0] <= PAUSE_FIRST_S
    assert all(PAUSE_MAX_S / 2 <= pause_s <= PAUSE_MAX_S for pause_s in pauses[8:])
    assert all(2 * before >= after / 2 for before, after in itertools.pairwise(pauses))


def test_a_request_waits_until_its_pause_is_over_and_others_do_not() -> None:
    bench = Bench()
    pause_s = bench.postponed.postpone(PURGE, URL)
    assert pause_s is not None
    assert bench.postponed.is_waiting(PURGE, URL)
    assert not bench.postponed.is_waiting(PURGE, OTHER)
    assert not bench.postponed.is_waiting(Operation.SOFT_URL, URL)
    asked_at = bench.s
    assert bench.postponed.next_s(asked_at) == pytest.approx(pause_s)
    bench.s += pause_s
    assert not bench.postponed.is_waiting(PURGE, URL)
    assert bench.postponed.next_s(asked_at) == pytest.approx(0)
    assert bench.postponed.next_s(bench.s) is None


def test_a_request_that_goes_wrong_beside_acked_ones_is_poison_in_the_end() -> None:
    bench = Bench(poison_after_s=3600)
    began_at = bench.s
    bench.goes_wrong()
    bench.postponed.note_acked(items_of(OTHER))
    while bench.s - began_at < 3600:
        assert bench.goes_wrong() is not None
    assert bench.goes_wrong() is None
    assert not bench.postponed
    assert bench.goes_wrong() is not None


def test_without_an_ack_of_its_host_and_operation_nothing_is_poison() -> None:
    bench = Bench(poison_after_s=100)
    bench.goes_wrong()
    bench.postponed.note_acked([*items_of(ELSEWHERE), *items_of(OTHER, operation=Operation.SOFT_URL)])
    assert None not in [bench.goes_wrong() for _ in range(30)]


def test_an_ack_from_before_it_went_wrong_does_not_make_poison() -> None:
    bench = Bench(poison_after_s=100)
    bench.goes_wrong(OTHER)
    bench.postponed.note_acked(items_of("http://a.com/3"))
    bench.s += 1
    assert None not in [bench.goes_wrong() for _ in range(30)]


def test_the_time_before_a_node_was_away_does_not_count() -> None:
    bench = Bench(poison_after_s=3600)
    bench.goes_wrong()
    bench.s += 500
    bench.goes_wrong()
    bench.s += 4000
    bench.postponed.begin_anew()
    bench.postponed.note_acked(items_of(OTHER))
    began_at = bench.s
    while bench.s - began_at < 3600:
        assert bench.goes_wrong() is not None
    assert bench.goes_wrong() is None


def test_acks_are_looked_at_only_while_they_can_matter() -> None:
    bench = Bench()
    assert not bench.postponed.watched
    bench.goes_wrong()
    assert bench.postponed.watched
    bench.postponed.note_acked(items_of(OTHER))
    assert not bench.postponed.watched
    bench.goes_wrong(ELSEWHERE)
    assert bench.postponed.watched
    bench.postponed.settled(PURGE, URL)
    bench.postponed.settled(PURGE, ELSEWHERE)
    assert not bench.postponed.watched


def row(target: str, operation: Operation = PURGE) -> ParkedRow:
    return ParkedRow(target, 0.0, "edge-1", int(operation), target, "t", "", 0.0)


def test_of_what_is_held_one_row_may_be_sent_when_its_trial_is_due_and_others_go_on() -> None:
    bench = Bench()
    bench.holds.hold([(PURGE, URL)], "sick: 503")
    rows = [row(URL), row(OTHER), row(ELSEWHERE), row(URL, Operation.SOFT_URL)]
    assert bench.postponed.sendable(rows) == rows[2:]
    pause_s = bench.postponed.next_s()
    assert pause_s is not None
    bench.s += pause_s
    assert bench.postponed.sendable(rows) == [rows[0], *rows[2:]]
    assert not bench.postponed.supersedes(PURGE, URL)
    bench.holds.clear(items_of(OTHER))
    assert bench.postponed.sendable(rows) == rows
    assert bench.postponed.supersedes(PURGE, URL)


def test_a_refused_request_waits_and_is_never_poison() -> None:
    bench = Bench(poison_after_s=100)
    for _ in range(30):
        bench.s += bench.postponed.refused(PURGE, URL)
        bench.postponed.note_acked(items_of(OTHER))
    pause_s = bench.postponed.postpone(PURGE, URL)
    assert pause_s is not None
    assert pause_s >= PAUSE_MAX_S / 2
    assert bench.postponed.is_waiting(PURGE, URL)


def test_a_request_that_nobody_asked_for_again_is_a_new_one_later() -> None:
    bench = Bench(poison_after_s=100)
    bench.goes_wrong()
    bench.postponed.note_acked(items_of(OTHER))
    bench.s += 3600
    pause_s = bench.goes_wrong()
    assert pause_s is not None
    assert pause_s <= PAUSE_FIRST_S


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.nodes.postponed._REQUESTS_MAX", 32)
    bench = Bench()
    for number in range(100):
        bench.postponed.postpone(PURGE, f"http://a.com/{number}")
        assert len(bench.postponed) <= 32
    assert bench.postponed.is_waiting(PURGE, "http://a.com/99")

"""Own prefetches under way: where each counts, and which purges cover it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

import pytest

from engine.config.tables import NodeConfig
from engine.nodes.underway import Fetches, Underway, link
from engine.tasks.words import Operation
from tests.fakes.shares import items_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from engine.nodes.queue import Item

URL = "http://a.com/dir/1"


@dataclass
class Clock:
    """A timer, and a clock that stands still until it is moved."""

    s: float = 1000.0
    due: dict[Hashable, tuple[float, Callable[[], None]]] = field(default_factory=dict)

    def now(self) -> float:
        return self.s

    def add(self, key: Hashable, delay_s: float, callback: Callable[[], None]) -> None:
        self.due[key] = (self.s + delay_s, callback)

    def cancel(self, key: Hashable) -> bool:
        return self.due.pop(key, None) is not None

    def go(self, seconds: float) -> None:
        """Let time pass, and have what is due called."""
        self.s += seconds
        for key, (at, callback) in sorted(self.due.items(), key=lambda entry: entry[1][0]):
            if at <= self.s and key in self.due:
                del self.due[key]
                callback()


class Place:
    """A node that prefetches pass through."""

    def __init__(self, clock: Clock, *parents: str, name: str = "it") -> None:
        self.config = NodeConfig(name=name, driver="ats", url="http://127.0.0.1:1", parents=list(parents))
        self.oldest_sent_at = inf
        self.underway = Underway(lambda: self.oldest_sent_at)
        self.fetches = Fetches(name, clock, clock.now, max_s=60)
        self.fetches.places = (self.underway,)

    def covered_by(self, operation: Operation, target: str, since: float = 0.0) -> bool:
        return bool(self.underway.beside(operation, target, since))


def prefetch(*targets: str, task_id: str = "fetch") -> list[Item]:
    """Return prefetches of these, of one task."""
    items = items_of(*targets, operation=Operation.PREFETCH)
    items[0][0].task.id = task_id
    return items


@pytest.mark.parametrize(
    ("operation", "target", "covers"),
    [
        (Operation.PURGE_URL, URL, True),
        (Operation.PURGE_URL, "https://a.com/dir/1", True),
        (Operation.SOFT_URL, URL, True),
        (Operation.PURGE_URL, "http://a.com/dir/10", False),
        (Operation.PURGE_PREFIX, "http://a.com/dir/", True),
        (Operation.SOFT_PREFIX, "https://a.com/", True),
        (Operation.PURGE_PREFIX, "http://a.com/other/", False),
        (Operation.PURGE_HOST, "a.com", True),
        (Operation.PURGE_HOST, "b.com", False),
        (Operation.PURGE_HOST, "*.com", True),
        (Operation.PURGE_HOST, "*.a.com", False),
        (Operation.PURGE_REGEX, "http://*.com/x.*", True),
        (Operation.PURGE_KEY, "*.com/news", True),
        (Operation.PURGE_REGEX, "http://a.com/x.*", True),
        (Operation.PURGE_REGEX, "http://b.com/.*", False),
        (Operation.PURGE_KEY, "a.com/news", True),
        (Operation.SOFT_KEY, "b.com/news", False),
    ],
)
def test_a_purge_covers_a_prefetch_by_what_it_names(
    operation: Operation, target: str, *, covers: bool
) -> None:
    place = Place(Clock())
    place.fetches.begin(prefetch(URL))
    assert place.covered_by(operation, target) is covers


def test_a_host_pattern_covers_every_port() -> None:
    place = Place(Clock())
    place.fetches.begin(prefetch("http://a.com:8080/"))
    assert place.covered_by(Operation.PURGE_HOST, "*.com")
    assert not place.covered_by(Operation.PURGE_HOST, "a.com")


def test_nothing_is_kept_of_prefetches_that_have_ended() -> None:
    place = Place(Clock())
    items = prefetch(URL, "http://a.com/2")
    place.fetches.begin(items)
    assert len(place.underway.fetches) == 2
    place.fetches.answered(items)
    place.underway.forget_ended()
    assert not place.underway.fetches


def test_what_ended_is_kept_for_a_moment_and_no_longer() -> None:
    clock = Clock()
    place = Place(clock)
    for _ in range(3):
        items = prefetch(URL)
        place.fetches.begin(items)
        place.fetches.answered(items)
        clock.go(0.03)
    assert len(place.underway.fetches["a.com/dir/1"]) == 2


def test_one_that_ended_counts_for_purges_that_were_sent_before_its_end() -> None:
    clock = Clock()
    place = Place(clock)
    items = prefetch(URL)
    place.fetches.begin(items)
    clock.go(1)
    place.oldest_sent_at = clock.s
    clock.go(1)
    place.fetches.answered(items)
    assert place.covered_by(Operation.PURGE_URL, URL, since=place.oldest_sent_at)
    assert place.covered_by(Operation.PURGE_URL, URL, since=clock.s + 0.03)
    assert not place.covered_by(Operation.PURGE_URL, URL, since=clock.s + 1)
    place.oldest_sent_at = clock.s + 1
    place.underway.forget_ended()
    assert not place.underway.fetches


def test_one_without_an_answer_is_under_way_also_when_it_has_been_done_again() -> None:
    """A cache may fetch an object twice at a time, and the older fetch may end last."""
    clock = Clock()
    place = Place(clock)
    first, again = prefetch(URL), prefetch(URL)
    place.fetches.begin(first)
    clock.go(1)
    place.fetches.lost(first)
    place.fetches.begin(again)
    place.fetches.answered(again)
    clock.go(58)
    assert place.covered_by(Operation.PURGE_URL, URL)
    clock.go(2)
    place.underway.forget_ended()
    assert not place.underway.fetches


def test_one_without_an_answer_is_given_up_at_last() -> None:
    clock = Clock()
    place = Place(clock)
    items = prefetch(URL)
    place.fetches.begin(items)
    place.fetches.lost(items)
    clock.go(59)
    assert place.covered_by(Operation.PURGE_URL, URL)
    clock.go(2)
    place.underway.forget_ended()
    assert not place.underway.fetches


def test_a_prefetch_is_under_way_at_all_of_its_ancestors_and_nowhere_else() -> None:
    clock = Clock()
    nodes = {
        "top": Place(clock),
        "middle": Place(clock, "top"),
        "edge": Place(clock, "middle"),
        "other": Place(clock, "top"),
    }
    link(nodes)
    nodes["edge"].fetches.begin(prefetch(URL))
    assert {name for name, node in nodes.items() if node.underway.fetches} == {"edge", "middle", "top"}


async def test_a_page_that_is_fetched_to_prove_a_node_is_under_way_as_well() -> None:
    clock = Clock()
    place = Place(clock)
    over = await place.fetches.visit(URL)
    assert place.covered_by(Operation.PURGE_URL, URL)
    over(False)
    assert place.covered_by(Operation.PURGE_URL, URL)
    clock.go(61)
    (await place.fetches.visit(URL))(True)
    place.underway.forget_ended()
    assert not place.underway.fetches

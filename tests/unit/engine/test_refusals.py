"""Hosts that a cache refuses: on trial first, held then, tried now and again, and forgotten by one ack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.nodes.refusals import REFUSAL_HOLD_S, REFUSALS_BEFORE_HOLD, Refusals, host_of
from engine.tasks.words import Operation
from tests.fakes.shares import items_of

if TYPE_CHECKING:
    from engine.nodes.queue import Item


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def items(count: int, host: str = "a.com", operation: Operation = Operation.PURGE_URL) -> list[Item]:
    return items_of(*(f"http://{host}/{number}" for number in range(count)), operation=operation)


def refused(times: int, clock: Clock | None = None, host: str = "a.com") -> Refusals:
    refusals = Refusals(clock or Clock())
    for _ in range(times):
        refusals.note(items(1, host)[0], "answered 403")
    return refusals


def test_a_host_on_trial_has_one_request_a_connection_and_others_go_on() -> None:
    refusals = refused(1)
    waiting, others = items(5), items(5, "b.com")
    sifted = refusals.sift([*waiting, *others], items(1), 3)
    assert sifted.to_send == [*waiting[:2], *others]
    assert sifted.later == waiting[2:]
    assert sifted.held == []


def test_a_refusal_of_a_while_ago_slows_nobody_down() -> None:
    clock = Clock()
    refusals = refused(1, clock)
    clock.s += REFUSAL_HOLD_S
    waiting = items(5)
    assert refusals.sift(waiting, [], 1).to_send == waiting


def test_a_host_refused_again_and_again_is_held_with_the_reason() -> None:
    refusals = refused(REFUSALS_BEFORE_HOLD)
    assert refusals.is_holding
    waiting = items(3)
    sifted = refusals.sift(waiting, [], 4)
    assert [item for item, _ in sifted.held] == waiting
    assert {reason for _, reason in sifted.held} == {
        f"answered 403; not sent, because it has refused {REFUSALS_BEFORE_HOLD} in a row"
    }


def test_a_held_host_is_tried_once_every_hold() -> None:
    clock = Clock()
    refusals = refused(REFUSALS_BEFORE_HOLD, clock)
    clock.s += REFUSAL_HOLD_S
    waiting = items(3)
    sifted = refusals.sift(waiting, [], 4)
    assert sifted.to_send == waiting[:1]
    assert [item for item, _ in sifted.held] == waiting[1:]
    assert not refusals.sift(waiting, [], 4).to_send


def test_one_acked_purge_clears_its_host_and_the_last_one_is_told() -> None:
    refusals = refused(REFUSALS_BEFORE_HOLD)
    refusals.note(items(1, "b.com")[0], "answered 403")
    assert not refusals.clear(items(1, "c.com"))
    assert not refusals.clear(items(1, "b.com"))
    assert refusals.is_holding
    assert refusals.clear(items(1))
    assert not refusals.hosts
    assert not refusals.clear(items(1))


def test_an_acked_prefetch_clears_nothing() -> None:
    refusals = refused(1)
    assert not refusals.clear(items(1, operation=Operation.PREFETCH))
    assert len(refusals.hosts) == 1


def test_refused_hosts_are_bounded() -> None:
    refusals = Refusals(Clock())
    for number in range(3000):
        refusals.note(items(1, f"{number}.com")[0], "answered 403")
    assert len(refusals.hosts) <= 1024


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://a.com/x", "a.com"), ("https://a.com:8443/", "a.com:8443"), ("a.com", "a.com"),
        ("a.com/key", "a.com"), ("a.com/key://x/y", "a.com"), ("http://[::1]/", "[::1]"),
    ],
)  # fmt: skip
def test_the_host_of_a_target_of_any_kind(target: str, host: str) -> None:
    assert host_of(target) == host

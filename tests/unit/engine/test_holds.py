"""What a cache refuses, by operation and host: on trial first, then held, tried again, ended by one ack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.nodes.holds import (
    FORGOTTEN_AFTER_S,
    ON_TRIAL_S,
    PAUSE_FIRST_S,
    PAUSE_MAX_S,
    REFUSALS_BEFORE_HOLD,
    Holds,
)
from engine.tasks.words import Operation, host_of
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


def refused(times: int, clock: Clock | None = None, host: str = "a.com") -> Holds:
    holds = Holds(clock or Clock())
    for _ in range(times):
        holds.refused(Operation.PURGE_URL, f"http://{host}/0", "answered 403")
    return holds


def sendable(holds: Holds, waiting: list[Item]) -> list[Item]:
    return holds.sift(waiting, [], 4).to_send


def test_an_operation_and_host_on_trial_has_one_request_a_connection_and_others_go_on() -> None:
    holds = refused(1)
    waiting, others = items(5), items(5, "b.com")
    bans = items(5, operation=Operation.PURGE_PREFIX)
    sifted = holds.sift([*waiting, *others, *bans], items(1), 3)
    assert sifted.to_send == [*waiting[:2], *others, *bans]
    assert sifted.later == waiting[2:]
    assert sifted.held == {}


def test_a_refusal_of_a_while_ago_slows_nobody_down() -> None:
    clock = Clock()
    holds = refused(1, clock)
    clock.s += ON_TRIAL_S
    waiting = items(5)
    assert holds.sift(waiting, [], 1).to_send == waiting


def test_what_is_refused_again_and_again_is_held_with_the_reason() -> None:
    holds = refused(REFUSALS_BEFORE_HOLD)
    assert holds.is_held(Operation.PURGE_URL, "http://a.com/9")
    waiting = items(3)
    reason = f"answered 403; not sent, because it has refused {REFUSALS_BEFORE_HOLD} in a row"
    assert holds.sift(waiting, [], 4) == ([], {reason: waiting}, [])


def test_refused_bans_of_a_host_hold_no_purge_of_it() -> None:
    """Nor bans of other hosts: the hold is for one operation and one host."""
    holds = Holds(Clock())
    for number in range(REFUSALS_BEFORE_HOLD):
        holds.refused(Operation.PURGE_PREFIX, f"http://a.com/{number}/", "answered 405")
    purges, others = items(3), items(3, "b.com", Operation.PURGE_PREFIX)
    assert sendable(holds, [*purges, *others]) == [*purges, *others]
    assert not holds.clear(purges)
    assert not sendable(holds, items(3, operation=Operation.PURGE_PREFIX))


def test_what_is_held_has_one_trial_after_each_pause_and_the_pauses_grow() -> None:
    clock = Clock()
    holds = refused(REFUSALS_BEFORE_HOLD, clock)
    waiting = items(3)
    pauses = []
    for _ in range(12):
        pauses.append(holds.wait_s(Operation.PURGE_URL, "http://a.com/0"))
        clock.s += pauses[-1]
        assert sendable(holds, waiting) == waiting[:1]
        assert not sendable(holds, waiting)
    assert pauses[0] <= PAUSE_FIRST_S
    assert all(PAUSE_MAX_S / 2 <= pause_s <= PAUSE_MAX_S for pause_s in pauses[8:])


def test_one_acked_request_ends_the_hold_of_its_operation_and_host() -> None:
    holds = refused(REFUSALS_BEFORE_HOLD)
    holds.refused(Operation.PURGE_URL, "http://b.com/", "answered 403")
    assert not holds.clear(items(1, "c.com"))
    assert not holds.clear(items(1, "b.com"))
    assert not holds.clear(items(1, operation=Operation.PREFETCH))
    assert holds.refused_since() is not None
    assert holds.clear(items(1))
    assert holds.refused_since() is None
    assert len(sendable(holds, items(3))) == 3


def test_what_a_node_was_sick_of_is_held_at_once_and_is_no_refusal() -> None:
    clock = Clock()
    holds = Holds(clock)
    holds.hold(
        [(Operation.PURGE_URL, "http://a.com/1"), (Operation.PURGE_URL, "http://a.com/2")], "sick: 503"
    )
    assert holds.refused_since() is None
    [reason] = holds.sift(items(2), [], 4).held
    assert reason == "sick: 503; not sent before one like it has been done"
    clock.s += PAUSE_FIRST_S
    assert len(sendable(holds, items(2))) == 1


def test_a_node_that_returns_is_tried_at_once_with_what_it_refused_and_not_with_what_made_it_sick() -> None:
    holds = refused(REFUSALS_BEFORE_HOLD)
    holds.hold([(Operation.PURGE_URL, "http://b.com/")], "sick: 503")
    holds.node_returns()
    assert holds.wait_s(Operation.PURGE_URL, "http://a.com/0") <= 0
    assert holds.wait_s(Operation.PURGE_URL, "http://b.com/") > 0


def test_what_is_held_is_shown_by_host_and_operation() -> None:
    holds = refused(REFUSALS_BEFORE_HOLD)
    holds.sift(items(3), [], 4)
    [shown] = holds.documents()
    assert (shown["host"], shown["operation"], shown["reason"]) == ("a.com", "purge_url", "answered 403")
    assert (shown["refused"], shown["subtasks"]) == (REFUSALS_BEFORE_HOLD, 3)


def test_what_nobody_asked_for_again_is_forgotten() -> None:
    clock = Clock()
    holds = refused(REFUSALS_BEFORE_HOLD, clock)
    clock.s += FORGOTTEN_AFTER_S + PAUSE_FIRST_S + 1
    assert holds.refused_since() is None
    assert holds.documents() == []


def test_what_is_known_is_bounded() -> None:
    holds = Holds(Clock())
    for number in range(3000):
        holds.refused(Operation.PURGE_URL, f"http://{number}.com/", "answered 403")
    assert len(holds.pairs) <= 1024


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://a.com/x", "a.com"), ("https://a.com:8443/", "a.com:8443"), ("a.com", "a.com"),
        ("a.com/key", "a.com"), ("a.com/key://x/y", "a.com"), ("http://[::1]/", "[::1]"),
    ],
)  # fmt: skip
def test_the_host_of_a_target_of_any_kind(target: str, host: str) -> None:
    assert host_of(target) == host

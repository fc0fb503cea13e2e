"""A node's state: what takes it down, what brings it back, and what may be sent meanwhile."""

from __future__ import annotations

import pytest

from engine.nodes.health import (
    ERROR_KEPT_S,
    FAILURES_UNTIL_DOWN,
    WRONG_UNTIL_SICK,
    Health,
    NodeState,
)
from engine.tasks.words import Operation


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def down(clock: Clock | None = None) -> Health:
    health = Health(clock or Clock())
    for _ in range(FAILURES_UNTIL_DOWN):
        health.failed("closed")
    return health


def test_only_several_failures_in_a_row_take_a_node_down() -> None:
    health = Health(Clock())
    assert [health.failed("closed") for _ in range(2)] == [False, False]
    health.answered()
    assert [health.failed("closed") for _ in range(3)] == [False, False, True]
    assert health.state is NodeState.DOWN
    assert health.is_down
    assert not health.takes_new


def test_what_went_wrong_is_shown_until_the_node_has_been_ready_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = 1000.0
    monkeypatch.setattr("engine.nodes.health.time.time", lambda: at)
    health = down()
    assert health.recent_error() == ("closed", 1000.0)
    at += 10 * ERROR_KEPT_S
    assert health.recent_error() == ("closed", 1000.0)
    health.answers_again()
    health.ready()
    assert health.recent_error() == ("", 0.0)
    health.note("answered 405")
    at += ERROR_KEPT_S
    assert health.recent_error() == ("answered 405", at - ERROR_KEPT_S)
    at += 1
    assert health.recent_error() == ("", 0.0)


def test_one_failure_short_of_going_down_is_told() -> None:
    health = Health(Clock())
    told = [health.survives_a_failure]
    for _ in range(2):
        health.failed("closed")
        told.append(health.survives_a_failure)
    assert told == [True, True, False]


def test_a_node_goes_down_once() -> None:
    health = down()
    assert not health.failed("again")
    assert health.last_error == "again"


def test_after_a_failure_the_next_connection_waits_longer_each_time() -> None:
    clock = Clock()
    health = Health(clock)
    assert health.connect_wait_s() <= 0
    health.failed("closed")
    first_s = health.connect_wait_s()
    assert 0.05 <= first_s <= 0.1
    health.failed("closed")
    assert 0.1 <= health.connect_wait_s() <= 0.2
    clock.s += 1
    assert health.connect_wait_s() <= 0


def test_a_returning_node_takes_new_subtasks_once_its_delivery_has_begun() -> None:
    health = down()
    health.answers_again()
    assert health.state is NodeState.RETURNING
    assert health.is_returning
    assert health.connect_wait_s() <= 0
    told = [health.takes_new]
    assert [health.begin_delivery(), health.begin_delivery()] == [True, False]
    told.append(health.takes_new)
    assert told == [False, True]


def test_a_node_that_catches_up_keeps_new_subtasks_back_until_it_is_ready() -> None:
    clock = Clock()
    health = down(clock)
    clock.s += 7
    health.answers_again()
    health.begin_delivery()
    health.catch_up()
    assert health.is_returning
    told = [health.takes_new]
    assert health.ready() == 7
    told.append(health.takes_new)
    assert told == [False, True]
    assert health.returns == 1


def test_the_time_away_counts_from_the_first_time_it_went_down() -> None:
    clock = Clock()
    health = down(clock)
    clock.s += 3
    health.answers_again()
    assert health.failed("closed again")
    clock.s += 4
    health.answers_again()
    assert health.ready() == 7


@pytest.mark.parametrize("catches_up", [False, True])
def test_any_failure_takes_a_node_down_that_is_not_ready(catches_up: bool) -> None:
    health = down()
    health.answers_again()
    if catches_up:
        health.catch_up()
    assert health.failed("closed")
    assert health.is_down


def test_a_doubted_node_was_not_away() -> None:
    health = Health(Clock())
    health.doubt()
    assert health.is_down
    health.answers_again()
    assert health.ready() == 0


def test_only_a_ready_node_is_doubted() -> None:
    health = down()
    health.answers_again()
    health.doubt()
    assert health.state is NodeState.RETURNING


def test_a_delivery_that_had_begun_has_not_begun_after_the_next_return() -> None:
    health = down()
    health.answers_again()
    health.begin_delivery()
    health.failed("closed")
    health.answers_again()
    assert not health.takes_new


def wrong(health: Health, count: int, *, targets: int = 1000) -> list[bool]:
    return [
        health.answered_wrongly(Operation.PURGE_URL, f"http://a.com/{number % targets}", "answered 503")
        for number in range(count)
    ]


def test_many_wrong_answers_in_a_row_make_a_node_sick_once() -> None:
    health = Health(Clock())
    assert wrong(health, WRONG_UNTIL_SICK + 5) == [False] * (WRONG_UNTIL_SICK - 1) + [True] + [False] * 5
    assert health.state is NodeState.SICK
    assert (health.is_down, health.takes_new) == (True, False)
    assert health.last_error == f"answered 503, {WRONG_UNTIL_SICK} times in a row"


def test_what_is_done_in_between_ends_the_row() -> None:
    health = Health(Clock())
    for _ in range(3):
        wrong(health, WRONG_UNTIL_SICK - 1)
        assert health.has_been_wrong
        health.works()
    assert health.state is NodeState.READY
    assert not health.has_been_wrong


def test_one_or_two_targets_do_not_make_a_node_sick() -> None:
    health = Health(Clock())
    assert True not in wrong(health, 100, targets=2)
    assert True in wrong(health, 1) + wrong(health, 3)


def test_a_node_that_takes_requests_and_does_not_answer_is_sick() -> None:
    health = Health(Clock())
    told = [health.failed("no answer", is_sick=True) for _ in range(FAILURES_UNTIL_DOWN)]
    assert told == [False, False, True]
    assert health.state is NodeState.SICK


def test_while_a_node_is_away_its_probes_tell_whether_it_can_be_reached() -> None:
    health = down()
    health.still_away("answered 503 to a probe", NodeState.SICK)
    assert (health.state, health.last_error) == (NodeState.SICK, "answered 503 to a probe")
    health.still_away("cannot be reached", NodeState.DOWN)
    assert health.state is NodeState.DOWN


def test_a_probe_that_is_answered_late_does_not_take_a_node_back_down() -> None:
    health = down()
    health.answers_again()
    health.still_away("late", NodeState.SICK)
    assert health.state is NodeState.RETURNING


def test_a_node_that_becomes_sick_again_without_having_done_anything_is_counted() -> None:
    health = Health(Clock())
    for times in (1, 2):
        wrong(health, WRONG_UNTIL_SICK)
        assert health.sick_times == times
        health.answers_again()
        assert wrong(health, WRONG_UNTIL_SICK - 1) == [False] * (WRONG_UNTIL_SICK - 1)
        health.answers_again()
    health.works()
    assert health.sick_times == 0


def test_the_time_away_counts_while_a_node_is_sick() -> None:
    clock = Clock()
    health = Health(clock)
    wrong(health, WRONG_UNTIL_SICK)
    clock.s += 5
    health.answers_again()
    assert health.ready() == 5


def test_an_unproven_node_is_sent_what_comes_and_keeps_its_rows() -> None:
    health = Health(Clock())
    assert not health.keeps_rows
    assert [health.unproven("a server behind answered"), health.unproven("again")] == [True, False]
    assert (health.state, health.last_error) == (NodeState.UNPROVEN, "again")
    assert (health.is_down, health.takes_new, health.keeps_rows) == (False, True, True)


@pytest.mark.parametrize("catches_up", [False, True])
def test_a_node_that_returns_may_become_unproven(catches_up: bool) -> None:
    health = down()
    health.answers_again()
    if catches_up:
        health.catch_up()
    assert health.unproven("a server behind answered")
    assert health.state is NodeState.UNPROVEN


def test_an_unproven_node_that_is_proven_delivers_its_rows_first() -> None:
    clock = Clock()
    health = Health(clock)
    health.unproven("a server behind answered")
    clock.s += 5
    health.answers_again()
    assert (health.state, health.takes_new, health.keeps_rows) == (NodeState.RETURNING, False, False)
    assert health.ready() == 5


def test_an_unproven_node_goes_down_after_several_failures() -> None:
    health = Health(Clock())
    health.unproven("a server behind answered")
    assert [health.failed("closed") for _ in range(3)] == [False, False, True]
    assert health.state is NodeState.DOWN
    assert not health.unproven("a late answer")
    assert health.state is NodeState.DOWN


def test_probes_tell_whether_a_node_is_down_or_unproven() -> None:
    health = down()
    health.still_away("a server behind answered", NodeState.UNPROVEN)
    assert (health.is_down, health.takes_new, health.keeps_rows) == (False, True, True)
    health.still_away("cannot be reached", NodeState.DOWN)
    assert health.is_down

"""What may be fetched through to an origin, and when."""

from __future__ import annotations

import pytest

from engine.config.tables import OriginConfig
from engine.nodes.origin_guard import PAUSE_FIRST_S, SLOW_S, OriginGuard, OriginGuards, rule_for


class Time:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def guard(time: Time, per_s: float = 0) -> OriginGuard:
    return OriginGuard(OriginConfig(host="*", url="http://127.0.0.1:1", prefetch_per_s=per_s), time)


def test_fetches_keep_to_the_rate() -> None:
    time = Time()
    limited = guard(time, 2)
    assert [limited.take() for _ in range(3)] == [True, True, False]
    assert limited.wait_s() == pytest.approx(0.5)
    time.at += 0.5
    assert [limited.take() for _ in range(2)] == [True, False]


def test_an_origin_in_trouble_is_left_alone_and_tried_by_one() -> None:
    time = Time()
    open_ = guard(time)
    open_.note(503, 0.1, "/a")
    assert not open_.take()
    assert open_.wait_s() == PAUSE_FIRST_S
    time.at += PAUSE_FIRST_S
    assert [open_.take() for _ in range(2)] == [True, False]
    open_.note(503, 0.1, "/b")
    assert open_.wait_s() == 2 * PAUSE_FIRST_S
    time.at += 2 * PAUSE_FIRST_S
    assert open_.take()
    open_.note(200, 0.1, "/b")
    assert [open_.take() for _ in range(9)] == [True] * 9
    assert open_.reason == ""


def test_many_failures_of_one_moment_are_one_pause() -> None:
    time = Time()
    open_ = guard(time)
    for number in range(9):
        open_.note(500, 0.1, f"/{number}")
    assert open_.wait_s() == PAUSE_FIRST_S


def test_a_slow_first_byte_is_trouble() -> None:
    time = Time()
    open_ = guard(time)
    open_.note(200, SLOW_S + 1, "/a")
    assert not open_.take()
    assert "first byte" in open_.reason


def test_a_target_that_fails_while_others_are_well_pauses_once() -> None:
    time = Time()
    open_ = guard(time)
    for _ in range(2):  # it alone is asked for: the pause does not grow
        open_.note(500, 0.1, "/broken")
        assert open_.wait_s() == PAUSE_FIRST_S
        time.at += PAUSE_FIRST_S
        assert open_.take()
    open_.note(200, 0.1, "/well")
    open_.note(500, 0.1, "/broken")
    assert open_.take()
    open_.note(500, 0.1, "/other")
    assert not open_.take()
    time.at += PAUSE_FIRST_S
    assert open_.take()
    told: list[str] = []
    open_.on_open.add(lambda: told.append("open"))
    open_.note(500, 0.1, "/broken")  # this trial says nothing
    assert (told, open_.reason) == (["open"], "answered 500")
    assert open_.take()
    open_.note(200, 0.1, "/broken")
    open_.note(500, 0.1, "/broken")
    assert not open_.take()


def test_a_trial_that_shows_nothing_lets_the_next_one_try() -> None:
    time = Time()
    open_ = guard(time)
    open_.note(500, 0.1, "/a")
    time.at += PAUSE_FIRST_S
    assert [open_.take(), open_.take()] == [True, False]
    told: list[str] = []
    open_.on_open.add(lambda: told.append("open"))
    open_.note_untold()
    assert told == ["open"]
    assert [open_.take(), open_.take()] == [True, False]


def test_a_trial_that_fails_tells_those_that_wait_for_its_end_how_long_they_wait_now() -> None:
    time = Time()
    open_ = guard(time)
    open_.note(500, 0.1, "/a")
    time.at += PAUSE_FIRST_S
    assert [open_.take(), open_.take()] == [True, False]
    told: list[float] = []
    open_.on_open.add(lambda: told.append(open_.wait_s()))
    open_.note(500, 0.1, "/a")
    assert told == [PAUSE_FIRST_S]


def test_the_most_exact_rule_counts() -> None:
    rules = ["*", "*.example.com", "img.example.com", "[::1]"]
    assert rule_for("img.example.com:8080", rules) == "img.example.com"
    assert rule_for("a.b.example.com", rules) == "*.example.com"
    assert rule_for("example.com", rules) == "*"
    assert rule_for("[::1]:80", rules) == "[::1]"
    assert rule_for("other.test", rules[1:]) is None


def test_a_host_without_an_origin_has_no_guard() -> None:
    guards = OriginGuards([OriginConfig(host="a.test", url="http://127.0.0.1:1")], Time())
    assert guards.of("b.test") is None
    assert guards.of("a.test") is guards.all[0]

"""What the answer to a POST means, and how long to wait after it."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import partial

import pytest

from engine.base.backoff import backoff_s
from engine.notify import post
from engine.notify.post import BACKOFF_MAX_S, Answer, retry_after_s


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("99999", 300, 300),
        ("", 0, 0),
        ("soon", 0, 0),
        ("-3", 0, 0),
        ("1e9", 0, 0),
        ("9" * 5000, 300, 300),
        (formatdate(1, usegmt=True), 0, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, low: float, high: float) -> None:
    """At most five minutes; nonsense is nothing."""
    assert low <= retry_after_s(value) <= high


def test_retry_after_takes_a_date_to_come() -> None:
    """A date is the seconds until then. Made here, because as a parameter it names the test."""
    assert 50 <= retry_after_s(formatdate(time.time() + 100, usegmt=True)) <= 101


@pytest.mark.parametrize(
    ("status", "is_delivered", "is_final"),
    [
        (200, True, True),
        (204, True, True),
        (0, False, False),
        (302, False, True),
        (308, False, True),
        (408, False, False),
        (429, False, False),
        (500, False, False),
        (404, False, True),
        (410, False, True),
    ],
)
def test_a_refusal_is_final_and_a_failure_is_not(status: int, is_delivered: bool, is_final: bool) -> None:
    answer = Answer(status)
    assert (answer.is_delivered, answer.is_final) == (is_delivered, is_final)


def test_pauses_grow_with_each_attempt_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = partial(backoff_s, draw=lambda: 1.0)
    monkeypatch.setattr(post, "backoff_s", longest)
    assert [Answer().pause_s(attempt) for attempt in (1, 2, 3)] == [2, 4, 8]
    assert Answer().pause_s(100) == BACKOFF_MAX_S


def test_a_receiver_that_asks_for_more_time_gets_it() -> None:
    assert Answer(503, retry_after_s=600).pause_s(1) == 600

"""Which engine is asked next, and when, told by a clock that is turned by hand."""

from __future__ import annotations

import pytest

from engine.client.address import address_of, addresses_of
from engine.client.attempts import Answer, Attempts, Patience
from engine.client.engines import Engines
from engine.client.errors import RefusedError, UnreachableError


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engines(clock: Clock) -> Engines:
    return Engines([address_of("http://a"), address_of("http://b")], now=clock)


def answer(status: int, **headers: str) -> Answer:
    return Answer("http://a", status, headers, b"{}")


def lost(*, sent: bool = False) -> UnreachableError:
    return UnreachableError("http://a", "Connection refused", sent=sent)


def attempts(engines: Engines, patience: Patience, told: list[str] | None = None) -> Attempts:
    return Attempts(engines, patience, notice=(told if told is not None else []).append, draw=lambda: 1.0)


def test_an_engine_that_failed_comes_last_until_its_pause_is_over(clock: Clock, engines: Engines) -> None:
    engines.failed(0)
    assert engines.order() == [1, 0]
    clock.at += 1.0
    assert engines.order() == [0, 1]
    for _ in range(99):
        engines.failed(0)
    engines.failed(1)
    assert engines.order() == [1, 0]  # the one whose pause ends first
    clock.at += 31
    assert engines.order() == [0, 1]
    engines.failed(0)
    engines.answered(0)
    assert engines.order() == [0, 1]


def test_all_are_tried_then_all_again_after_a_pause_with_jitter(engines: Engines) -> None:
    told: list[str] = []
    made = attempts(engines, Patience(30), told)
    seen = []
    for _ in range(4):
        turn = made.next()
        seen.append((turn.place, turn.pause_s))
        made.lost(turn.place, lost())
    assert [place for place, _ in seen[:2]] == [0, 1]
    assert [pause_s for _, pause_s in seen] == [0, 0, 0.2, 0]
    [line] = told
    assert line.startswith("engine http://a, http://b unreachable: http://a: Connection refused; http://a: ")
    assert line.endswith("Connection refused; attempt 2 in 0.2 s")


def test_the_time_ends_the_attempts_and_sent_is_remembered(clock: Clock, engines: Engines) -> None:
    made = attempts(engines, Patience(10))
    made.lost(made.next().place, lost(sent=True))
    clock.at += 10
    with pytest.raises(UnreachableError) as caught:
        made.next()
    assert caught.value.sent


def test_retry_after_is_waited_for_with_jitter_unless_it_is_too_long(engines: Engines) -> None:
    made = attempts(engines, Patience(60))
    for _ in range(2):
        assert not made.accept(made.next().place, answer(503, **{"retry-after": "4"}))
    assert made.next().pause_s == 5.0
    made = attempts(engines, Patience(60))
    for _ in range(2):
        made.accept(made.next().place, answer(429, **{"retry-after": "31"}))
    with pytest.raises(RefusedError, match="429"):
        made.next()


def test_an_engine_that_is_busy_after_one_that_may_have_the_task_is_no_plain_refusal(
    engines: Engines,
) -> None:
    made = attempts(engines, Patience(60, busy_rounds=1))
    made.lost(made.next().place, lost(sent=True))
    made.accept(made.next().place, answer(503))
    with pytest.raises(UnreachableError, match=r"refused; .*\(503\)") as caught:
        made.next()
    assert caught.value.sent


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 422, 500])
def test_what_no_repeat_changes_is_raised_at_once(engines: Engines, status: int) -> None:
    made = attempts(engines, Patience(60))
    with pytest.raises(RefusedError):
        made.accept(made.next().place, answer(status))


def test_addresses_come_from_a_list_from_text_and_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PURGELINE_URL", raising=False)
    assert [one.url for one in addresses_of(None)] == ["http://127.0.0.1:9181"]
    monkeypatch.setenv("PURGELINE_URL", "http://a/x,y , https://b:1,http://a/x,y")
    assert [(one.host, one.port, one.prefix) for one in addresses_of(())] == [
        ("a", None, "/x,y"),
        ("b", 1, ""),
    ]
    assert [one.host for one in addresses_of(["http://c", "http://d"])] == ["c", "d"]
    with pytest.raises(ValueError, match="with commas between"):
        addresses_of("http://a,b")  # a host with a comma

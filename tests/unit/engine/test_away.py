"""An engine that goes away in the middle of a wait; the clock is the test's."""

from __future__ import annotations

import pytest

from engine.cli.away import TOLD_EVERY_S, TOLD_FIRST_S, Away
from engine.client.errors import RefusedError, UnreachableError

GONE = UnreachableError("http://e", "connection refused", sent=False)
STARTING = RefusedError(503, "starting")


class Clock:
    """Monotonic seconds, as the test says."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_it_is_said_that_an_engine_is_away_how_long_and_that_it_is_back(clock: Clock) -> None:
    said: list[str] = []
    away = Away(said.append, 60.0, clock)
    away.answered()
    away.lost(GONE)
    assert not said, "a connection that broke once"
    clock.at += TOLD_FIRST_S
    away.lost(GONE)
    away.lost(STARTING)
    assert said == [
        "no answer for 1 s: engine http://e unreachable: connection refused; it is asked again for 59 s"
    ]
    clock.at += TOLD_EVERY_S
    away.lost(STARTING)
    assert said[1:] == ["no answer for 16 s: starting (503); it is asked again for 44 s"]
    away.answered()
    away.answered()
    assert said[2:] == ["the engine answers again, after 16 s"]


def test_an_engine_that_stays_away_ends_the_wait_with_the_reason_and_how_long_it_was_asked(
    clock: Clock,
) -> None:
    away = Away(lambda _text: None, 60.0, clock)
    away.answered()
    clock.at += 60
    with pytest.raises(UnreachableError, match="connection refused; it was asked again for 60 s"):
        away.lost(GONE)
    with pytest.raises(RefusedError, match=r"starting; it was asked again for 60 s \(503\)"):
        away.lost(STARTING)


@pytest.mark.parametrize("error", [GONE, STARTING])
def test_an_engine_that_never_answered_is_not_asked_again(error: Exception, clock: Clock) -> None:
    with pytest.raises(type(error)):
        Away(lambda _text: None, 60.0, clock).lost(error)  # type: ignore[arg-type]


def test_a_refusal_ends_the_wait(clock: Clock) -> None:
    away = Away(lambda _text: None, 60.0, clock)
    away.answered()
    with pytest.raises(RefusedError, match="no such task"):
        away.lost(RefusedError(404, "no such task"))

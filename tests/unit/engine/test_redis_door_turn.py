"""Whose turn it is, where several engines hear the same message."""

from __future__ import annotations

from engine.doors.redis.turn import Turn

KEEP_S = 10.0


class Engines:
    """Who leads, as a test has it."""

    def __init__(self) -> None:
        self.leading = "other"
        self.now = 0.0

    def leads(self) -> bool:
        return self.leading == "own"

    def leader(self) -> str:
        return self.leading

    def time(self) -> float:
        return self.now


def test_an_engine_alone_does_all_itself() -> None:
    turn = Turn(None, KEEP_S, lambda: 0.0)
    assert turn.is_ours()
    assert not turn.is_done(-100.0)


def test_a_message_is_kept_for_a_while_under_another_leader() -> None:
    engines = Engines()
    turn = Turn(engines, KEEP_S, engines.time)
    assert not turn.is_done(0.0)
    engines.now = 10.1
    assert turn.is_done(0.0)
    assert not turn.is_done(1.0)
    assert not turn.is_ours()


def test_a_new_leader_has_the_whole_time() -> None:
    """It may have to make up for what the one before had not done."""
    engines = Engines()
    turn = Turn(engines, KEEP_S, engines.time)
    assert not turn.is_done(0.0)
    engines.now, engines.leading = 9.0, "third"
    assert not turn.is_done(0.0)
    engines.now = 18.0
    assert not turn.is_done(0.0)
    engines.now = 19.1
    assert turn.is_done(0.0)


def test_while_nobody_is_known_to_lead_everything_is_kept() -> None:
    engines = Engines()
    turn = Turn(engines, KEEP_S, engines.time)
    assert not turn.is_done(0.0)
    engines.now, engines.leading = 100.0, ""
    assert not turn.is_done(0.0)
    engines.leading = "own"
    assert turn.is_ours()

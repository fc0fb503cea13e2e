"""Pauses before something is tried again."""

import pytest

from engine.base.backoff import backoff_s


@pytest.mark.parametrize(("attempt", "pause_s"), [(0, 0.2), (1, 0.4), (2, 0.8), (5, 5), (6, 5)])
def test_each_pause_is_twice_the_one_before_up_to_the_limit(attempt: int, pause_s: float) -> None:
    assert backoff_s(attempt, first_s=0.2, max_s=5, draw=lambda: 1.0) == pytest.approx(pause_s)


def test_jitter_leaves_half_of_the_pause_unless_told_otherwise() -> None:
    assert backoff_s(0, first_s=2, max_s=5, draw=lambda: 0.0) == 1
    assert backoff_s(0, first_s=2, max_s=5, least=0, draw=lambda: 0.0) == 0
    assert backoff_s(0, first_s=2, max_s=5, draw=lambda: 0.5) == pytest.approx(1.5)


def test_what_is_away_for_days_is_still_tried() -> None:
    assert backoff_s(100_000, first_s=0.2, max_s=5, draw=lambda: 1.0) == 5


def test_the_jitter_differs_from_pause_to_pause() -> None:
    pauses = {backoff_s(3, first_s=0.1, max_s=5) for _ in range(50)}
    assert len(pauses) > 1
    assert all(0.4 <= pause_s <= 0.8 for pause_s in pauses)

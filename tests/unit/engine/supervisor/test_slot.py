"""Who works in a slot, and the pause before the next start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from engine.supervisor.slot import Slot

if TYPE_CHECKING:
    import pytest


def worker(*, is_candidate: bool = False, is_leaving: bool = False) -> Any:
    return SimpleNamespace(is_candidate=is_candidate, is_leaving=is_leaving)


def test_the_first_death_is_followed_at_once() -> None:
    slot = Slot(0)
    assert slot.backoff_s(0.1) == 0
    assert slot.restarts == 1


def test_pauses_grow_while_workers_die_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _low, high: high)
    slot = Slot(0)
    assert [slot.backoff_s(1) for _ in range(9)] == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert slot.backoff_s(3600) == 0
    assert slot.restarts == 10


def test_pauses_differ_between_slots() -> None:
    slot = Slot(0, streak=3)
    assert 0.2 <= slot.backoff_s(1) <= 0.4


def test_who_serves_is_neither_a_candidate_nor_leaving() -> None:
    old, new = worker(is_leaving=True), worker(is_candidate=True)
    assert Slot(0, [old, new]).serving is None
    stays = worker()
    assert Slot(0, [old, stays, new]).serving is stays

"""A clock that passes as the monotonic one does, whatever the wall clock is set to."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

from engine.base.clock import SteadyClock

if TYPE_CHECKING:
    import pytest


def test_a_wall_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = SimpleNamespace(wall=1000.0, monotonic_s=5.0)
    module = SimpleNamespace(time=lambda: clocks.wall, monotonic=lambda: clocks.monotonic_s)
    monkeypatch.setattr("engine.base.clock.time", module)
    clock = SteadyClock()
    assert clock.now() == 1000.0
    clocks.wall, clocks.monotonic_s = 9000.0, 15.0
    assert clock.now() == 1010.0
    clock.go_on_at(2000.0)
    assert clock.now() == 1010.0, "it is never set forward"
    clock.go_on_at(900.0)
    assert clock.now() == 900.0


def test_a_clock_that_is_followed_and_set_forward_makes_nothing_old_at_once() -> None:
    clock = SteadyClock()
    start = time.monotonic()
    ahead_s = 1000.0 - start
    clock.follow(1000.0, start)
    assert abs(clock.now() - time.monotonic() - ahead_s) < 0.001
    clock.follow(90_000.0, start + 10)
    assert 0 <= clock.now() - time.monotonic() - ahead_s <= 0.2
    clock.follow(500.0, start + 20)
    assert abs(clock.now() - time.monotonic() - (480.0 - start)) < 0.001

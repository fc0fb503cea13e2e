"""A clock that passes as the monotonic one does, whatever the wall clock is set to."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

from engine.base.clock import SteadyClock
from engine.delivery.row_clock import RowClock

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


def test_rows_of_a_shared_store_bear_the_wall_clock_and_grow_no_older_by_a_jump(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steady, wall = SteadyClock(), time.time
    own, shared = (RowClock(steady, is_shared=is_shared) for is_shared in (False, True))
    assert abs(own.stamp() - wall()) < 60
    monkeypatch.setattr(time, "time", lambda: wall() + 86400)
    for clock, stamp in ((own, steady.now()), (shared, time.time())):
        assert abs(clock.stamp() - stamp) < 60
        assert abs(clock.now() - wall()) < 60
    monkeypatch.setattr(time, "time", lambda: wall() - 86400)
    assert abs(shared.now() - time.time()) < 60, "rows come by that clock from now on"

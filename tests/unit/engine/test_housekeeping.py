"""Old tasks go, and memory after a backlog."""

from __future__ import annotations

import gc
import time
from types import SimpleNamespace
from typing import Any

import pytest

from engine.process.housekeeping import Housekeeping, calm_gc
from engine.store.history import HistoryErrors
from engine.tasks.region import RegionMap


class Saver:
    def __init__(self) -> None:
        self.trims = 0
        self.forgotten: list[float] = []
        self.store: Any = SimpleNamespace(histories=[SimpleNamespace(errors=HistoryErrors())])

    def trim(self) -> None:
        self.trims += 1

    def forget(self, before_at: float) -> None:
        self.forgotten.append(before_at)


class House:
    """Housekeeping of an engine with two savers."""

    def __init__(self) -> None:
        self.backlog = 0
        self.ahead_s = 0.0  # of this host's clock, before the store's
        self.may_forget = True
        self.savers = [Saver(), Saver()]
        self.swept = self.row_sweeps = 0
        self.alerts: list[tuple[str, ...]] = []
        rows: Any = SimpleNamespace(start=self._sweep_rows, stop=lambda: None)
        pool: Any = SimpleNamespace(savers=self.savers)
        timer: Any = SimpleNamespace(sweep=self._sweep)
        self.keeping = Housekeeping(
            pool,
            RegionMap(1),
            [timer, timer],
            backlog=lambda: self.backlog,
            may_forget=lambda: self.may_forget,
            retention_s=100,
            now=lambda: time.time() - self.ahead_s,
            sweep=rows,
            on_alert=lambda *said: self.alerts.append(said),
        )

    def _sweep_rows(self) -> None:
        self.row_sweeps += 1

    def _sweep(self) -> None:
        self.swept += 1

    def trims_after(self, *backlogs: int) -> int:
        for self.backlog in backlogs:
            self.keeping.trim()
        assert self.swept == 2 * self.savers[1].trims
        return self.savers[0].trims


async def test_memory_is_handed_back_once_some_seconds_after_a_large_backlog() -> None:
    house = House()
    assert house.trims_after(200_000, 100, 100, 100) == 0
    assert house.trims_after(100) == 1
    assert house.trims_after(100, 100, 100, 100, 100) == 1


async def test_a_backlog_that_comes_back_meanwhile_is_waited_for() -> None:
    assert House().trims_after(200_000, 100, 100, 100, 150_000, 100, 100, 100) == 0


async def test_a_small_backlog_is_not_worth_it() -> None:
    assert House().trims_after(99_999, *[0] * 10) == 0


async def test_tasks_are_forgotten_when_they_are_older_than_they_are_kept() -> None:
    house = House()
    house.keeping.forget()
    for saver in house.savers:
        (before_at,) = saver.forgotten
        assert abs(time.time() - 100 - before_at) < 5


@pytest.mark.parametrize(("ahead_s", "older_s"), [(400 * 86400, 400 * 86400), (-400 * 86400, 0)])
async def test_a_clock_that_is_wrong_has_no_task_forgotten_early(ahead_s: float, older_s: float) -> None:
    house = House()
    house.ahead_s = ahead_s
    house.keeping.forget()
    assert abs(time.time() - 100 - older_s - house.savers[0].forgotten[0]) < 5


async def test_of_engines_that_share_a_store_only_one_forgets() -> None:
    house = House()
    house.may_forget = False
    house.keeping.forget()
    assert (house.savers[0].forgotten, house.row_sweeps) == ([], 0)
    house.may_forget = True
    house.keeping.forget()
    assert house.row_sweeps == 1


async def test_it_ends_when_it_was_never_started() -> None:
    House().keeping.stop()


def test_a_pass_of_the_garbage_collector_frees_few_closed_connections() -> None:
    freed: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            freed.append(info["collected"])

    before = gc.get_threshold()
    calm_gc()
    gc.callbacks.append(note)
    try:
        for _ in range(150_000):
            cycle: list[Any] = []
            cycle.append(cycle)
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*before)
        gc.unfreeze()
    assert sum(freed) > 100_000
    assert max(freed) <= 20_000


async def test_a_history_that_is_not_whole_is_told_once_and_its_end_when_it_lasts() -> None:
    house = House()
    history = house.savers[1].store.histories[0]
    for error, ticks in (("", 3), ("it is full", 3), ("", 10), ("it is full", 2), ("", 70)):
        history.errors.of_writing = error
        for _ in range(ticks):
            house.keeping.look_at_history()
    assert [(key, level) for key, level, _ in house.alerts] == [
        ("history", "warning"),
        ("history", "resolved"),
    ]
    assert house.alerts[0][2] == "purges go on, and some of their history is missing: it is full"

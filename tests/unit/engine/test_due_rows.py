"""Which rows of a node may be sent, behind any number of others that have to wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.delivery.due_rows import DueRows
from engine.nodes.holds import REFUSALS_BEFORE_HOLD, Holds
from engine.nodes.postponed import Postponed
from engine.tasks.records import Parked, ParkedRow
from engine.tasks.words import Operation

PURGE = int(Operation.PURGE_URL)


class Bench:
    """A queue of 100 rows of a held host, with some of another behind them; a store of places."""

    def __init__(self, *, free: int) -> None:
        self.s = 1000.0
        self.reads = 0
        holds = Holds(lambda: self.s)
        for _ in range(REFUSALS_BEFORE_HOLD):
            holds.refused(Operation.PURGE_URL, "http://held.com/", "answered 403")
        for hold in holds.pairs.values():
            hold.due_at = self.s + 60
        self.holds = holds
        self.node: Any = SimpleNamespace(name="edge-1", postponed=Postponed(lambda: self.s, 3600, holds))
        hosts = ["held.com"] * 100 + ["free.com"] * free
        self.rows = [self.row(host, place) for place, host in enumerate(hosts, start=1)]
        reader: Any = self
        self.told: list[tuple[int, str]] = []
        reasons: Any = SimpleNamespace(tell=lambda rows, reason: self.told.append((len(rows), reason)))
        self.due = DueRows(reader, reasons, lambda: self.s, row_now=lambda: self.s, ttl_s=0)
        self.store: Any = self

    @staticmethod
    def row(host: str, place: int) -> ParkedRow:
        return ParkedRow(place, place, "edge-1", PURGE, f"http://{host}/{place}", "t", "", 0.0)

    async def read(self, function: Any, *args: Any) -> Any:
        self.reads += 1
        self.s += 0.01
        return function(*args)

    def oldest_parked(self, node: str, limit: int, purges_only: bool) -> list[ParkedRow]:
        return self.rows[:limit]

    def parked_page(
        self, node: str, place: int, limit: int, purges_only: bool
    ) -> tuple[list[ParkedRow], int]:
        rows = [row for row in self.rows if row.seq > place][:limit]
        return rows, int(rows[-1].seq) if len(rows) == limit else 0

    async def chunk(self) -> list[int]:
        """Return the places of the next chunk, and take its rows out."""
        rows = await self.due.read(self.node, self.store, purges_only=False)
        self.rows = [row for row in self.rows if row not in rows]
        return [int(row.seq) for row in rows]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.delivery.due_rows.CHUNK_ROWS", 10)
    monkeypatch.setattr("engine.delivery.due_rows._PAGE_ROWS", 20)


async def test_rows_behind_held_ones_come_chunk_by_chunk_and_the_held_ones_are_passed_once() -> None:
    bench = Bench(free=25)
    bench.due.begin("edge-1")
    assert await bench.chunk() == list(range(101, 111))
    first = bench.reads
    assert await bench.chunk() == list(range(111, 121))
    assert bench.reads == first + 2, "the oldest ones, and the page where the last look ended"
    assert await bench.chunk() == list(range(121, 126))
    assert await bench.chunk() == []


async def test_a_look_that_found_nothing_is_repeated_when_others_have_come_and_after_a_rest() -> None:
    bench = Bench(free=0)
    assert bench.due.may_have_others("edge-1", 100)
    assert await bench.chunk() == []
    assert not bench.due.may_have_others("edge-1", 100)
    assert not bench.due.may_have_others("edge-1", 101), "it was a long look"
    assert 0 < bench.due.rests_s("edge-1") < 2
    bench.s += 2
    assert bench.due.may_have_others("edge-1", 101)
    assert bench.due.all_wait(bench.node, [Parked("edge-1", PURGE, "http://held.com/x", "t", "", 0.0)])
    assert not bench.due.may_have_others("edge-1", 101)
    assert not bench.due.all_wait(bench.node, [Parked("edge-1", PURGE, "http://free.com/x", "t", "", 0.0)])


async def test_the_tasks_of_held_rows_are_told_why_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.delivery.due_rows._TOLD_ROWS", 40)
    bench = Bench(free=25)
    await bench.chunk()
    assert {reason for _, reason in bench.told} == {"answered 403; it is tried again, with growing pauses"}
    assert sum(count for count, _ in bench.told) == 10 + 40


async def test_one_held_row_is_due_when_its_trial_is() -> None:
    bench = Bench(free=0)
    bench.s += bench.holds.wait_s(PURGE, "http://held.com/")
    assert await bench.chunk() == [1]

"""Entries of the shared journal that change hands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from engine.cluster.takeover import Takeover
from engine.store.redis.records import Entry, Taken
from engine.tasks.records import Accepted, Callback
from engine.tasks.region import RegionMap
from engine.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

CALLBACK = Callback("1:5-0", "t", "http://a/", "{}")


def record(name: str) -> Accepted:
    return Accepted(name, 1.0, 60.0, b"", b"{}")


class World:
    """The shared journal (consumer → region → entries), and the parts of one engine, *me*."""

    def __init__(self, **entries: dict[int, dict[str, Any]]) -> None:
        self.entries = entries
        self.store = SimpleNamespace(consumer="me")
        self.regions = RegionMap(4)
        self.replayed: list[str] = []
        self.cancelled: set[str] = set()
        self.progress: dict[str, bytes] = {}
        self.settled: list[str] = []
        self.working: list[str] = []
        self.callback_keys: set[str] = set()
        self.going: list[str] = []
        self.written_callbacks: list[Callback] = []
        self.replays = True
        self.ages_s: list[float] = []
        self.commit_s = 0.0
        world: Any = self
        self.takeover = Takeover(
            world,
            world,
            rows=world,
            journal_rows=world,
            regions=self.regions,
            saver=world,
            callbacks=world,
            now=lambda: 0.007,
        )

    async def call(self, function: Any, *args: object) -> Any:
        return function(*args)

    # The store's side

    def pending(self) -> dict[str, dict[int, int]]:
        return {
            consumer: {region: len(entries) for region, entries in regions.items()}
            for consumer, regions in self.entries.items()
        }

    def entries_of(self, consumer: str, region: int, *, idle_ms: int = 0) -> Iterator[list[str]]:
        self.idle_ms = idle_ms
        names = list(self.entries[consumer].get(region, {}))
        yield from (names[place : place + 2] for place in range(0, len(names), 2))

    def take(self, consumer: str, region: int, ids: list[str]) -> list[Taken]:
        taken: list[Any] = [self.entries[consumer][region].pop(entry) for entry in ids]
        return [
            Taken(region, Entry(entry, [], held), [], {})
            if isinstance(held, Callback)
            else Taken(region, Entry(entry, held, None), held, self.progress)
            for entry, held in zip(ids, taken, strict=True)
        ]

    # The engine's parts

    def replay_row(
        self,
        key: str,
        records: list[Accepted],
        progress: object,
        *,
        plans: object,
        cancelled: set[str],
        age_s: float,
    ) -> int:
        self.ages_s.append(round(age_s, 3))
        self.cancelled |= cancelled
        self.replayed += [f"{key} {one.id}" for one in records] if self.replays else []
        return len(records) if self.replays else 0

    def at_work(self) -> list[str]:
        return self.working

    def has(self, key: str) -> bool:
        return key in self.working

    def keys(self) -> set[str]:
        return self.callback_keys

    def keys_going(self) -> list[str]:
        return self.going

    def settle_journal(self, key: str) -> None:
        self.settled.append(key)

    def written(self, saver_number: int, callbacks: list[Callback]) -> None:
        self.written_callbacks += callbacks


async def test_everything_that_a_dead_engine_has_in_a_region_is_taken_over() -> None:
    entries = {f"{number}-0": [record(f"t{number}")] for number in range(5)}
    world = World(dead={1: entries, 2: {"9-0": [record("u")]}})
    await world.takeover.take_from("dead", 1)
    assert world.replayed == [f"1:{number}-0 t{number}" for number in range(5)]
    assert world.ages_s == [0.007, 0.006, 0.005, 0.004, 0.003], "by the clock that wrote the entries"
    assert world.entries["dead"] == {1: {}, 2: {"9-0": [record("u")]}}


async def test_a_task_that_a_dead_engine_had_cancelled_is_taken_over_as_cancelled() -> None:
    world = World(dead={1: {"1-0": [record("t"), record("u")]}})
    world.progress = {"t": b'{"state": "cancelled"}', "u": b'{"state": "running"}'}
    await world.takeover.take_from("dead", 1)
    assert (world.replayed, world.cancelled) == (["1:1-0 t", "1:1-0 u"], {"t"})


async def test_a_callback_of_a_dead_engine_is_delivered() -> None:
    world = World(dead={1: {"5-0": CALLBACK}})
    await world.takeover.take_from("dead", 1)
    assert world.written_callbacks == [CALLBACK]
    assert world.replayed == []


async def test_an_entry_without_a_task_that_is_new_here_is_over() -> None:
    world = World(dead={1: {"1-0": [record("t")], "2-0": [record("u")]}})
    world.replays = False
    world.working = ["1:2-0"]
    await world.takeover.take_from("dead", 1)
    assert world.settled == ["1:1-0"]


async def test_entries_that_this_engine_knows_of_are_not_lost() -> None:
    world = World(me={1: {"1-0": [record("t")], "2-0": CALLBACK, "3-0": [record("u")]}})
    world.working, world.callback_keys, world.going = ["1:1-0"], {"1:2-0"}, ["1:3-0"]
    await world.takeover.find_lost()
    assert len(world.entries["me"][1]) == 3


async def test_an_entry_whose_commit_was_not_answered_is_worked() -> None:
    world = World(me={1: {"1-0": [record("t")], "2-0": [record("u")]}})
    world.working = ["1:1-0"]
    world.commit_s = 2.0
    await world.takeover.find_lost()
    assert world.replayed == ["1:2-0 u"]
    assert world.idle_ms == 3000, "the commit under way may still write younger ones"


async def test_a_task_that_a_client_hands_in_at_this_moment_is_left_for_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.cluster.takeover._SAVING_S", 0)
    world = World(dead={1: {"1-0": [record("t")]}})
    saving = Task.internal([], owner=None, task_id="t")
    saving.waiters = []
    world.regions.add(saving)
    await world.takeover.take_from("dead", 1)
    assert (world.replayed, world.settled) == ([], [])

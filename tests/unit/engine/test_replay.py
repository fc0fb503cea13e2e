"""What an embedded store holds goes on, at a start and after the worker before."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from engine.recovery.replay import Replay


class Saver:
    """A saver and its store, with journal rows: key → ids."""

    def __init__(self, log: list[str], rows: dict[int, list[str]], *, has_peers: bool) -> None:
        self._log = log
        self._rows = rows
        self._own: set[int] | None = set() if has_peers else None
        self.store: Any = self
        self.orphaned: list[str] = []

    def orphans(self) -> list[str]:
        return self.orphaned

    def nodes_behind(self) -> list[str]:
        return ["behind"]

    def depths(self) -> dict[str, int]:
        return {"e1": 1, "old": 2}

    def pending_callbacks(self) -> list[str]:
        return ["callback"]

    def journal(self) -> list[tuple[int, list[str]]]:
        return list(self._rows.items())

    def plans(self, accepted: list[str]) -> dict[bytes, bytes]:
        return {b"key": b"text"}

    def drop_orphans(self, task_ids: list[str]) -> None:
        self._log.append(f"drop orphans {task_ids}")

    async def flushed(self, limit_s: float) -> None:
        self._log.append("flushed")

    def has_row(self, key: int) -> bool:
        return self._own is not None and key in self._own

    def add_row(self, key: int) -> None:
        if self._own is not None:
            self._own.add(key)

    def settle_journal(self, key: int) -> None:
        self._log.append(f"settle {key}")


class World:
    """One worker with one saver; *in_memory* are tasks at work, *own* journal rows written here."""

    def __init__(self, rows: dict[int, list[str]], *, peers: bool = False, predecessor: bool = False) -> None:
        self.log: list[str] = []
        self.in_memory: set[str] = set()
        self.being_saved: set[str] = set()
        self.replayed = asyncio.Event()
        self.saver = Saver(self.log, rows, has_peers=peers)
        self.is_held = False
        world: Any = self
        savers: Any = SimpleNamespace(savers=[self.saver])
        self.replay = Replay(
            world,
            savers,
            world,
            SimpleNamespace(queues=world, redelivery=world, gone=world),  # type: ignore[arg-type]
            nodes={"e1": world},
            callbacks=world,
            replayed=self.replayed,
            has_peers=peers,
            has_predecessor=predecessor,
        )

    async def read(self, function: Any, *args: Any) -> Any:
        return function(*args)

    # `ReplayRows`

    def is_in_memory(self, task_id: str) -> bool:
        return task_id in self.in_memory

    def is_being_saved(self, ids: list[str]) -> bool:
        return bool(self.being_saved & set(ids))

    def replay_row(self, key: int, ids: list[str], *, plans: dict[bytes, bytes]) -> int:
        assert plans == {b"key": b"text"}
        new = [task_id for task_id in ids if task_id not in self.in_memory]
        self.in_memory.update(new)
        self.log.append(f"replay {key} {new}")
        return len(new)

    # The delay queues, a node, and the callbacks

    async def load(self, depths: dict[str, int], behind: list[str]) -> None:
        self.log.append(f"load {depths} {behind}")

    def names(self) -> list[str]:
        return ["e1", "old"]

    def depth(self, name: str) -> int:
        return 2

    def hold(self) -> None:
        self.is_held = True

    def let_go(self) -> None:
        self.is_held = False

    def start_probe(self) -> None:
        self.log.append("probe e1")

    def deliver_if_returned(self, node: Any) -> None:
        self.log.append("deliver e1")

    async def refresh(self) -> None:
        self.log.append("see who is gone")

    def look_soon(self) -> None:
        self.log.append("look who is gone")

    def written(self, saver_number: int, callbacks: list[str]) -> None:
        self.log.append(f"{callbacks[0]} of {saver_number}")


async def test_a_start_replays_delay_queues_callbacks_and_then_the_journal() -> None:
    world = World({1: ["a", "b"], 2: ["c"]})
    await world.replay.at_start()
    assert world.log == [
        "see who is gone",
        "load {'e1': 1, 'old': 2} ['behind']",
        "callback of 0",
        "probe e1",
        "deliver e1",
        "replay 1 ['a', 'b']",
        "replay 2 ['c']",
        "look who is gone",
    ]
    assert world.replayed.is_set()


async def test_rows_of_tasks_that_begin_anew_go_first_and_those_of_tasks_at_work_stay() -> None:
    world = World({})
    world.saver.orphaned = ["a", "b"]
    world.in_memory.add("b")
    await world.replay.at_start()
    assert world.log[1:3] == ["drop orphans ['a']", "flushed"]


async def test_a_row_without_anything_new_is_over() -> None:
    world = World({1: ["a"]})
    world.in_memory.add("a")
    await world.replay.at_start()
    assert "settle 1" in world.log


async def test_with_a_predecessor_a_start_leaves_everything_to_it() -> None:
    world = World({1: ["a"]}, peers=True, predecessor=True)
    assert world.is_held
    await world.replay.at_start()
    assert world.log == ["probe e1"]
    assert not world.replayed.is_set()


async def test_what_the_predecessor_left_is_taken_over_but_not_rows_written_here() -> None:
    world = World({1: ["a"], 2: ["b"]}, peers=True, predecessor=True)
    world.saver.add_row(2)
    await world.replay.take_over()
    assert not world.is_held
    assert "replay 1 ['a']" in world.log
    assert "replay 2 ['b']" not in world.log
    assert world.replayed.is_set()


async def test_a_task_that_a_client_hands_in_again_meanwhile_is_not_lost_when_that_is_refused() -> None:
    """It is in memory without being stored: the row that is must not go on its account."""
    world = World({1: ["a"]}, peers=True)
    world.in_memory = {"a"}
    world.being_saved = {"a"}

    def refuse() -> None:
        world.in_memory.clear()
        world.being_saved.clear()

    asyncio.get_running_loop().call_later(0.05, refuse)
    await world.replay.take_over()
    assert "replay 1 ['a']" in world.log
    assert "settle 1" not in world.log


async def test_taking_over_twice_begins_nothing_twice() -> None:
    world = World({1: ["a"]}, peers=True)
    await world.replay.take_over()
    await world.replay.take_over()
    assert [line for line in world.log if line.startswith(("replay", "settle"))] == ["replay 1 ['a']"]


async def test_an_engine_without_a_supervisor_has_nobody_to_take_over_from() -> None:
    world = World({1: ["a"]})
    await world.replay.take_over()
    assert world.log == []

"""Tasks of a journal row that go on."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec

from engine.config.load import parse
from engine.intake.topology import Topology
from engine.intake.validate import Validator
from engine.recovery.rows import ReplayRows
from engine.tasks.records import Accepted, Progress
from engine.tasks.region import RegionMap
from engine.tasks.task import Task

NODE = {"name": "edge-1", "driver": "ats", "url": "http://127.0.0.1:1"}
BODY = json.dumps({"targets": ["http://a.com/"]}).encode()
BAD = json.dumps({"targets": ["http://a.com/"], "callback": "http://hook/", "nodes": 7}).encode()


def record(name: str, body: bytes = BODY, due_s: float = 60.0) -> Accepted:
    return Accepted(name, 5.0, due_s, b"d", body, "cms")


class World:
    """What a replayed task meets: the dispatch, and clients that ask for it."""

    def __init__(self) -> None:
        self.regions = RegionMap(4)
        self.live = 0
        self.submitted: list[tuple[str, Any]] = []
        self.cancelled: list[str] = []
        self.failed: dict[str, str] = {}
        self.dropped: list[Task] = []
        self.asking: dict[str, Task] = {}
        self.answered: list[Task] = []
        validator = Validator(Topology(parse({"node": [NODE]})), due_s=60, allows_callback=lambda _: None)
        world: Any = self
        delivery: Any = SimpleNamespace(load=world, endings=world, dispatch=world)
        self.rows = ReplayRows(self.regions, delivery, validator, world)

    def reserve(self, count: int) -> None:
        self.live += count

    def submit(self, task: Task, key: Any, *, left_s: float) -> None:
        assert left_s < 0, "it was due long ago"
        self.submitted.append((task.id, key))

    def cancel(self, task: Task) -> None:
        assert self.submitted[-1][0] == task.id
        self.cancelled.append(task.id)

    def settle_refused(self, task: Task, key: Any, reason: str) -> None:
        self.failed[task.id] = reason

    def drop(self, task: Task) -> None:
        self.dropped.append(task)
        self.regions.remove(task.id)

    def is_asking(self, task_id: str) -> bool:
        return task_id in self.asking

    def release_asking(self, task_id: str) -> Task | None:
        task = self.asking.pop(task_id, None)
        if task is not None:
            self.regions.remove(task_id)
        return task

    def answer_asking(self, task: Task) -> None:
        assert self.regions.get(task.id) is not None
        self.answered.append(task)

    def put(self, name: str) -> Task:
        task = Task.internal([], owner=None, task_id=name)
        self.regions.add(task)
        return task


def test_a_task_that_was_cancelled_with_requests_on_the_wire_goes_on_as_cancelled() -> None:
    world = World()
    assert world.rows.replay_row(7, [record("t"), record("u")], {}, cancelled={"u", "gone"}) == 2
    assert ([name for name, _ in world.submitted], world.cancelled) == (["t", "u"], ["u"])


def test_a_task_is_being_saved_while_its_clients_wait_and_no_other_worker_is_asked_for_it() -> None:
    world = World()
    rows = [record("t"), record("u")]
    assert not world.rows.is_being_saved(rows)
    task = world.put("u")
    assert not world.rows.is_being_saved(rows)
    task.waiters = []
    assert world.rows.is_being_saved(rows)
    world.asking["u"] = task
    assert not world.rows.is_being_saved(rows)


def test_the_tasks_of_a_row_go_on_under_their_ids() -> None:
    world = World()
    assert world.rows.replay_row(7, [record("t"), record("u")]) == 2
    assert world.submitted == [("t", 7), ("u", 7)]
    assert world.live == 2
    task = world.regions.get("t")
    assert task is not None
    assert (task.token, task.digest, task.created_at) == ("cms", b"d", 5.0)


def test_a_task_of_another_engine_begins_where_that_had_come_to() -> None:
    world = World()
    world.rows.replay_row("0:1-0", [record("t")], {"t": Progress({("edge-1", 1): b"\1"}, absent=1)})
    task = world.regions.get("t")
    assert task is not None
    assert task.progress is not None
    assert (task.progress.marks, task.absent_count) == ({("edge-1", 1): b"\1"}, 1)


def test_a_task_that_is_in_memory_is_not_begun_twice() -> None:
    world = World()
    world.put("t")
    assert world.rows.is_in_memory("t")
    assert world.rows.replay_row(7, [record("t"), record("u")]) == 1
    assert world.submitted == [("u", 7)]


def test_a_task_that_was_taken_from_here_and_comes_back_begins_anew() -> None:
    world = World()
    lost = world.put("t")
    lost.is_lost = True
    assert world.rows.replay_row(7, [record("t")]) == 1
    assert world.dropped == [lost]
    assert world.regions.get("t") is not lost


def test_a_client_that_asks_for_the_id_meanwhile_is_answered_with_the_older_task() -> None:
    world = World()
    world.asking["t"] = asking = world.put("t")
    assert world.rows.replay_row(7, [record("t")]) == 1
    assert world.answered == [asking]


def test_a_task_whose_plan_cannot_be_read_is_planned_again() -> None:
    """A later version may have named an operation in it that this one does not know."""
    world = World()
    record_ = Accepted("t", 5.0, 60.0, b"d", BODY, "cms", b"key")
    later = msgspec.msgpack.encode(([("edge-1", "edge", "ats", 99, ())], [], []))
    assert world.rows.replay_row(7, [record_], plans={b"key": later}) == 1
    assert (world.failed, world.submitted) == ({}, [("t", 7)])


def test_a_task_that_the_configuration_does_not_allow_any_more_fails_and_its_client_is_told() -> None:
    world = World()
    assert world.rows.replay_row(7, [record("t", BAD), record("u", b"no JSON")]) == 2
    assert set(world.failed) == {"t", "u"}
    assert all(reason.startswith("cannot go on after a restart: ") for reason in world.failed.values())
    assert world.submitted == []
    unreadable = world.regions.get("u")
    assert unreadable is not None
    assert unreadable.callback is None

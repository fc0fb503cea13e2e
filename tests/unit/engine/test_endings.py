"""How tasks end: their state, their document and callback, their journal row, the last trace in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.base.timer import Timer
from engine.delivery.endings import Endings
from engine.delivery.journal_rows import JournalRows
from engine.delivery.kept_rows import KeptRows
from engine.delivery.load import Load
from engine.delivery.parking import Parking
from engine.delivery.touched import Touched
from engine.observe.counters import Stats
from engine.saver.pool import SaverPool
from engine.tasks.plan import Plan, Step
from engine.tasks.region import RegionMap
from engine.tasks.task import Share, Task
from engine.tasks.words import ACKED, BLOCKED, CANCELLED, DELAYED, FAILED, QUEUED, SENT, Operation, State
from tests.fakes.audit import audit_of
from tests.fakes.held_saver import held_saver
from tests.fakes.shares import NotingNode
from tests.fakes.still_loop import held, still_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.tasks.records import JournalKey

TARGETS = ["http://a.com/0", "http://a.com/1", "http://a.com/2"]


class World:
    """What tasks meet at their end: the timer of due times, a saver, the parking, the load."""

    def __init__(self, *, is_shared: bool = False) -> None:
        self.stats = Stats()
        self.regions = RegionMap(4)
        self.rows = JournalRows(lambda task_id: self)
        self.touched = Touched() if is_shared else None
        self.timer = Timer(still_loop())
        self.load = Load(still_loop())
        self.load.call_on_room(self._made_room)
        self.saver = held_saver()
        self.taken_back: list[dict[str, int]] = []
        self.rooms_made = 0
        world: Any = self
        self.endings = Endings(
            self.regions,
            self.timer,
            SaverPool([self.saver]),
            load=self.load,
            journal_rows=self.rows,
            parking=Parking(world, self.stats, KeptRows(), now=lambda: 0.0, is_shared=is_shared),
            stats=self.stats,
            audit=audit_of(),
            touched=self.touched,
        )

    def begin(self, *states: int, callback: str | None = None) -> Task:
        """Return a task at work in journal row 7: one node, its targets in these states."""
        task = Task.internal(TARGETS[: len(states)], owner=None, task_id="t")
        task.plan = Plan((Step("edge-1", "edge", Operation.PURGE_URL, (), is_parent=False),))
        task.callback = callback
        share = Share(task, NotingNode(), Operation.PURGE_URL, len(states))
        share.states[:] = bytes(states)
        share.acked_count = states.count(ACKED)
        share.failed_count = states.count(FAILED)
        share.delayed_count = states.count(DELAYED)
        task.shares, task.total, task.state = [share], len(states), State.RUNNING
        task.live = sum(state in {BLOCKED, QUEUED, SENT} for state in states)
        self.regions.add(task)
        self.endings.journal_rows.enter(task, 7)
        self.endings.watch(task, 60)
        return task

    @property
    def dues(self) -> dict[str, Callable[[], None]]:
        return held(self.timer)

    @property
    def released(self) -> int:
        return -self.load.live

    # What the saver is to write

    @property
    def saved(self) -> list[tuple[str, int]]:
        """Ids of tasks and versions of their documents."""
        return [(task.id, version) for task, version in self.saver._own.saved]

    @property
    def callbacks(self) -> list[str]:
        return [callback.url for callback in self.saver._own.batch.callbacks]

    @property
    def settled_rows(self) -> list[JournalKey]:
        return self.saver._own.batch.settled_journal

    @property
    def progress(self) -> list[str]:
        """States that are told to a shared store while their task is at work."""
        return [msgspec.json.decode(text)["state"] for text in self.saver._own.batch.progress.values()]

    # The delay queues

    def unpark(self, _task_id: str, counts: dict[str, int]) -> None:
        self.taken_back.append(counts)

    def _made_room(self) -> None:
        self.rooms_made += 1


@pytest.mark.parametrize(
    ("states", "state", "counter"),
    [
        ((ACKED, ACKED), State.DONE, "tasks_done"),
        ((ACKED, FAILED), State.FAILED, "tasks_failed"),
        ((ACKED, CANCELLED), State.CANCELLED, "tasks_cancelled"),
    ],
)
def test_the_last_answer_settles_a_task(states: tuple[int, ...], state: State, counter: str) -> None:
    world = World()
    task = world.begin(*states, callback="http://cms/")
    task.shares[0].cancelled_count = states.count(CANCELLED)
    task.live = 1
    world.endings.less_live(task, 1)
    assert (task.state, world.released) == (state, 1)
    assert getattr(world.stats, counter) == 1
    assert (world.saved, world.callbacks, world.dues) == ([("t", 1)], ["http://cms/"], {})


def test_a_task_with_something_on_its_way_goes_on() -> None:
    world = World()
    task = world.begin(ACKED, SENT)
    world.endings.less_live(task, 0)
    assert (task.state, world.saved) == (State.RUNNING, [])


def test_a_stored_task_leaves_the_memory_and_takes_its_journal_row_along() -> None:
    world = World()
    task = world.begin(ACKED)
    world.endings.over(task)
    world.endings.saved(task, 1)
    assert (len(world.regions), world.settled_rows, world.rooms_made) == (0, [7], 1)
    assert not task.shares


def test_a_document_that_is_not_the_newest_lets_nothing_go() -> None:
    world = World()
    task = world.begin(DELAYED)
    task.is_due = True
    world.endings.over(task)
    world.endings.settle_late(task.shares[0], 0, "")
    assert [version for _, version in world.saved] == [1, 2]
    world.endings.saved(task, 1)
    assert len(world.regions) == 1
    world.endings.saved(task, 2)
    assert len(world.regions) == 0


def test_a_task_of_which_only_delayed_ones_are_left_is_partial_at_once_and_says_so() -> None:
    for world in (World(), World(is_shared=True)):
        task = world.begin(ACKED, DELAYED, callback="http://cms/")
        world.endings.over(task)
        assert (world.saved, world.callbacks) == ([("t", 1)], ["http://cms/"])
        assert (task.state, world.stats.tasks_partial) == (State.PARTIAL, 1)


def test_at_its_due_time_a_task_at_work_is_partial_and_says_so_once() -> None:
    world = World()
    task = world.begin(ACKED, SENT, callback="http://cms/")
    world.dues["t"]()
    assert (task.state, world.stats.tasks_partial) == (State.PARTIAL, 1)
    world.endings.due(task)
    assert (world.callbacks, world.saved) == (["http://cms/"], [])


def test_what_has_no_answer_is_cancelled() -> None:
    world = World()
    task = world.begin(QUEUED, SENT, DELAYED)
    node = task.shares[0].node
    assert world.endings.cancel(task) == 3
    assert isinstance(node, NotingNode)
    assert [indexes for _, indexes in node.forgotten] == [[0]]
    assert (world.taken_back, world.released, task.live) == ([{"edge-1": 1}], 1, 1)
    assert list(task.shares[0].states) == [CANCELLED, SENT, CANCELLED]
    assert world.endings.cancel(task) == 0
    assert (task.state, world.stats.tasks_cancelled, world.dues) == (State.CANCELLED, 1, {})


def test_a_cancelled_task_is_stored_at_once_and_again_with_the_last_answer() -> None:
    """A crash in between must not begin it again; its callback is sent once."""
    world = World()
    task = world.begin(QUEUED, SENT, callback="http://cms/")
    world.endings.cancel(task)
    assert (world.saved, world.callbacks) == ([("t", 1)], ["http://cms/"])
    world.endings.saved(task, 1)
    assert world.regions.get("t") is task
    assert world.settled_rows == []
    share = task.shares[0]
    share.states[1], share.acked_count = ACKED, 1
    world.endings.less_live(task, 1)
    assert (world.saved[1:], world.callbacks, task.state) == ([("t", 2)], ["http://cms/"], State.CANCELLED)
    assert (world.stats.tasks_cancelled, world.stats.tasks_done) == (1, 0)
    world.endings.saved(task, 2)
    assert (len(world.regions), world.settled_rows, world.released) == (0, [7], 2)


def test_a_shared_store_reads_that_a_task_is_cancelled_in_its_progress() -> None:
    world = World(is_shared=True)
    task = world.begin(SENT, SENT, callback="http://cms/")
    assert world.endings.cancel(task) == 2
    assert (world.progress, world.saved, task.is_handed) == (["cancelled"], [], False)
    for _ in range(2):
        world.endings.give_up(task.shares[0], 1)
    assert (world.saved, world.callbacks) == ([("t", 1)], ["http://cms/"])


def test_a_task_that_is_all_answered_stays_cancelled() -> None:
    world = World()
    task = world.begin(ACKED, SENT)
    world.endings.cancel(task)
    task.shares[0].acked_count = 2
    world.endings.less_live(task, 1)
    assert task.state is State.CANCELLED


def test_a_lost_task_that_is_taken_back_is_not_cancelled_in_the_store() -> None:
    world = World(is_shared=True)
    task = world.begin(QUEUED, SENT)
    assert world.endings.lost("t") is task
    assert world.endings.cancel(task) == 2
    assert (task.state, world.progress, world.saved) == (State.RUNNING, [], [])
    world.endings.less_live(task, 1)
    assert (len(world.regions), world.saved) == (0, [])


@pytest.mark.parametrize(("reason", "state"), [("", State.DONE), ("answered 400", State.FAILED)])
def test_late_delivery_settles_a_task_in_memory(reason: str, state: State) -> None:
    world = World()
    task = world.begin(ACKED, DELAYED)
    world.endings.settle_late(task.shares[0], 1, reason)
    world.endings.settle_late(task.shares[0], 1, "told again")
    assert task.state is state
    assert [error["reason"] for error in task.errors] == ([reason] if reason else [])
    assert len(world.saved) == 1


def test_a_task_of_the_journal_that_is_not_allowed_any_more_fails_with_the_reason() -> None:
    world = World()
    task = Task.internal([], owner=None, task_id="t")
    world.regions.add(task)
    world.endings.settle_refused(task, 7, "cannot go on after a restart: 422")
    assert (task.state, world.stats.tasks_failed, world.saved) == (State.FAILED, 1, [("t", 1)])
    assert task.errors[0]["reason"].startswith("cannot go on")


def test_a_lost_task_is_dropped_without_a_trace_in_the_store() -> None:
    world = World(is_shared=True)
    task = world.begin(DELAYED)
    assert world.endings.lost("t") is None
    assert (len(world.regions), world.saved, world.settled_rows) == (0, [], [])
    assert not world.rows.has(7)
    assert world.endings.lost("t") is None
    assert task.is_lost


def test_a_lost_task_with_something_on_its_way_is_dropped_after_the_answer() -> None:
    world = World(is_shared=True)
    task = world.begin(SENT)
    assert world.endings.lost("t") is task
    assert len(world.regions) == 1
    world.endings.less_live(task, 1)
    assert (len(world.regions), world.saved) == (0, [])


def test_a_lost_task_that_was_taken_back_meanwhile_is_left_alone() -> None:
    world = World(is_shared=True)
    task = world.begin(SENT)
    world.regions.remove("t")
    again = world.begin(SENT)
    world.endings.drop(task)
    assert world.regions.get("t") is again

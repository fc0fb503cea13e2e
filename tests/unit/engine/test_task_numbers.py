"""Random orders of answers, losses, parking, late delivery and cancels: a task's numbers always add up."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.base.timer import Timer
from engine.delivery.dispatch import Dispatch
from engine.delivery.endings import Endings
from engine.delivery.journal_rows import JournalRows
from engine.delivery.kept_rows import KeptRows
from engine.delivery.late import LateResults
from engine.delivery.load import Load
from engine.delivery.parking import Parking
from engine.delivery.touched import Touched
from engine.nodes.queue import NodeQueue
from engine.observe.counters import Stats
from engine.saver.pool import SaverPool
from engine.tasks import by_node, documents, stored_documents
from engine.tasks.plan import Plan, Step
from engine.tasks.records import ParkedRow, late_of, token_of_row
from engine.tasks.region import RegionMap
from engine.tasks.task import Task
from engine.tasks.words import (
    ACKED,
    BLOCKED,
    CANCELLED,
    DELAYED,
    FAILED,
    FINAL_STATES,
    QUEUED,
    RETRYING,
    SENT,
    Operation,
)
from tests.fakes.audit import audit_of
from tests.fakes.held_saver import held_saver, taken
from tests.fakes.still_loop import held, still_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.nodes.queue import Item
    from engine.tasks.records import Delivered, Parked
    from engine.tasks.task import Share

TARGETS = ["http://a.com/0", "http://a.com/1", "http://a.com/2"]
PLAN = Plan(
    (
        Step("parent-1", "parent", Operation.PURGE_URL, (), is_parent=True),
        Step("edge-1", "edge", Operation.PURGE_URL, (0,), is_parent=False),
    )
)
COUNTS = ("counter", "failed", "delayed", "cancelled")
ON_ITS_WAY = (BLOCKED, QUEUED, SENT, RETRYING)


class Cache:
    """A node with a real queue; what is on the wire stays there until something happens to it."""

    def __init__(self, world: World, name: str, layer: str) -> None:
        self.world = world
        self.name = name
        self.layer = layer
        self.is_down = False
        self.queue = NodeQueue()
        self.wire: list[Item] = []

    def add(self, share: Share, indexes: Sequence[int]) -> None:
        if self.is_down:
            self.world.dispatch.park(share, indexes, "gone")
        else:
            self.queue.add(share, indexes)

    def add_backlog(self, share: Share, indexes: Sequence[int]) -> None:
        """Early purges: nobody waits for their answers."""

    def forget(self, share: Share, indexes: Sequence[int]) -> None:
        self.queue.forget(share, indexes)

    def postpone(self, operation: Operation, target: str) -> bool:
        return self.world.random.random() < 0.8  # else it is poison

    def lose(self) -> None:
        """The connection ends without an answer."""
        items, self.wire = self.wire, []
        self.queue.put_back(self.world.dispatch.without_cancelled(items))

    def fall(self) -> None:
        self.is_down = True
        self.lose()
        shares: dict[Share, list[int]] = {}
        for share, index in self.queue.take_all():
            shares.setdefault(share, []).append(index)
        for share, indexes in shares.items():
            self.world.dispatch.park(share, indexes, "gone")


class World:
    """An engine of two nodes, its store as a dictionary, and what may happen to them."""

    def __init__(self, seed: int, *, is_shared: bool) -> None:
        self.random = random.Random(seed)
        self.is_shared = is_shared
        self.regions = RegionMap(4)
        self.rows: list[ParkedRow] = []
        self.stored: dict[str, dict[str, Any]] = {}
        self.saver = held_saver()
        self.timer, self.load = Timer(still_loop()), Load(still_loop())
        self.accepted: list[Task] = []  #: not expanded yet
        self.cancelled: set[str] = set()
        self.reported: list[tuple[str, str]] = []
        self.places = 0
        world: Any = self
        stats = Stats()
        touched = Touched() if is_shared else None
        parking = Parking(world, stats, KeptRows(), now=lambda: 0.0, is_shared=is_shared)
        self.endings = Endings(
            self.regions, self.timer, SaverPool([self.saver]), load=self.load,
            journal_rows=JournalRows(lambda _: self), parking=parking, stats=stats, audit=audit_of(),
            touched=touched,
        )  # fmt: skip
        self.late = LateResults(self.regions, world, self.endings, stats, reader=world, is_shared=is_shared)
        self.store = world
        self.caches = [Cache(self, "parent-1", "parent"), Cache(self, "edge-1", "edge")]
        self.dispatch = Dispatch(
            asyncio.get_running_loop(), {cache.name: cache for cache in self.caches}, self.timer, stats,
            endings=self.endings, parking=parking, plan_nodes=world, touched=touched, load=self.load,
            savers=SaverPool([self.saver]),
        )  # fmt: skip
        self.tasks = [self.begin("t"), self.begin("u")]

    def begin(self, name: str) -> Task:
        task = Task.internal(TARGETS, owner=None, task_id=name)
        task.plan, task.total, task.callback = PLAN, 2 * len(TARGETS), "http://cms/"
        self.regions.add(task)
        self.endings.journal_rows.enter(task, 7)
        self.endings.watch(task, 60)
        self.accepted.append(task)
        return task

    # The delay queues

    def park(self, node: str, task_id: str, rows: list[Parked]) -> None:
        self._add_rows(rows)

    def unpark(self, task_id: str, counts: dict[str, int]) -> None:
        mine = Counter(row.node for row in self.rows if row.task_id == task_id)
        assert mine == counts
        self.rows = [row for row in self.rows if row.task_id != task_id]

    def written(self, rows: list[Parked]) -> None:
        """Rows of a shared store are read from there."""

    def _add_rows(self, rows: Sequence[Parked]) -> None:
        for row in rows:
            self.places += 1
            at = self.places
            self.rows.append(
                ParkedRow(at, at, row.node, row.operation, row.target, row.task_id, row.after, 0.0)
            )

    async def drop(self, saver: object, name: str, delivered: list[Delivered]) -> None:
        """Drop delivered rows, let their children go, and fold them into stored documents."""
        self.commit()
        gone = {settled.row.key for settled in delivered}
        parents = {
            (settled.row.task_id, settled.row.target, token_of_row(settled.row)) for settled in delivered
        }
        self.rows = [
            msgspec.structs.replace(row, after="") if (row.task_id, row.target, row.after) in parents else row
            for row in self.rows
            if row.key not in gone
        ]
        for late in late_of(delivered):
            stored = self.stored.get(late.task_id)
            if stored is not None and not stored_documents.is_final(stored):
                stored_documents.apply_late(stored, late)

    async def read(self, function: Callable[..., Any], *args: object) -> Any:
        return function(*args)

    def prefetches_behind(self, node: str, purges: object) -> list[ParkedRow]:
        return []

    # What may happen

    def commit(self) -> None:
        """Write what the saver has."""
        work = taken(self.saver)
        batch = work.batch
        assert all(msgspec.json.decode(text)["state"] == "cancelled" for text in batch.progress.values())
        self.stored |= {task_id: msgspec.json.decode(text) for task_id, text in batch.documents.items()}
        self.reported += [(one.task_id, msgspec.json.decode(one.body)["state"]) for one in batch.callbacks]
        self._add_rows(batch.parked)
        for task, version in work.saved:
            self.endings.saved(task, version)

    def expand(self) -> None:
        while self.accepted:
            self.dispatch._expand(self.accepted.pop(0))

    def send(self) -> None:
        cache = self.random.choice(self.caches)
        if not cache.is_down:
            cache.wire += cache.queue.take(self.random.randint(1, 3))

    def answer(self) -> None:
        cache = self.random.choice(self.caches)
        if cache.wire:
            item = cache.wire.pop(0)
            match self.random.choice(["acked", "acked", "failed", "retry", "postpone", "hold"]):
                case "acked":
                    self.dispatch.acked([item])
                case "failed":
                    self.dispatch.failed(item, "answered 400")
                case "postpone":
                    self.dispatch.postpone(item, "answered 500 again and again")
                case "hold":
                    self.dispatch.hold([item], "refused: answered 403")
                case _:
                    self.dispatch.retry(item, "answered 500")

    def lose(self) -> None:
        self.random.choice(self.caches).lose()

    def fall(self) -> None:
        self.random.choice(self.caches).fall()

    def fire(self) -> None:
        """A pause before another attempt is over, or a task is due."""
        timers = held(self.timer)
        if timers:
            key = self.random.choice(sorted(timers, key=str))
            self.timer.cancel(key)
            timers[key]()

    async def come_back(self) -> None:
        """A node answers again: the oldest of its rows are delivered."""
        cache = self.random.choice(self.caches)
        cache.is_down = False
        rows = [row for row in self.rows if row.node == cache.name and not row.after]
        chosen = rows[: self.random.randint(0, len(rows))]
        cut = self.random.randint(0, len(chosen))
        node: Any = cache
        saver: Any = self
        await self.late.fold(node, saver, chosen[:cut], [(row, "answered 400") for row in chosen[cut:]])

    def take_back(self) -> None:
        """A client cancels a task, wherever it is."""
        task = self.random.choice(self.tasks)
        if self.regions.get(task.id) is task and task.is_handed:
            self.commit()
        if self.regions.get(task.id) is task:
            if self.dispatch.cancel(task):
                self.cancelled.add(task.id)
            return
        stored = self.stored[task.id]
        if not stored_documents.is_final(stored):
            self.cancelled.add(task.id)
            stored_documents.cancel_stored(stored, 9.0)
            self.rows = [row for row in self.rows if row.task_id != task.id]

    # What has to hold

    def check(self) -> None:
        for task in self.tasks:
            is_here = self.regions.get(task.id) is task
            shown = msgspec.to_builtins(documents.document(task)) if is_here else self.stored[task.id]
            shown.setdefault("cancelled", 0)  # the store keeps no default
            states = [state for share in task.shares for state in share.states] if is_here else []
            on_its_way = sum(map(states.count, ON_ITS_WAY)) if task.shares else task.total * is_here
            if task.id in self.cancelled:
                assert (shown["state"], shown["active"], shown["delayed"]) == ("cancelled", False, 0)
                assert not {QUEUED, RETRYING, BLOCKED, DELAYED} & set(states)
                assert all(row.task_id != task.id for row in self.rows)
                on_its_way = 0
            elif is_here and task.shares:
                counted = [states.count(state) for state in (ACKED, FAILED, DELAYED, CANCELLED)]
                assert [shown[key] for key in COUNTS] == counted
            assert sum(shown[key] for key in COUNTS) + on_its_way == task.total
            for key in ("total", *COUNTS):
                assert sum(layer[key] for layer in shown["layers"]) == shown[key], key
                nodes = by_node.shown(shown["nodes"], shown["layers"])
                told = "acked" if key == "counter" else key
                assert sum(node[told] for node in nodes) == shown[key], key
                assert all(node["acked_at"] for node in nodes if node["acked"])
            assert (shown.get("settled_at") is not None) == (shown["state"] in FINAL_STATES)
            assert shown["state"] != "done" or shown["counter"] == task.total

    async def end(self) -> None:
        """Every node is back and answers, until nothing is left to do."""
        for _ in range(200):
            for cache in self.caches:
                cache.is_down = False
            await self.come_back()
            for _ in range(4):
                self.send()
                self.answer()
                self.fire()
            self.commit()
            self.check()
            if not len(self.regions) and not self.rows:
                return
        pytest.fail("a task does not end")


@pytest.mark.parametrize("is_shared", [False, True], ids=["embedded", "shared"])
@pytest.mark.parametrize("seed", range(150))
async def test_the_numbers_of_a_task_add_up_after_every_step(seed: int, *, is_shared: bool) -> None:
    """And a cancelled task stays so, nothing of it is queued again, and no task is reported to end twice."""
    world = World(seed, is_shared=is_shared)
    steps = [
        world.send,
        world.send,
        world.answer,
        world.answer,
        world.lose,
        world.fall,
        world.fire,
        world.commit,
    ]
    if world.random.random() < 0.9:
        world.expand()
    for _ in range(40):
        step: Any = world.random.choice([*steps, world.come_back, world.expand])
        if world.random.random() < 0.04:
            step = world.take_back
        result = step()
        if result is not None:
            await result
        world.check()
    world.expand()
    await world.end()
    ends = [name for name, state in world.reported if state in {"done", "failed", "cancelled"}]
    assert len(ends) == len(set(ends))
    assert {
        name for name, stored in world.stored.items() if stored["state"] == "cancelled"
    } == world.cancelled

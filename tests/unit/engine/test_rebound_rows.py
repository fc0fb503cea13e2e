"""Second purges that a node does not take, while other subtasks of the task wait to become rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.delivery.expansion import shares_of
from engine.delivery.kept_rows import KeptRows
from engine.delivery.parking import Parking
from engine.delivery.rebound import Rebound
from engine.observe.counters import Stats
from engine.tasks.plan import Plan, Step
from engine.tasks.task import Task
from engine.tasks.words import ACKED, DELAYED, Operation
from tests.fakes.shares import NotingNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.tasks.task import Share

URL = "http://a.com/1"


class World:
    """A parent, an edge below it, and another edge that is away; all that are there had their first purge."""

    def __init__(self, *, is_shared: bool) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.over: list[Task] = []
        world: Any = self
        self.task = task = Task.internal([URL], owner=None, task_id="t")
        task.rebound_s = 30.0
        steps = [("parent", "parent", ()), ("edge", "edge", (0,)), ("away", "edge", ())]
        task.plan = Plan(
            tuple(
                Step(name, layer, Operation.PURGE_URL, above, is_parent=False) for name, layer, above in steps
            )
        )
        self.nodes = {name: NotingNode(name, layer) for name, layer, _ in steps}
        parking = Parking(world, Stats(), KeptRows(), now=lambda: 0.0, is_shared=is_shared)
        self.rebound = Rebound(
            task, world, release=self._release, on_over=self.over.append, park=parking.park
        )
        self.shares = shares_of(task, self.nodes, self.rebound)
        for share in self.shares[:2]:
            share.states[0] = ACKED
            share.acked_count = 1
        parking.park(self.shares[2], [0], "unreachable: away")
        for share in self.shares:
            self._release(share, [0])

    def _release(self, share: Share, indexes: Iterable[int]) -> None:
        for child in share.children or ():
            assert child.blockers is not None
            child.blockers[0] -= 1
            if not child.blockers[0] and child.task.owner is self.rebound:
                self.rebound.unblocked(child, list(indexes))

    def fire(self) -> None:
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()

    def add(self, key: object, delay_s: float, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def park(self, node: str, task_id: str, rows: list[Any]) -> None:
        """Write rows at once, as an embedded store does."""

    def counts(self) -> list[tuple[int, int]]:
        return [(share.acked_count, share.delayed_count) for share in self.shares]


def test_rows_of_a_shared_store_do_not_wait_for_a_node_that_takes_no_second_purge() -> None:
    world = World(is_shared=True)
    world.fire()
    [(again, indexes)] = world.nodes["parent"].backlog
    world.rebound.parked(again, indexes)
    assert world.over == [world.task]
    assert [(row.node, row.after) for row in world.task.parked or ()] == [
        ("away", ""),
        ("parent", ""),
        ("edge", "parent"),
    ]
    assert world.counts() == [(0, 1), (0, 1), (0, 1)]
    assert [share.states[0] for share in world.shares] == [DELAYED] * 3
    assert world.nodes["edge"].backlog == []


def test_with_a_store_of_its_own_the_second_purge_is_tried_again() -> None:
    """Rows are written at once there."""
    world = World(is_shared=False)
    world.fire()
    [(again, indexes)] = world.nodes["parent"].backlog
    world.rebound.postponed(again, indexes)
    assert (world.over, world.counts()) == ([], [(1, 0), (1, 0), (0, 1)])
    world.fire()
    assert len(world.nodes["parent"].backlog) == 2
    world.rebound.acked(again, indexes)
    [(below, indexes)] = world.nodes["edge"].backlog
    world.rebound.acked(below, indexes)
    assert world.over == [world.task]

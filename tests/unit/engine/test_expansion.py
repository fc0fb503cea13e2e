"""From plans to shares: who waits for whom, and where a task goes on that another engine began."""

from __future__ import annotations

from engine.delivery.expansion import blocked_of, mark_acked, shares_of, unlink
from engine.tasks.plan import Plan, Step
from engine.tasks.records import Progress
from engine.tasks.task import Task
from engine.tasks.words import ACKED, BLOCKED, Operation
from tests.fakes.shares import NotingNode

NODES = {name: NotingNode(name, name.partition("-")[0]) for name in ("parent-1", "parent-2", "edge-1")}


def step(node: str, *parents: int, is_parent: bool = False) -> Step:
    return Step(node, node.partition("-")[0], Operation.PURGE_URL, parents, is_parent)


TWO_LAYERS = Plan((step("parent-1", is_parent=True), step("parent-2", is_parent=True), step("edge-1", 0, 1)))


def task(plan: Plan, *, count: int = 3, prefetch: bool = False) -> Task:
    made = Task.internal([f"http://a.com/{number}" for number in range(count)], owner=None, task_id="t")
    made.plan, made.prefetch = plan, prefetch
    made.shares = shares_of(made, NODES)
    return made


def test_each_node_has_a_share_with_every_target_blocked() -> None:
    shares = task(TWO_LAYERS).shares
    assert [share.node.name for share in shares] == ["parent-1", "parent-2", "edge-1"]
    assert {share.operation for share in shares} == {Operation.PURGE_URL}
    assert [set(share.states) for share in shares] == [{BLOCKED}] * 3


def test_an_edge_waits_for_all_of_its_parents_target_by_target() -> None:
    parent, other, edge = task(TWO_LAYERS).shares
    assert parent.blockers is other.blockers is None
    assert list(edge.blockers or ()) == [2, 2, 2]
    assert list(edge.parents) == [parent, other]
    assert parent.children == other.children == [edge]


def test_a_purge_that_fetches_again_fetches_after_its_purge_and_after_its_parents() -> None:
    shares = task(TWO_LAYERS, prefetch=True).shares
    purges, fetches = shares[:3], shares[3:]
    assert {share.operation for share in fetches} == {Operation.PREFETCH}
    assert list(fetches[0].parents) == [purges[0]]
    assert list(fetches[2].parents) == [purges[2], fetches[0], fetches[1]]
    assert list(fetches[2].blockers or ()) == [3, 3, 3]


def test_each_share_has_the_operation_of_its_step() -> None:
    steps = (Step("parent-1", "parent", Operation.PURGE_URL, (), True),)
    soft = Step("edge-1", "edge", Operation.SOFT_URL, (0,), False)
    operations = [share.operation for share in task(Plan((*steps, soft))).shares]
    assert operations == [Operation.PURGE_URL, Operation.SOFT_URL]


def test_more_parents_than_a_byte_counts_are_counted_all_the_same() -> None:
    count = 300
    steps = (*(step("parent-1", is_parent=True) for _ in range(count)), step("edge-1", *range(count)))
    edge = task(Plan(steps), count=1).shares[-1]
    assert list(edge.blockers or ()) == [count]


def test_what_another_engine_had_acked_is_marked_and_the_rest_begins() -> None:
    going_on = task(TWO_LAYERS)
    parent, other, edge = going_on.shares
    purge = int(Operation.PURGE_URL)
    acked = mark_acked(
        going_on,
        Progress({("parent-1", purge): b"\1\0\1", ("edge-1", purge): b"\0\0\0"}, 1, {"parent-1": (1, 7.0)}),
    )
    assert acked == {parent: [0, 2], edge: []}
    assert list(parent.states) == [ACKED, BLOCKED, ACKED]
    assert (parent.acked_count, other.acked_count) == (2, 0)
    assert (parent.absent_count, parent.acked_at, edge.acked_at) == (1, 7.0, 0.0)
    assert blocked_of(parent) == [1]
    assert blocked_of(other) == [0, 1, 2]


def test_progress_of_another_number_of_targets_is_ignored() -> None:
    going_on = task(TWO_LAYERS)
    assert mark_acked(going_on, Progress({("parent-1", int(Operation.PURGE_URL)): b"\1"}, 0)) == {}
    assert blocked_of(going_on.shares[0]) == [0, 1, 2]


def test_an_unlinked_task_holds_nothing() -> None:
    over = task(TWO_LAYERS)
    shares = over.shares
    unlink(over)
    assert not over.shares
    assert [(share.children, share.parents) for share in shares] == [(None, ())] * 3

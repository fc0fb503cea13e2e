"""Purges sent early count for nobody."""

from __future__ import annotations

import itertools

from engine.delivery.early import send_below, send_early, send_rows_early
from engine.tasks.records import ParkedRow
from engine.tasks.task import Share, Task
from engine.tasks.words import FAILED, Operation
from tests.fakes.shares import NotingNode

PURGE, PREFIX, PREFETCH = Operation.PURGE_URL, Operation.PURGE_PREFIX, Operation.PREFETCH


def test_nobody_waits_for_the_answers() -> None:
    node = NotingNode()
    send_early(node, PURGE, ["http://a/1", "http://a/2"], "t")
    [(early, indexes)] = node.backlog
    assert (early.task.targets, indexes, early.operation) == (["http://a/1", "http://a/2"], [0, 1], PURGE)
    owner = early.task.owner
    assert owner is not None
    owner.acked(early, [0])
    owner.failed(early, [0], "answered 500")
    owner.parked(early, [0])
    owner.postponed(early, [0])


def test_of_rows_each_target_that_the_node_can_do_is_purged_once_and_nothing_is_prefetched() -> None:
    node = NotingNode()
    asked = [(PURGE, "http://a/1"), (PREFIX, "http://a/"), (PURGE, "http://a/1"), (PREFETCH, "http://a/1")]
    asked += [(Operation.PURGE_KEY, "a/x")]
    send_rows_early(
        node,
        [ParkedRow(n, n, "edge-1", int(op), target, "t", "p", 1.0) for n, (op, target) in enumerate(asked)],
        cannot=lambda operation, _: operation == Operation.PURGE_KEY,
    )
    assert [(share.operation, share.task.targets) for share, _ in node.backlog] == [
        (PURGE, ["http://a/1"]),
        (PREFIX, ["http://a/"]),
    ]


def test_what_waits_for_a_purge_is_purged_on_all_layers_below_and_not_prefetched() -> None:
    nodes = [NotingNode(name) for name in ("parent", "edge", "below")]
    task = Task.internal(["http://a/1", "http://a/2"], owner=None, task_id="t")
    shares = [Share(task, node, PURGE, 2) for node in nodes]
    for above, share in itertools.pairwise(shares):
        above.children = [share, Share(task, share.node, PREFETCH, 2)]
    shares[1].states[1] = FAILED
    send_below(shares[0], [0, 1])
    assert [[share.task.targets for share, _ in node.backlog] for node in nodes] == [
        [],
        [["http://a/1"]],
        [["http://a/1"]],
    ]

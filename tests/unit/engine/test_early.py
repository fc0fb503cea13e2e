"""Purges sent early count for nobody."""

from __future__ import annotations

from engine.delivery.early import send_early, send_rows_early
from engine.tasks.records import ParkedRow
from engine.tasks.words import Operation
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


def test_of_rows_each_target_is_purged_once_and_nothing_is_prefetched() -> None:
    node = NotingNode()
    asked = [(PURGE, "http://a/1"), (PREFIX, "http://a/"), (PURGE, "http://a/1"), (PREFETCH, "http://a/1")]
    send_rows_early(
        node,
        [ParkedRow(n, n, "edge-1", int(op), target, "t", "p", 1.0) for n, (op, target) in enumerate(asked)],
    )
    assert [(share.operation, share.task.targets) for share, _ in node.backlog] == [
        (PURGE, ["http://a/1"]),
        (PREFIX, ["http://a/"]),
    ]

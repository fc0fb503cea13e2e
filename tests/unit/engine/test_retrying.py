"""What a retry sends."""

from __future__ import annotations

import pytest

from engine.tasks.retrying import GROUPS_MAX, Group, groups_of, id_of
from engine.tasks.words import Operation

PURGE = int(Operation.PURGE_URL)
SOFT = int(Operation.SOFT_URL)
FETCH = int(Operation.PREFETCH)


def test_nodes_of_which_the_same_failed_share_a_task() -> None:
    failed = [("edge-1", PURGE, ["a", "b"]), ("edge-2", SOFT, ["a", "b"]), ("edge-3", PURGE, ["b"])]
    assert groups_of(failed) == [
        Group(is_prefetch=False, with_prefetch=False, nodes=["edge-1", "edge-2"], targets=["a", "b"]),
        Group(is_prefetch=False, with_prefetch=False, nodes=["edge-3"], targets=["b"]),
    ]


def test_a_purge_whose_fetch_failed_too_fetches_again_and_a_fetch_alone_purges_nothing() -> None:
    failed = [("edge-1", FETCH, ["both", "fetch"]), ("edge-1", PURGE, ["purge", "both"])]
    assert groups_of(failed) == [
        Group(is_prefetch=False, with_prefetch=False, nodes=["edge-1"], targets=["purge"]),
        Group(is_prefetch=False, with_prefetch=True, nodes=["edge-1"], targets=["both"]),
        Group(is_prefetch=True, with_prefetch=False, nodes=["edge-1"], targets=["fetch"]),
    ]


def test_there_are_so_many_tasks_at_the_most_and_nothing_is_left_out() -> None:
    failed = [(f"edge-{number}", PURGE, [f"t{number}", "all"]) for number in range(3 * GROUPS_MAX)]
    groups = groups_of(failed)
    assert len(groups) == GROUPS_MAX
    sent = {(node, target) for group in groups for node in group.nodes for target in group.targets}
    assert sent >= {(node, target) for node, _, targets in failed for target in targets}
    assert groups[0].nodes == ["edge-0"]


def test_nothing_failed_is_nothing_to_send() -> None:
    assert groups_of([]) == []


@pytest.mark.parametrize("length", [1, 40, 51, 52, 64])
def test_ids_of_retries_are_ids_and_differ(length: int) -> None:
    """Also of tasks whose ids are as long as ids may be, and begin alike."""
    names = ["x" * (length - 1) + end for end in "ab"]
    ids = {id_of(name, number, group) for name in names for number in (1, 9999) for group in (0, 1, 99)}
    assert len(ids) == 12
    assert max(map(len, ids)) <= 64
    assert id_of("release-1", 2) == "release-1.retry-2"
    assert id_of("release-1", 2, 1) == "release-1.retry-2.1"

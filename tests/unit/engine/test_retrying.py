"""What a retry sends."""

from __future__ import annotations

import ast

import pytest

from engine.tasks.handed_ids import root_of
from engine.tasks.lower import below_of
from engine.tasks.retrying import GROUPS_MAX, Group, Sent, groups_of, id_of, is_of_retry, owed_of
from engine.tasks.words import Operation
from tests.house import ROOT

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


def test_what_no_retry_sent_is_still_owed_and_of_the_rest_the_last_one_tells() -> None:
    failed = [("edge-1", PURGE, ["a", "b"]), ("edge-2", PURGE, ["a", "b"]), ("edge-3", PURGE, ["a"])]
    first = [
        Sent({"edge-1"}, ["a", "b"], purges=True, fetches=False, failed=[("edge-1", PURGE, ["b"])]),
        Sent({"edge-2"}, ["a"], purges=True, fetches=False, failed=[]),
    ]
    assert owed_of(failed, []) == failed
    assert owed_of(failed, [first]) == [
        ("edge-1", PURGE, ["b"]),
        ("edge-2", PURGE, ["b"]),
        ("edge-3", PURGE, ["a"]),
    ]
    last = [Sent({"edge-1", "edge-2", "edge-3"}, ["a", "b"], purges=True, fetches=False, failed=[])]
    assert owed_of(failed, [first, last]) == []


def test_a_purge_that_went_out_leaves_the_fetch_owed_that_did_not_and_the_other_way_round() -> None:
    failed = [("edge-1", SOFT, ["purge", "both"]), ("edge-1", FETCH, ["fetch", "both"])]
    purge = Sent({"edge-1"}, ["purge"], purges=True, fetches=False, failed=[])
    both = Sent({"edge-1"}, ["both"], purges=True, fetches=True, failed=[("edge-1", FETCH, ["both"])])
    fetch = Sent({"edge-1"}, ["both", "fetch"], purges=False, fetches=True, failed=[])
    assert owed_of(failed, [[purge]]) == [
        ("edge-1", SOFT, ["both"]),
        ("edge-1", FETCH, ["fetch", "both"]),
    ]
    assert owed_of(failed, [[purge, both]]) == [("edge-1", FETCH, ["fetch", "both"])]
    assert owed_of(failed, [[fetch]]) == [("edge-1", SOFT, ["purge", "both"])]
    assert owed_of(failed, [[purge, both], [fetch]]) == []


def test_ids_are_told_from_those_of_retries() -> None:
    for name in ("release.retry-x", ".retry-1", "release.retry-1.a", "retry-1", "release.retry-1-2"):
        assert not is_of_retry(name)


@pytest.mark.parametrize("length", [1, 40, 51, 52, 64])
def test_ids_of_retries_are_ids_and_differ(length: int) -> None:
    """Also of tasks whose ids are as long as ids may be, and begin alike."""
    names = ["x" * (length - 1) + end for end in "ab"]
    ids = {id_of(name, number, group) for name in names for number in (1, 9999) for group in (0, 1, 99)}
    assert len(ids) == 12
    assert max(map(len, ids)) <= 64
    assert all(map(is_of_retry, ids))
    assert id_of("release-1", 2) == "release-1.retry-2"
    assert id_of("release-1", 2, 1) == "release-1.retry-2.1"


def test_what_grows_with_targets_is_worked_on_the_threads_that_read() -> None:
    """Of 200 nodes with 10,000 targets each such a call takes 200 ms: no coroutine calls one itself."""
    long = {"groups_of", "owed_of", "_decode_failed", "_decode_page"}
    called, handed_over = set(), set()
    for name in ("retry", "retry_routes", "recalling"):
        tree = ast.parse((ROOT / "engine/api" / f"{name}.py").read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            called.add(ast.unparse(call.func))
            if ast.unparse(call.func) == "self._reader.read":
                handed_over.add(ast.unparse(call.args[0]))
    assert not called & long
    assert handed_over >= long


def test_a_retry_names_what_its_task_was_for_below_a_node() -> None:
    lower = {"eu": ["edge-7", "fr/edge-1"], "us": [":edge", ":fr/edge", "@canary", "edge-3"], "ap": [":edge"]}
    assert below_of(["p-1", "eu", "us", "ap", "sa"], lower) == [
        {"nodes": ["p-1", "eu/edge-7", "eu/fr/edge-1", "sa"]},
        {"nodes": ["us/edge-3"], "layers": ["us/edge", "us/fr/edge"], "groups": ["us/canary"]},
        {"nodes": ["ap"], "layers": ["ap/edge"]},
    ]
    assert below_of(["us"], {"us": [":edge"]}) == [{"nodes": ["us"], "layers": ["us/edge"]}]


def test_the_task_of_a_part_is_told_by_its_id() -> None:
    ids = ("t-1", "t-1~f", "t-1~0011223344556677", "t-1~0011~2233", "together~0011")
    assert [root_of(each) for each in ids] == ["t-1", "t-1", "t-1", "t-1", ""]

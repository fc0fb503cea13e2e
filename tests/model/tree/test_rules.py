"""Histories in which a rule of a tree is broken: the checker has to say so, and of no other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.model.fleet.reasons import ONCE, Window
from tests.model.tree.reasons import reason, repeats
from tests.model.tree.rules import TreeRecord, TreeRules

if TYPE_CHECKING:
    from collections.abc import Callable

URLS = [f"{ONCE}1", f"{ONCE}2"]
LEAVES = ("eu-1", "us-1")
SENT_AT = 100.0


class Tree:
    """What was seen of two regions, with a cache each."""

    def __init__(self) -> None:
        self.caches: dict[str, Any] = {
            leaf: SimpleNamespace(leaf=leaf, by_url={}, closings=[]) for leaf in LEAVES
        }
        self.gone: set[str] = set()
        self.rules = TreeRules(self.caches, [], lambda leaf, _: leaf not in self.gone)
        self.record = TreeRecord(
            "task-1", {"id": "task-1", "targets": URLS}, ("eu", "us"), frozenset(), {}, SENT_AT, leaves=LEAVES
        )
        self.record.is_accepted, self.record.total = True, 4
        self.rules.records["task-1"] = self.record
        for cache in self.caches.values():
            cache.by_url = {url: [SENT_AT + 1] for url in URLS}

    def see(self, state: str = "done", *, at: float = SENT_AT + 2, **numbers: int) -> None:
        """See a document of the task: both regions have done both targets, but for what is given of `eu`."""
        eu = {"total": 2, "acked": 2, "failed": 0, "delayed": 0, "cancelled": 0, **numbers}
        nodes = [_node("eu", eu), _node("us", {**eu, "total": 2, "acked": 2, "failed": 0, "delayed": 0})]
        nodes[1]["cancelled"] = 0
        layer = {key: sum(node[key] for node in nodes) for key in eu}
        layer["counter"] = layer.pop("acked")
        self.rules.saw(
            self.record,
            {
                "state": state,
                **layer,
                "layers": [{"name": "edge", **layer}],
                "nodes": nodes,
                "settled_at": 1.0 if state in {"done", "failed", "cancelled"} else None,
                "targets": URLS,
                "target_count": 2,
                "errors": [],
            },
            at,
        )

    @property
    def said(self) -> str:
        """What the checker has found."""
        return "\n".join(self.rules.found)


def _node(name: str, numbers: dict[str, int]) -> dict[str, Any]:
    return {
        "name": name,
        "layer": "edge",
        "absent": 0,
        "acked_at": 1.0 if numbers["acked"] else None,
        **numbers,
    }


def _end(tree: Tree) -> None:
    tree.rules.check_end(gone=set(), changed=set())


def test_a_tree_that_is_well_has_broken_nothing() -> None:
    tree = Tree()
    tree.see("running", acked=1)
    tree.see("partial", acked=1, delayed=1)
    tree.see()
    _end(tree)
    tree.rules.check_fresh(tree.record, "eu-1", URLS[0], b"new", "new")
    tree.rules.check_fresh(tree.record, "eu-1", URLS[0], b"", "new")  # an error of the cache
    assert tree.said == ""


def _lost_on_a_leaf(tree: Tree) -> None:
    del tree.caches["us-1"].by_url[URLS[1]]
    tree.see()


def _done_before(tree: Tree) -> None:
    tree.caches["us-1"].by_url[URLS[1]] = [SENT_AT - 1]
    tree.see()


def _old_page(tree: Tree) -> None:
    tree.see()
    tree.rules.check_fresh(tree.record, "eu-1", URLS[0], b"old", "new")


def _too_much_acked(tree: Tree) -> None:
    tree.see("running", acked=3)


def _done_in_part(tree: Tree) -> None:
    tree.see("done", acked=1)


def _other_total(tree: Tree) -> None:
    tree.see("running", total=3)


def _done_no_more(tree: Tree) -> None:
    tree.see()
    tree.see("partial", acked=1, delayed=1)


def _never_over(tree: Tree) -> None:
    tree.see("running", acked=1)
    _end(tree)


def _waits_for_ever(tree: Tree) -> None:
    tree.see("partial", acked=1, delayed=1)
    _end(tree)


def _failed_for_nothing(tree: Tree) -> None:
    tree.see("failed", acked=1, failed=1)
    _end(tree)


def _cancelled_by_nobody(tree: Tree) -> None:
    tree.see("cancelled", acked=1, cancelled=1)
    _end(tree)


def _nowhere(tree: Tree) -> None:
    _end(tree)


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (_lost_on_a_leaf, f"us-1 was never purged of {URLS[1]}"),
        (_done_before, f"us-1 was never purged of {URLS[1]}"),
        (_old_page, "eu-1 serves b'old'"),
        (_too_much_acked, "do not add up"),
        (_done_in_part, "do not add up"),
        (_other_total, "the total of"),
        (_done_no_more, "was done, and is partial"),
        (_never_over, "everything is well, and"),
        (_waits_for_ever, "everything is well, and"),
        (_failed_for_nothing, "everything is well, and"),
        (_cancelled_by_nobody, "everything is well, and"),
        (_nowhere, "everything is well, and"),
    ],
)
def test_a_tree_that_breaks_a_rule_is_found(breaks: Callable[[Tree], None], said: str) -> None:
    tree = Tree()
    breaks(tree)
    assert said in tree.said


def test_a_leaf_that_its_region_did_not_know_all_the_time_excuses_what_it_did_not_get() -> None:
    tree = Tree()
    tree.gone.add("us-1")
    tree.caches["us-1"].by_url = {}
    tree.see()
    assert tree.said == ""


def test_a_purge_that_came_twice_is_explained_by_what_went_wrong_on_its_way_and_by_nothing_else() -> None:
    tree = Tree()
    cache = tree.caches["eu-1"]
    cache.by_url[URLS[0]] = [101.0, 103.0]
    assert list(repeats(cache)) == [(101.0, 103.0)]
    assert reason(cache, 101.0, 103.0, []) == ""
    for who, since, until, is_reason in (
        ("eu", 100.5, 102.0, True),
        ("cache-eu-1", 102.0, 102.5, True),
        ("us", 100.5, 102.0, False),  # another region
        ("eu", 104.0, 105.0, False),  # after it
        ("eu", 10.0, 20.0, False),  # long before
    ):
        window = Window("cut off", frozenset({who}), since, until)
        assert reason(cache, 101.0, 103.0, [window]) == ("cut off" if is_reason else "")
    cache.closings = [102.0]
    assert reason(cache, 101.0, 103.0, []).startswith("the cache closed")

"""Leaves: what a child tells of them, what its parent takes of that, and the time that questions may take."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest

from engine.base.slices import AT_ONCE
from engine.tree.below import WITHIN_S, within_of
from engine.tree.census import Census
from engine.tree.leaves import leaves_of, names_of, readable
from engine.tree.words import LEAVES_MAX, Leaf, Leaves


def test_leaves_that_are_too_many_are_told_the_worst_first_and_the_rest_counted() -> None:
    rows = [Leaf(f"e{number}", "ready") for number in range(LEAVES_MAX)] + [Leaf("bad", "down")]
    told = leaves_of(rows)
    assert (told.leaves[0].name, len(told.leaves), told.left_out) == ("bad", LEAVES_MAX, 1)


def test_the_same_leaves_have_the_same_mark_and_others_another() -> None:
    one = leaves_of([Leaf("a", "ready")])
    assert one.seen == leaves_of([Leaf("a", "ready")]).seen != leaves_of([Leaf("a", "down")]).seen
    assert leaves_of([]).seen  # an empty one would ask for all again


@pytest.mark.parametrize("name", ["../x", "a/../b", "<script>", "a b", "a\n", "", "-a", "a/", "/a"])
def test_a_name_that_is_none_is_left_out_and_counted(name: str) -> None:
    told = readable(Leaves("x", [Leaf(name, "ready"), Leaf("fr/edge-1", "ready")]))
    assert ([leaf.name for leaf in told.leaves], told.left_out) == (["fr/edge-1"], 1)


def test_states_numbers_and_texts_are_what_they_can_be() -> None:
    leaf = Leaf("a", "excellent", reason="\x1b]0;x\x07\n" + "y" * 9999, delayed=-5, oldest_delayed_s=-1.0)
    [read] = readable(Leaves("x", [leaf])).leaves
    assert (read.state, read.delayed, read.oldest_delayed_s) == ("unknown", 0, 0.0)
    assert read.reason.isprintable()
    assert len(read.reason) <= 1000


def test_more_leaves_than_a_child_may_tell_of_are_not_taken() -> None:
    told = readable(Leaves("x", [Leaf(f"e{number}", "ready") for number in range(LEAVES_MAX + 3)]))
    assert (len(told.leaves), told.left_out) == (LEAVES_MAX, 3)


@pytest.mark.parametrize(
    ("told", "within_s"),
    [("", WITHIN_S), ("10", 8.0), ("1e9", WITHIN_S), ("0", 0.2), ("nan", 0.2), ("x", WITHIN_S), ("-1", 0.2)],
)
def test_each_level_waits_less_than_the_one_above(told: str, within_s: float) -> None:
    assert math.isclose(within_of(told), within_s)


def test_what_tasks_may_name_is_told_with_its_ways() -> None:
    rows = [Leaf("edge-1", "ready", "edge", groups=["canary"]), Leaf("fr/edge-2", "down", "edge")]
    told = readable(leaves_of(rows, ["edge", "country", "fr/edge", "no name\n"], ["canary"]))
    names = names_of(told, is_current=True)
    assert (names.is_told, names.is_sure) == (True, True)
    assert names.nodes == {"edge-1", "fr", "fr/edge-2"}
    assert names.layers == {"edge", "country", "fr/edge"}
    assert names.groups == {"canary"}
    assert names_of(told, is_current=False).is_sure is False
    assert names_of(Leaves(""), is_current=True).is_told is False
    untold = names_of(leaves_of(rows, ["edge"], untold=["de"]), is_current=True)
    assert (untold.is_told, untold.is_sure) == (False, False), "one below it has not told yet"


def test_what_a_version_before_told_has_layers_as_well() -> None:
    told = Leaves("x", [Leaf("edge-1", "ready", "edge"), Leaf("fr/edge-2", "ready", "edge")])
    names = names_of(told, is_current=True)
    assert names.layers == {"edge", "fr/edge"}
    assert (names.groups, names.is_told) == (frozenset(), True)
    silent = Leaves("x", [*told.leaves, Leaf("de", "down", "edge", "engine")])
    assert names_of(silent, is_current=True).is_told is False


async def test_ten_thousand_leaves_are_made_ready_in_many_turns_of_the_loop() -> None:
    node: Any = SimpleNamespace(name="eu", health=SimpleNamespace(is_down=False))
    census = Census(SimpleNamespace(), SimpleNamespace(), node)  # type: ignore[arg-type]
    census.told = Leaves("x", [Leaf(f"e{number}", "ready") for number in range(LEAVES_MAX)])
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    assert len(await census.rows()) == LEAVES_MAX
    counting.cancel()
    assert turns >= LEAVES_MAX // AT_ONCE
    first = await census.rows()
    assert await census.rows() is first, "they are made once for each answer"

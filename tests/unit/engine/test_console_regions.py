"""Regions on the page: what is wrong below one is seen on its tile, and its leaves in its panel."""

from __future__ import annotations

from typing import Any

from engine.api.below import LeafStatus
from engine.console.regions import LEAVES_MAX, folded

WORST = {"name": "eu/edge-2", "state": "down", "reason": "cannot be reached"}


def _node(**more: Any) -> dict[str, Any]:
    leaves = {
        "states": {"down": 1, "ready": 1},
        "worst": WORST,
        "learned_at": 5.0,
        "unwell_since": 3.0,
        "current": True,
        "error": "",
        **more,
    }
    return {"name": "eu", "state": "ready", "since": 1.0, "reason": "", "notes": [], "leaves": leaves}


def _leaf(name: str, state: str, **more: Any) -> LeafStatus:
    told = {"layer": "edge", "driver": "varnish", "reason": "", "delayed": 0, "oldest_delayed_s": 0.0, **more}
    return LeafStatus(name=name, region="eu", state=state, learned_at=5.0, current=True, **told)


LEAVES = [_leaf("eu/edge-1", "ready"), _leaf("eu/edge-2", "down", delayed=3, reason="cannot be reached")]


async def test_a_region_with_a_leaf_that_is_away_is_not_well_and_says_which() -> None:
    [eu] = await folded([_node()], LEAVES)
    assert (eu["state"], eu["since"]) == ("sick", 3.0)
    assert eu["reason"] == "1 down, 1 ready; eu/edge-2: cannot be reached"
    assert eu["notes"] == [
        "caches below it: 1 down, 1 ready",
        "eu/edge-2: down, 3 wait: cannot be reached",
        "eu/edge-1: ready",
    ]
    assert "leaves" not in eu  # the page gets what has changed, and these change all the time


async def test_a_region_that_is_away_stays_so_with_what_it_told_last() -> None:
    [eu] = await folded([{**_node(current=False), "state": "down", "reason": "unreachable"}], LEAVES)
    assert (eu["state"], eu["reason"]) == ("down", "unreachable")
    assert eu["notes"][0] == "caches below it, as it told last: 1 down, 1 ready"


async def test_a_region_that_has_told_nothing_says_why_and_a_cache_stays_as_it_is() -> None:
    cache = {"name": "edge-9", "state": "ready", "notes": []}
    [eu, same] = await folded([_node(learned_at=0.0, error="no answer"), cache], [])
    assert eu["notes"] == ["nothing is known of the caches below it: no answer"]
    assert same is cache


async def test_many_leaves_are_shown_in_part_and_the_rest_is_counted() -> None:
    many = [_leaf(f"eu/e{number:03}", "ready") for number in range(LEAVES_MAX + 5)]
    [eu] = await folded([_node(worst=None)], many)
    assert (eu["state"], len(eu["notes"])) == ("ready", LEAVES_MAX + 2)
    assert eu["notes"][-1] == "and 5 more: purgeline nodes --leaves"

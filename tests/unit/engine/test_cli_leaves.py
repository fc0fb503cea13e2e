"""Leaves of regions, as commands show them."""

from __future__ import annotations

from typing import Any

from engine.cli.cells import plain
from engine.cli.leaves import reason_of, regions_of, told
from engine.cli.looks import _unwell_first

WORST = {"name": "eu/edge-2", "state": "down", "reason": "cannot be reached"}


def _leaves(**more: Any) -> dict[str, Any]:
    states = {"down": 2, "ready": 98}
    return {"states": states, "worst": WORST, "current": True, "learned_at": 1.0, "error": "", **more}


def test_leaves_are_told_by_state_the_well_ones_first() -> None:
    assert told(_leaves()) == "98 ready, 2 down"
    assert told(_leaves(current=False)) == "98 ready, 2 down (last known)"
    assert told(_leaves(states={}, learned_at=0)) == "not known yet"


def test_a_pipe_has_them_in_one_cell() -> None:
    assert plain(_leaves()) == "down:2,ready:98"


def test_a_state_that_is_none_drives_no_terminal() -> None:
    assert "\x1b" not in told(_leaves(states={"\x1b[2J": 1}))


def test_a_region_has_a_row_with_its_worst_leaf_or_why_nothing_is_known() -> None:
    [row] = regions_of([{"name": "eu", "leaves": _leaves()}, {"name": "edge-1"}])
    assert (row["node"], row["worst"]) == ("eu", "eu/edge-2: cannot be reached")
    [row] = regions_of([{"name": "eu", "leaves": _leaves(error="no answer")}])
    assert row["worst"] == "no answer"


def test_a_region_that_is_ready_with_leaves_that_are_not_comes_before_those_that_are_well() -> None:
    bad: dict[str, Any] = {"name": "eu", "state": "ready", "leaves": _leaves()}
    assert reason_of(bad) == "98 ready, 2 down; eu/edge-2: cannot be reached"
    well: dict[str, Any] = {"name": "a", "state": "ready"}
    assert min([well, bad], key=_unwell_first) is bad
    assert reason_of({"leaves": _leaves(worst=None)}) == reason_of(well) == ""

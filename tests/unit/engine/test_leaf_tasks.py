"""What leaves did for a task, as their region tells: taken over, or why it cannot be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.api.below import Said
from engine.api.leaf_tasks import _IN_PARTS, LEAVES_MAX, _read

NODE = {"name": "edge-1", "layer": "edge", "total": 1, "acked": 1, "acked_at": 7.0}


def _said(**more: Any) -> Said:
    counts = {"state": "done", "total": 1, "counter": 1, "failed": 0, "delayed": 0, "cancelled": 0}
    return Said("eu", 200, msgspec.json.encode({**counts, "by": {"door": "tree"}, "nodes": [NODE], **more}))


def test_leaves_are_named_by_their_region_and_its_last_ack_is_its_time() -> None:
    region, leaves = _read(_said())
    assert (region.acked, region.leaves, region.acked_at, region.error) == (1, 1, 7.0, "")
    assert [leaf.name for leaf in leaves] == ["eu/edge-1"]


def test_nodes_that_are_regions_there_stand_for_nothing_where_their_leaves_do() -> None:
    silent: dict[str, Any] = {
        **dict.fromkeys(("leaves", "total", "acked", "failed", "delayed", "cancelled"), 0)
    }
    silent |= {"acked_at": None, "settled_at": None, "errors": [], "verify": None, "state": ""}
    regions = [{"name": "fr", "error": "", **silent}, {"name": "it", "error": "no answer", **silent}]
    nodes = [NODE, {**NODE, "name": "fr"}, {**NODE, "name": "it"}]
    region, leaves = _read(_said(nodes=nodes, regions=regions, leaves=[{**NODE, "name": "fr/edge-9"}]))
    assert [leaf.name for leaf in leaves] == ["eu/edge-1", "eu/fr/edge-9"]
    assert region.error == "it: no answer"


def test_a_task_that_a_client_of_the_region_has_under_the_same_id_is_not_shown() -> None:
    region, leaves = _read(_said(by={"door": "http"}))
    assert (region.error, leaves) == (_IN_PARTS, [])
    assert _read(Said("eu", 404, b"", "answered 404"))[0].error == _IN_PARTS


def test_hostile_names_texts_and_numbers_of_leaves_are_bounded() -> None:
    many = [{**NODE, "name": f"e{number}"} for number in range(LEAVES_MAX + 1)]
    region, leaves = _read(_said(nodes=[{**NODE, "name": "../x"}, {**NODE, "name": "<b>"}, *many]))
    assert (region.leaves, len(leaves)) == (LEAVES_MAX + 1, LEAVES_MAX)
    errors = [{"node": "a\x1b[2J", "target": "t\n", "reason": "r" * 9999}] * 500
    region, _ = _read(_said(errors=errors))
    assert len(region.errors) == 20
    assert region.errors[0]["node"] == "eu/a [2J"
    assert len(region.errors[0]["reason"]) == 1000


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"state": 1}'])
def test_an_answer_that_is_none_is_said_to_be(body: bytes) -> None:
    assert _read(Said("eu", 200, body))[0].error.startswith("its answer cannot be read: ")

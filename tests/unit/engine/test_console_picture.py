"""What has changed from one picture of the engine to the next."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.console.picture import Picture, change

NODES = [{"name": "edge-1", "acked": 1, "held": []}, {"name": "edge-2", "acked": 5, "held": []}]
BEFORE = Picture(1.0, NODES, {"timestamp": 1}, {"mode": "embedded"})


def told(now: Picture) -> dict[str, Any]:
    return dict(msgspec.to_builtins(change(BEFORE, now)))


def test_nothing_but_the_statistics_is_told_when_nothing_changed() -> None:
    assert told(Picture(2.0, NODES, {"timestamp": 2}, BEFORE.cluster)) == {
        "at": 2.0,
        "stats": {"timestamp": 2},
    }


def test_of_a_node_the_fields_that_changed_are_told() -> None:
    nodes = [{**NODES[0], "acked": 2}, NODES[1]]
    assert told(Picture(2.0, nodes, {}, BEFORE.cluster))["nodes"] == [{"name": "edge-1", "acked": 2}]


def test_nodes_that_come_and_go_are_told() -> None:
    new = {"name": "edge-3", "acked": 0}
    found = told(Picture(2.0, [NODES[1], new], {}, BEFORE.cluster))
    assert (found["nodes"], found["gone"]) == ([new], ["edge-1"])


def test_an_engine_that_is_ready_again_is_told() -> None:
    """An empty text is a change."""
    before = Picture(1.0, [], {}, {}, "the engine is starting")
    assert msgspec.to_builtins(change(before, Picture(2.0, [], {}, {})))["not_ready"] == ""

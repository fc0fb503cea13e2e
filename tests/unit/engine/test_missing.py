"""Rows that are missing: of the layer where that is known, no more than are missing; numbers add up."""

from typing import Any

import pytest

from engine.tasks.missing import fail_missing


def stored(**delayed: int) -> dict[str, Any]:
    layers = [
        {"name": name, "total": count + 1, "counter": 1, "failed": 0, "delayed": count}
        for name, count in delayed.items()
    ]
    return {
        "task_id": "t",
        "state": "partial",
        "active": True,
        "working_layer": "edge",
        "counter": len(layers),
        "failed": 0,
        "delayed": sum(delayed.values()),
        "layers": layers,
        "updated_at": 1.0,
        "errors": [],
    }


LAYERS = {"p1": "parent", "e1": "edge", "e2": "edge"}


@pytest.mark.parametrize(
    ("rows", "failed"),
    [
        ({"p1": 2, "e1": 1, "e2": 2}, [0, 0]),
        ({"p1": 2}, [0, 3]),
        ({"p1": 1, "e1": 1}, [1, 2]),
        ({"new": 4}, [1, 0]),  # of a node whose layer nobody knows
        ({"e1": 3, "new": 1}, [1, 0]),
        ({"e1": 9}, [0, 0]),
        ({}, [2, 3]),
    ],
)
def test_what_is_missing_fails(rows: dict[str, int], failed: list[int]) -> None:
    document = stored(parent=2, edge=3)
    missing = fail_missing(document, rows, LAYERS, "why", 9.0)
    assert missing == document["failed"] == sum(failed)
    assert [layer["failed"] for layer in document["layers"]] == failed
    assert document["counter"] + document["failed"] + document["delayed"] == 7
    assert document["state"] == ("partial" if document["delayed"] else "failed")
    assert document["active"] == bool(document["delayed"])
    assert [error["reason"] for error in document["errors"]] == [f"{n} subtasks: why" for n in failed if n]


def test_a_document_that_knows_its_nodes_says_which_of_them_misses_what() -> None:
    document = stored(parent=2, edge=3)
    delayed = {"p1": 2, "e1": 1, "e2": 2}
    document["nodes"] = [
        {"name": name, "layer": layer, "total": 3, "acked": 1, "delayed": delayed[name]}
        for name, layer in LAYERS.items()
    ]
    assert fail_missing(document, {"p1": 2, "e2": 1}, LAYERS, "why", 9.0) == 2
    assert [node.get("failed", 0) for node in document["nodes"]] == [0, 1, 1]
    assert [node["delayed"] for node in document["nodes"]] == [2, 0, 1]
    assert [layer["failed"] for layer in document["layers"]] == [0, 2]
    assert [error["node"] for error in document["errors"]] == ["e1", "e2"]

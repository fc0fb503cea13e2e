"""What a side makes of rows and documents."""

from __future__ import annotations

import json

import pytest

from engine.cli.migration.migrate import Holds
from engine.cli.migration.side import settled_state


def test_what_waits_only_for_unreachable_nodes_is_partial_in_an_embedded_store() -> None:
    text = settled_state(b'{"task_id":"a","state":"running","total":3}')
    assert json.loads(text) == {"task_id": "a", "state": "partial", "total": 3}


@pytest.mark.parametrize("state", ["done", "failed", "cancelled", "partial"])
def test_a_settled_document_is_copied_as_it_is(state: str) -> None:
    document = b'{"task_id": "a",  "state": "%b"}' % state.encode()
    assert settled_state(document) is document


def test_two_sides_are_compared_by_what_they_hold() -> None:
    one = Holds(documents=3, delayed={"a": 1, "b": 2})
    assert one.differences(Holds(documents=3, delayed={"a": 1, "b": 2})) == []
    assert one.differences(Holds(documents=4, delayed={"b": 1, "c": 1})) == [
        "documents: 3 and 4",
        "delayed of a: 1 and 0",
        "delayed of b: 2 and 1",
        "delayed of c: 0 and 1",
    ]
    assert one.shown()["delayed"] == 3

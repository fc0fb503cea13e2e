"""Counts to states, and documents folded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.tasks import documents
from engine.tasks.by_node import parts_of
from engine.tasks.document_types import LayerDocument, NodeDocument
from engine.tasks.documents import (
    add_error,
    settle_state,
    working_layer,
)
from engine.tasks.plan import Note, Plan, Skipped, Step
from engine.tasks.records import Late
from engine.tasks.stored_documents import apply_late, cancel_stored, is_final, public
from engine.tasks.task import ERRORS_MAX, Task
from engine.tasks.words import Operation, State


@pytest.mark.parametrize("is_due", [False, True])
@pytest.mark.parametrize(
    ("acked", "failed", "delayed", "cancelled", "early", "late"),
    [
        (4, 0, 0, 0, State.DONE, State.DONE),
        (3, 1, 0, 0, State.FAILED, State.FAILED),
        (0, 4, 0, 0, State.FAILED, State.FAILED),
        (3, 0, 1, 0, State.PARTIAL, State.PARTIAL),
        (2, 1, 1, 0, State.PARTIAL, State.PARTIAL),
        (3, 0, 0, 1, State.CANCELLED, State.CANCELLED),
        (2, 1, 0, 1, State.CANCELLED, State.CANCELLED),
        (2, 0, 1, 1, State.CANCELLED, State.CANCELLED),
        (3, 0, 0, 0, State.RUNNING, State.PARTIAL),
    ],
)
def test_a_state_follows_from_the_counts(
    acked: int, failed: int, delayed: int, cancelled: int, early: State, late: State, *, is_due: bool
) -> None:
    state = settle_state(
        total=4, acked=acked, failed=failed, delayed=delayed, cancelled=cancelled, is_due=is_due
    )
    assert state is (late if is_due else early)


def test_the_working_layer_is_the_first_with_something_left() -> None:
    done, busy = LayerDocument("a", 2, 1, 1, 0), LayerDocument("b", 2, 1, 0, 1)
    assert working_layer([done, busy]) == "b"
    assert working_layer([done]) is None
    assert parts_of(Task.internal([], owner=None, task_id="t"), NodeDocument) == ([], [])


def test_a_task_keeps_the_first_errors_only() -> None:
    task = Task.internal([], owner=None, task_id="t")
    for number in range(ERRORS_MAX + 50):
        add_error(task, "n", str(number), "r")
    assert len(task.errors) == ERRORS_MAX
    assert task.errors[0] == {"node": "n", "target": "0", "reason": "r"}


def stored(delayed: int = 2, state: str = "partial") -> dict[str, Any]:
    return {
        "state": state, "active": state == "partial", "working_layer": "edge", "errors": [{"reason": "late"}],
        "counter": 1, "failed": 0, "delayed": delayed, "updated_at": 1.0, "digest": "d", "callback": "c",
        "unknown": "of another version",
        "layers": [{"name": "edge", "total": 3, "counter": 1, "failed": 0, "delayed": delayed}],
    }  # fmt: skip


def test_late_results_of_an_unknown_layer_go_where_something_is_delayed() -> None:
    document = stored()
    apply_late(document, Late("t", "", 0, 1, {"reason": "gone"}, 2.0))
    assert (document["failed"], document["delayed"], document["state"]) == (1, 1, "partial")
    apply_late(document, Late("t", "edge", 1, 0, None, 3.0))
    assert (document["state"], document["active"]) == ("failed", False)
    assert document["unknown"] == "of another version"


def test_late_results_beyond_what_a_layer_waits_for_are_taken_from_the_others() -> None:
    """A removed node's rows were counted in the first layer that waited; or the layer has a new name."""
    document = stored()
    document["layers"] = [
        {"name": name, "total": 3, "counter": 0, "failed": 0, "delayed": 3} for name in ("parent", "edge")
    ]
    for _ in range(3):  # the edge's
        apply_late(document, Late("t", "", 0, 1, {"reason": "gone"}, 2.0))
    apply_late(document, Late("t", "parent", 2, 0, None, 3.0))
    assert (document["counter"], document["failed"], document["delayed"]) == (2, 3, 1)
    apply_late(document, Late("t", "renamed", 1, 0, None, 3.0))
    assert (document["counter"], document["delayed"], document["state"]) == (3, 0, "failed")
    assert [layer["failed"] for layer in document["layers"]] in ([0, 3], [1, 2])


def test_a_cancelled_document_stays_cancelled_and_its_counts_do_not_go_below_zero() -> None:
    document = stored()
    cancel_stored(document, 2.0)
    assert is_final(document)
    assert (document["delayed"], document["state"], document["working_layer"]) == (0, "cancelled", None)
    assert (document["cancelled"], document["layers"][0]["cancelled"]) == (2, 2)
    apply_late(document, Late("t", "edge", 1, 0, None, 2.0))
    assert (document["state"], document["counter"], document["delayed"]) == ("cancelled", 2, 0)
    assert (document["cancelled"], document["layers"][0]["delayed"]) == (1, 0)


@pytest.mark.parametrize("reason", ["", "refused"])
def test_a_task_whose_version_did_not_count_what_was_cancelled_does_not_end_as_done(reason: str) -> None:
    """An engine of the version before parked a subtask of a task that had been cancelled."""
    document = stored(delayed=1)  # 1 acked, 1 delayed, 1 cancelled and not counted
    assert "cancelled" not in document
    apply_late(document, Late("t", "edge", not reason, bool(reason), None, 2.0))
    assert (document["state"], document["active"], document["cancelled"]) == ("cancelled", False, 1)
    assert adds_up(document)


def test_results_of_one_layer_that_were_counted_in_another_make_no_task_cancelled() -> None:
    document = stored()
    document["layers"] = [
        {"name": name, "total": 3, "counter": 0, "failed": 0, "delayed": 3} for name in ("parent", "edge")
    ]
    apply_late(document, Late("t", "renamed", 3, 0, None, 2.0))
    apply_late(document, Late("t", "parent", 3, 0, None, 3.0))
    assert (document["state"], document["counter"]) == ("done", 6)
    assert adds_up(document)


def adds_up(document: dict[str, Any]) -> bool:
    """Tell whether the numbers of a stored task and of its layers add up: nothing of it is on its way."""
    counts = ("counter", "failed", "delayed", "cancelled")
    layers = document["layers"]
    return all(sum(layer.get(key, 0) for key in counts) == layer["total"] for layer in layers) and all(
        document.get(key, 0) == sum(layer.get(key, 0) for layer in layers) for key in counts
    )


def test_a_task_that_another_version_cancelled_is_shown_with_what_was_cancelled() -> None:
    old = {**stored(delayed=0, state="cancelled"), "total": 3}
    assert public(old)["cancelled"] == 2
    assert public({**old, "cancelled": 0})["cancelled"] == 2
    assert public(stored())["cancelled"] == 0


def test_clients_do_not_see_what_is_for_the_store() -> None:
    assert not {"digest", "callback", "token"} & set(public({**stored(), "token": "ci"}))
    assert public(stored())["unknown"]


def test_a_document_of_an_earlier_version_shows_empty_lists_where_it_has_none() -> None:
    skipped = [{"name": "edge-2", "reason": "squid, as configured, cannot purge by prefix"}]
    assert (public(stored())["skipped"], public(stored())["notes"]) == ([], [])
    assert public({**stored(), "skipped": skipped})["skipped"] == skipped


def test_a_document_names_the_nodes_that_the_plan_leaves_out() -> None:
    task = Task.internal([], owner=None, task_id="t")
    assert (documents.document(task).skipped, documents.document(task).notes) == ((), ())
    step = Step("edge-1", "edge", Operation.PURGE_URL, (), is_parent=False)
    task.plan = Plan((step,), (Skipped("edge-2", "why"),), (Note(("edge-1",), "what"),))
    shown = msgspec.json.decode(msgspec.json.encode(documents.stored_document(task)))
    assert shown["skipped"] == [{"name": "edge-2", "reason": "why"}]
    assert shown["notes"] == [{"nodes": ["edge-1"], "note": "what"}]


def test_late_delivery_adds_to_what_was_absent() -> None:
    """Of a document of a version that did not count it, too; and never beyond what was acked."""
    layers = [{"name": "edge", "total": 3, "counter": 1, "failed": 0, "delayed": 2}]
    stored: dict[str, Any] = {"state": "partial", "layers": layers, "errors": [], "counter": 1, "delayed": 2}
    apply_late(stored, Late("t", "edge", 1, 0, None, 2.0))
    assert "absent" not in stored
    assert public(stored)["absent"] == 0
    apply_late(stored, Late("t", "edge", 1, 0, None, 3.0, 1))
    assert (stored["state"], stored["absent"]) == ("done", 1)
    apply_late(stored, Late("t", "edge", 0, 0, None, 3.0, 9))
    assert stored["absent"] == 3

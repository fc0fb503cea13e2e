"""Stored tasks are told why their rows wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from engine.delivery.reasons import Reasons
from engine.tasks.records import Late, Noted, ParkedRow
from engine.tasks.stored_documents import apply_late, note_waiting
from engine.tasks.task import ERRORS_MAX


def row(task_id: str, target: str = "http://a/") -> ParkedRow:
    return ParkedRow(1, 1.0, "old", 1, target, task_id, "", 1.0)


def test_each_task_is_told_once_and_those_in_memory_know() -> None:
    noted: list[Noted] = []

    class Saver:
        note = noted.extend

    saver: Any = Saver()
    regions: Any = {"t": None, "u": None, "here": object()}
    reasons = Reasons(regions, SimpleNamespace(of=lambda _: saver))  # type: ignore[arg-type]
    reasons.tell([row("t"), row("t", "http://b/"), row("u"), row("here")], "gone: why")
    reasons.tell([row("t"), row("u")], "gone: why")
    assert noted == [Noted("t", "old", "http://a/", "gone: why"), Noted("u", "old", "http://a/", "gone: why")]
    reasons.tell([row("t")], "incapable: why")
    assert noted[2].reason == "incapable: why"


def test_a_document_says_why_a_node_waits_now_and_not_why_it_did_before() -> None:
    errors = [
        ("old", "unreachable: no route"),
        ("old", "refused: answered 403"),
        ("old", "gone: since noon"),
        ("e1", "gone: since noon"),
    ]
    stored: dict[str, Any] = {
        "state": "partial",
        "errors": [{"node": node, "target": "x", "reason": why} for node, why in errors],
    }
    note_waiting(stored, Noted("t", "old", "y", "gone: since one"))
    assert [(one["node"], one["target"], one["reason"]) for one in stored["errors"]] == [
        ("old", "x", "refused: answered 403"),
        ("e1", "x", "gone: since noon"),
        ("old", "y", "gone: since one"),
    ]


def test_what_fails_because_its_node_is_gone_does_not_say_any_more_that_it_waits() -> None:
    layer = {"name": "edge", "total": 3, "counter": 0, "failed": 0, "delayed": 3}
    waits = {"node": "old", "target": "x", "reason": "gone: since noon; it is sent when the node is back"}
    stored: dict[str, Any] = {"state": "partial", "layers": [layer], "errors": [waits]}
    for target in ("x", "y"):
        error = {"node": "old", "target": target, "reason": "gone: since noon, for too long"}
        apply_late(stored, Late("t", "edge", 0, 1, error, 5.0))
    assert [(one["target"], one["reason"]) for one in stored["errors"]] == [
        ("x", "gone: since noon, for too long"),
        ("y", "gone: since noon, for too long"),
    ]
    assert (stored["failed"], stored["delayed"]) == (2, 1)


def test_a_document_that_has_all_the_errors_it_shows_says_it_all_the_same() -> None:
    error = {"node": "e", "target": "x", "reason": "answered 500"}
    stored: dict[str, Any] = {"state": "partial", "errors": [error] * ERRORS_MAX}
    note_waiting(stored, Noted("t", "old", "y", "gone: since one"))
    assert len(stored["errors"]) == ERRORS_MAX
    assert stored["errors"][-1]["reason"] == "gone: since one"

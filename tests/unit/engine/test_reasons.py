"""Stored tasks are told why their rows wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from engine.delivery.reasons import Reasons
from engine.tasks.documents import note_waiting
from engine.tasks.records import Noted, ParkedRow
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


def test_a_document_says_the_last_reason_of_a_kind_for_a_node() -> None:
    stored: dict[str, Any] = {
        "errors": [
            {"node": "old", "target": "x", "reason": "unreachable: no route"},
            {"node": "old", "target": "x", "reason": "gone: since noon"},
            {"node": "e1", "target": "x", "reason": "gone: since noon"},
        ]
    }
    note_waiting(stored, Noted("t", "old", "y", "gone: since one"))
    assert [(one["node"], one["target"], one["reason"]) for one in stored["errors"]] == [
        ("old", "x", "unreachable: no route"),
        ("e1", "x", "gone: since noon"),
        ("old", "y", "gone: since one"),
    ]


def test_a_document_that_has_all_the_errors_it_shows_says_it_all_the_same() -> None:
    stored: dict[str, Any] = {"errors": [{"node": "e", "target": "x", "reason": "answered 500"}] * ERRORS_MAX}
    note_waiting(stored, Noted("t", "old", "y", "gone: since one"))
    assert len(stored["errors"]) == ERRORS_MAX
    assert stored["errors"][-1]["reason"] == "gone: since one"

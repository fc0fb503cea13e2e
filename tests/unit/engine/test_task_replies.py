"""Replies about tasks."""

from __future__ import annotations

import json

from engine.intake.task_replies import conflict, stored


def test_a_stored_task_is_shown_without_what_is_the_engines_own() -> None:
    reply = stored(b'{"task_id":"a","state":"done","digest":"ff","token":"cms"}')
    assert (reply.status, json.loads(reply.body)) == (
        200,
        {"task_id": "a", "state": "done", "cancelled": 0, "skipped": [], "notes": []},
    )


def test_a_conflict_names_the_id() -> None:
    error = conflict("a")
    assert (error.status, error.field) == (409, "id")
    assert "'a'" in error.detail

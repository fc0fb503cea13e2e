"""Replies about tasks."""

from __future__ import annotations

import json

import pytest

from engine.intake.task_replies import conflict, stored
from engine.tasks.task import Task


def test_a_stored_task_is_shown_without_what_is_the_engines_own() -> None:
    reply = stored({"task_id": "a", "state": "done", "digest": "ff", "token": "cms"})
    assert (reply.status, json.loads(reply.body)) == (
        200,
        {
            "task_id": "a",
            "state": "done",
            "cancelled": 0,
            "absent": 0,
            "skipped": [],
            "notes": [],
            "by": {"token": "cms", "address": "", "door": ""},
            "targets": [],
            "target_count": 0,
            "settled_at": None,
            "nodes": [],
            "start_at": None,
            "verify": None,
            "retries": None,
            "rewind": None,
            "traceparent": None,
        },
    )


@pytest.mark.parametrize(
    ("token", "digest", "older", "text"),
    [
        ("", b"d", "", None),
        ("", b"d", "cms", None),
        ("cms", b"d", "cms", None),
        ("cms", b"d", "shop", "another client"),
        ("cms", b"d", "", "another client"),
        ("cms", b"x", "shop", "another client"),
        ("cms", b"x", "cms", "another body"),
        ("", b"x", "", "another body"),
    ],
)
def test_a_task_is_answered_with_an_older_one_only_when_it_is_the_same_again(
    token: str, digest: bytes, older: str, text: str | None
) -> None:
    """A client that is limited to sites learns nothing of a task that it cannot see."""
    task = Task.internal(["http://a/"], owner=None, task_id="a")
    task.token, task.digest = token, b"d"
    error = conflict(task, digest, older)
    if text is None:
        assert error is None
    else:
        assert error is not None
        assert (error.status, error.field) == (409, "id")
        assert "'a'" in error.detail
        assert text in error.detail

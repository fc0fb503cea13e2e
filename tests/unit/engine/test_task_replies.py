"""Replies about tasks."""

from __future__ import annotations

import json

from engine.intake.replies import Reply
from engine.intake.task_replies import LinesReply, conflict, stored


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


def test_replies_of_lines_come_as_one_in_the_order_of_the_lines() -> None:
    """In whatever order they are made, and only when the last one is there."""
    answered: list[Reply] = []
    replies = LinesReply(3, answered.append)
    for number in (2, 0):
        replies.line(number)(Reply(202, b'{"n":%d}' % number))
        assert answered == []
    replies.line(1)(Reply(503, b'{"n":1}'))
    [reply] = answered
    assert (reply.status, reply.content_type) == (200, "application/x-ndjson")
    assert reply.body == b'{"n":0}\n{"n":1}\n{"n":2}\n'

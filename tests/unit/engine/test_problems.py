"""Errors as problem documents."""

import json

import pytest

from engine.errors import BacklogFullError, EngineError, NodeError, RateLimitedError, RequestError, StoreError
from engine.intake.problems import CONTENT_TYPE, problem, reply_of


@pytest.mark.parametrize(
    ("exc", "status", "headers"),
    [
        (RequestError(422, "due_s: takes seconds", field="due_s"), 422, {}),
        (RequestError(405, "no", headers={"Allow": "GET"}), 405, {"Allow": "GET"}),
        (RateLimitedError("a", retry_after_s=0.2), 429, {"Retry-After": "1"}),
        (RateLimitedError("a", retry_after_s=7.2), 429, {"Retry-After": "8"}),
        (BacklogFullError("saver_queue", retry_after_s=1), 503, {"Retry-After": "1"}),
        (StoreError("disk full"), 503, {"Retry-After": "2"}),
        (NodeError("inner detail"), 500, {}),
    ],
)
def test_each_error_has_its_status(exc: EngineError, status: int, headers: dict[str, str]) -> None:
    """The body says the same status; the detail is the error's sentence, but never an inner one's."""
    reply = reply_of(exc)
    body = json.loads(reply.body)
    assert (reply.status, body["status"], reply.content_type) == (status, status, CONTENT_TYPE)
    assert dict(reply.headers) == headers
    assert body["title"]
    assert (str(exc) in body["detail"]) is (status != 500)


def test_field_is_there_only_for_an_error_about_one() -> None:
    assert json.loads(problem(422, "x", field="targets[3]").body)["field"] == "targets[3]"
    assert "field" not in json.loads(problem(400, "x").body)


def test_any_text_makes_a_document() -> None:
    """Quotes, line ends and what is not ASCII come through."""
    detail = 'a "quote"\r\nand ü \x00'
    assert json.loads(problem(400, detail).body)["detail"] == detail


@pytest.mark.parametrize(
    ("request_", "begin"),
    [
        ("", "the task was not saved, try again: "),
        ("POST /v1/engine/tasks", "the task was not saved, try again: "),
        ("POST /v1/engine/retries", "the task was not saved, try again: "),
        ("GET /v1/engine/task/a", "the store cannot be read, try again: "),
        ("PUT /v1/engine/nodes/edge-1/pause", "it was not done, try again: "),
    ],
)
def test_a_store_that_fails_says_what_it_has_kept_the_request_from(request_: str, begin: str) -> None:
    body = json.loads(reply_of(StoreError("disk full"), request=request_).body)
    assert body["detail"] == f"{begin}disk full"

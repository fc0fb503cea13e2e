"""How a request that failed is told."""

from __future__ import annotations

import time
from email.message import Message
from email.utils import formatdate

import pytest

from engine.client.errors import refusal_of


def headers(**fields: str) -> Message:
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


def test_the_sentence_of_the_problem_document_is_told() -> None:
    problem = refusal_of(422, headers(), b'{"title": "Unprocessable", "detail": "id: too long"}')
    assert (str(problem), problem.is_busy, problem.retry_after_s) == ("id: too long (422)", False, None)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", b"{}"])
def test_without_a_problem_document_the_status_is_named(content: bytes) -> None:
    assert str(refusal_of(404, headers(), content)) == "the engine answered: Not Found (404)"


def test_a_redirection_names_the_address() -> None:
    assert "redirected to http://b/" in str(refusal_of(301, headers(Location="http://b/"), b""))


@pytest.mark.parametrize(("value", "wait_s"), [("7", 7), ("soon", None), ("-1", None), ("", None)])
def test_retry_after_in_seconds(value: str, wait_s: float | None) -> None:
    problem = refusal_of(503, headers(Retry_After=value), b"")
    assert (problem.is_busy, problem.retry_after_s) == (True, wait_s)


def test_retry_after_as_a_date() -> None:
    coming = formatdate(time.time() + 100, usegmt=True)
    wait_s = refusal_of(503, headers(Retry_After=coming), b"").retry_after_s
    assert wait_s is not None
    assert 90 < wait_s <= 100
    past = refusal_of(503, headers(Retry_After=formatdate(1, usegmt=True)), b"")
    assert past.retry_after_s == 0

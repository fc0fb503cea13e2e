"""Answers of a worker's private HTTP socket."""

from __future__ import annotations

import pytest

from engine.supervisor.asking import is_whole, reason_of, status_and_body

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"


def test_an_answer_is_whole_when_its_body_has_the_length_that_it_names() -> None:
    assert [is_whole(ANSWER[:size]) for size in (0, 20, len(ANSWER) - 1, len(ANSWER))] == [
        False,
        False,
        False,
        True,
    ]


def test_without_a_length_only_the_close_ends_it() -> None:
    assert not is_whole(b"HTTP/1.1 200 OK\r\n\r\nfine")


def test_status_and_body() -> None:
    assert status_and_body(ANSWER) == (200, b"fine")
    assert status_and_body(b"HTTP/1.0 503 Starting") == (503, b"")


@pytest.mark.parametrize("data", [b"", b"SSH-2.0\r\n", b"HTTP/2 200\r\n\r\n"])
def test_what_is_not_http_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an HTTP answer"):
        status_and_body(data)


def test_a_reason_shows_the_beginning_of_the_body() -> None:
    assert reason_of(503, b"\xffstore" + b"." * 1000) == "/readyz answers 503: \ufffdstore" + "." * 494

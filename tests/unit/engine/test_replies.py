"""Replies as the fast lane writes them."""

from __future__ import annotations

import pytest

from engine.intake.replies import Reply, ReplyWriter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.5]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now


def test_a_reply_is_a_whole_http_response(clock: list[float]) -> None:
    text = ReplyWriter("purgeline/1").write(Reply(202, b"{}"), is_last=False)
    assert text == (
        b"HTTP/1.1 202 Accepted\r\nServer: purgeline/1\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_the_last_reply_says_that_the_connection_is_closed(clock: list[float]) -> None:
    write = ReplyWriter("s").write
    assert b"\r\nConnection: close\r\n" in write(Reply(200, b""), is_last=True)
    assert b"Connection" not in write(Reply(200, b""), is_last=False)


def test_headers_of_one_reply_are_not_in_the_next(clock: list[float]) -> None:
    write = ReplyWriter("s").write
    assert b"\r\nRetry-After: 1\r\nContent-Length: 0" in write(
        Reply(503, b"", headers={"Retry-After": "1"}), is_last=False
    )
    assert b"Retry-After" not in write(Reply(503, b""), is_last=False)


def test_kinds_of_replies_have_heads_of_their_own(clock: list[float]) -> None:
    write = ReplyWriter("s").write
    assert b"Content-Type: application/json\r\n" in write(Reply(200, b""), is_last=False)
    assert b"Content-Type: text/plain\r\n" in write(Reply(200, b"", "text/plain"), is_last=False)
    assert write(Reply(404, b""), is_last=False).startswith(b"HTTP/1.1 404 Not Found\r\n")


def test_the_date_follows_the_clock(clock: list[float]) -> None:
    write = ReplyWriter("s").write
    first = write(Reply(200, b""), is_last=False)
    clock[0] = 1.5
    assert b"00:00:00 GMT" in first
    assert b"00:00:01 GMT" in write(Reply(200, b""), is_last=False)

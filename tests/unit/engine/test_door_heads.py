"""Heads of a purge door: one meaning, or a refusal."""

from __future__ import annotations

import pytest

from engine.doors.purge.heads import HeadReader, UnframedError


def read(text: bytes) -> object:
    return HeadReader().read(text)


def test_a_head_is_read_as_it_stands() -> None:
    head = HeadReader().read(b"PURGE /a%20b?q=1 HTTP/1.1\r\nHost: a.example.com\r\nX-Tags:  a b \r\n\r\n")
    assert (head.method, head.target, head.is_last, head.is_old) == ("PURGE", "/a%20b?q=1", False, False)
    assert (head.get("host"), head.get("x-tags"), head.get("none")) == ("a.example.com", "a b", "")


@pytest.mark.parametrize(
    ("version", "connection", "is_last", "is_old"),
    [
        ("1.1", "", False, False),
        ("1.1", "Connection: close\r\n", True, False),
        ("1.1", "Connection: TE, Close\r\n", True, False),
        ("1.0", "", True, False),
        ("1.0", "Connection: Keep-Alive\r\n", False, True),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", True, False),
    ],
)
def test_it_tells_whether_the_connection_goes_on(
    version: str, connection: str, *, is_last: bool, is_old: bool
) -> None:
    head = HeadReader().read(f"BAN / HTTP/{version}\r\n{connection}\r\n".encode())
    assert (head.is_last, head.is_old) == (is_last, is_old)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"PURGE /a b HTTP/1.1\r\n\r\n", "first line"),
        (b"PURGE  /a HTTP/1.1\r\n\r\n", "first line"),
        (b"PURGE /\xc3\xa9 HTTP/1.1\r\n\r\n", "percent-encoded"),
        (b"PURGE /a HTTP/2.0\r\n\r\n", "version"),
        (b"purge /a HTTP/1.1\r\n\r\n", "first line"),
        (b"PURGE /a HTTP/1.1\r\nHost : a\r\n\r\n", "no field"),
        (b"PURGE /a HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "no field"),
        (b"PURGE /a HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "no field"),
        (b"PURGE /a HTTP/1.1\r\nHost: a\x00\r\n\r\n", "no field"),
        (b"PURGE /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "host: is there twice"),
        (b"PURGE /a HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 4\r\n\r\n", "twice"),
        (b"PURGE /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer-encoding"),
        (b"PURGE /a HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "content-length"),
        (b"PURGE /a HTTP/1.1\r\nContent-Length:\r\n\r\n", "content-length"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(UnframedError, match=says):
        read(text)

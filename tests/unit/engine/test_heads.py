"""Which heads are for the fast lane, and what they are read as."""

from __future__ import annotations

import pytest

from engine.intake import heads
from engine.intake.heads import KnownHeads, parse_head

LINE = b"POST /v1/engine/task HTTP/1.1\r\nHost: engine\r\n"
LENGTH = b"Content-Length: 44\r\n"


@pytest.mark.parametrize(
    ("fields", "is_last"),
    [
        (b"", False),
        (b"Connection: keep-alive\r\n", False),
        (b"connection:keep-alive\r\n", False),
        (b"Connection: Keep-Alive\r\n", False),
        (b"Connection: close\r\n", True),
        (b"connection:close\r\n", True),
        (b"Accept: */*\r\nUser-Agent: curl/8\r\nContent-Type: application/json\r\n", False),
        (b"Content-Type: application/json; charset=utf-8\r\n", False),
    ],
)
def test_heads_of_usual_clients_are_for_the_fast_lane(fields: bytes, is_last: bool) -> None:
    """Also with what many libraries send by default."""
    head = parse_head(LINE + fields + LENGTH + b"\r\n")
    assert head is not None
    assert (head.is_lines, head.body_bytes, head.is_last) == (False, 44, is_last)


@pytest.mark.parametrize(
    "text",
    [
        LINE + b"\r\n",
        LINE + LENGTH + LENGTH + b"\r\n",
        LINE + LENGTH + b"Content-Type: application/json\r\nContent-Type: application/json\r\n\r\n",
        LINE + LENGTH + b"Host: engine\r\n\r\n",
        LINE + LENGTH + b"Origin: http://evil.example\r\n\r\n",
        LINE + LENGTH + b"sec-fetch-site: cross-site\r\n\r\n",
        LINE + LENGTH + b"X: 1\r\nx: 2\r\n\r\n",
        (LINE + LENGTH + b"\r\n").replace(b"Host", b"Hose"),
        LINE + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n",
        LINE + LENGTH + b"Expect: 100-continue\r\n\r\n",
        LINE + LENGTH + b"Upgrade: h2c\r\n\r\n",
        LINE + LENGTH + b"Connection: upgrade\r\n\r\n",
        LINE + LENGTH + b"Connection: close, x\r\n\r\n",
        LINE + LENGTH + b"Content-Encoding: gzip\r\n\r\n",
        LINE + LENGTH + b"Content-Type: text/plain\r\n\r\n",
        LINE + LENGTH + b"Content-Type:\r\n\r\n",
        LINE + LENGTH + b"Authorization: a\r\nAuthorization: b\r\n\r\n",
        LINE + b"Content-Length : 2\r\n\r\n",
        LINE + b"Content-Length: +2\r\n\r\n",
        LINE + b"Content-Length: 2, 2\r\n\r\n",
        LINE + b"Content-Length: 9999999999999\r\n\r\n",
        LINE + LENGTH + b"X: a\x00\r\n\r\n",
        LINE + LENGTH + b"X: a\r\n b\r\n\r\n",
        (LINE + LENGTH + b"\r\n").replace(b"\r\n", b"\n"),
        LINE.replace(b"1.1", b"1.0") + LENGTH + b"\r\n",
        LINE.replace(b"task ", b"taskss ") + LENGTH + b"\r\n",
        LINE.replace(b"POST", b"post") + LENGTH + b"\r\n",
        LINE.replace(b"task ", b"task?a=b ") + LENGTH + b"\r\n",
    ],
)
def test_anything_else_is_for_aiohttp(text: bytes) -> None:
    assert parse_head(text) is None


def test_authorization_is_read_as_it_was_written() -> None:
    """The names of fields have no case, a token has."""
    head = parse_head(LINE + b"AUTHORIZATION: Bearer AbC \r\n" + LENGTH + b"\r\n")
    assert head is not None
    assert head.authorization.strip() == b"Bearer AbC"


def test_the_route_of_ndjson_is_told_apart() -> None:
    head = parse_head(LINE.replace(b"task ", b"tasks ") + LENGTH + b"\r\n")
    assert head is not None
    assert head.is_lines


def test_a_head_seen_before_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one that aiohttp has to read."""
    known = KnownHeads()
    plain, odd = LINE + LENGTH + b"\r\n", LINE + b"\r\n"
    first = known.parse(plain), known.parse(odd)
    monkeypatch.setattr(heads, "parse_head", None)
    assert (known.parse(plain), known.parse(odd)) == first == (parse_head(plain), None)


def test_what_is_remembered_is_bounded() -> None:
    """Clients choose the heads: neither many nor long ones may fill the memory."""
    known = KnownHeads()
    for number in range(3 * heads._KNOWN_MAX):
        known.parse(LINE + b"Content-Length: %d\r\n\r\n" % number)
        assert len(known._known) <= heads._KNOWN_MAX
    count = len(known._known)
    assert known.parse(LINE + LENGTH + b"X: " + b"a" * 2000 + b"\r\n\r\n") is not None
    assert len(known._known) == count


def test_a_head_with_a_traceparent_comes_once_and_is_not_remembered() -> None:
    known = KnownHeads()
    value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for said, kept in ((value, value), (value.upper(), ""), ("none", "")):
        head = known.parse(LINE + b"Traceparent: " + said.encode() + b"\r\n" + LENGTH + b"\r\n")
        assert head is not None
        assert head.traceparent == kept
    assert len(known._known) == 2
    twice = (b"traceparent: " + value.encode() + b"\r\n") * 2
    assert known.parse(LINE + twice + LENGTH + b"\r\n") is None, "aiohttp's lane ignores both"

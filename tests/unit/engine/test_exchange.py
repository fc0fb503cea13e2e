"""HTTP answers, in pieces of any size, from whatever answers at an engine's address."""

from __future__ import annotations

import pytest

from engine.client.exchange import (
    HEADERS_MAX,
    AnswerReader,
    EarlyEndError,
    NoHttpError,
    Received,
    host_of,
    request,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def reader_of(data: bytes, *, piece: int = 1 << 16) -> AnswerReader:
    """Return a reader of these bytes, which come in pieces; then the other side has ended."""
    pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
    return AnswerReader(lambda: pieces.pop(0) if pieces else b"")


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
def test_an_answer_comes_in_pieces_of_any_size(piece: int) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b: c \r\n\r\nhello"
    reader = reader_of(data + data.replace(b"hello", b"again"), piece=piece)
    first = reader.read("GET")
    assert (first.status, first.content) == (200, b"hello")
    assert first.headers == {"content-length": "5", "x-a": "b: c"}
    assert reader.read("GET").content == b"again"


@pytest.mark.parametrize(
    ("data", "content", "keeps"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", b"a", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", b"a", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na", b"a", True),
        (b"HTTP/1.1 200\r\n\r\nto the end", b"to the end", False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", b"a", True),
        (b"HTTP/1.1 200 OK\nContent-Length: 1\n\na", b"a", True),
        (
            CHUNKED + b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: u\r\n\r\n",
            b"abc0123456789",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", b"a", False),
        (b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 1\r\n\r\na", b"a", True),
    ],
)
def test_where_an_answer_ends(data: bytes, content: bytes, *, keeps: bool) -> None:
    answer = reader_of(data).read("GET")
    assert (answer.content, answer.keeps) == (content, keeps)


def test_an_answer_to_head_has_no_body() -> None:
    assert reader_of(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").read("HEAD") == Received(
        200, {"content-length": "5"}, b"", keeps=True
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        CHUNKED + b"5\r\nhell",
        CHUNKED + b"4\r\nhell\r\n",
        CHUNKED + b"0\r\n",
    ],
)
def test_an_answer_that_is_cut_short_is_told_from_one_that_is_none(data: bytes) -> None:
    with pytest.raises(EarlyEndError):
        reader_of(data).read("GET")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"+PONG\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: ²\r\n\r\n".encode("latin-1"),
        CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
        CHUNKED + b"\r\n",
        b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (HEADERS_MAX + 1) + b"\r\n",
    ],
)
def test_what_is_no_http_is_told(data: bytes) -> None:
    with pytest.raises(NoHttpError):
        reader_of(data).read("GET")


def test_a_request_says_the_length_of_its_body() -> None:
    head = request("POST", "/v1/a?b=c", host="h:1", headers={"Accept": "x"}, body=b"abc")
    assert head == (
        b"POST /v1/a?b=c HTTP/1.1\r\nHost: h:1\r\nAccept-Encoding: identity\r\nAccept: x\r\n"
        b"Content-Length: 3\r\n\r\n"
    )
    assert b"Content-Length: 0\r\n" in request("POST", "/", host="h", headers={})
    assert b"Content-Length" not in request("GET", "", host="h", headers={})
    assert request("GET", "", host="h", headers={}).startswith(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/ä", "/a\x00", "/a\x7f"])
def test_nothing_is_slipped_into_a_request(path: str) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        request("GET", path, host="h", headers={})
    with pytest.raises(ValueError, match="cannot be"):
        request("GET", "/", host="h", headers={"X": "a\r\nb"})


@pytest.mark.parametrize(
    ("host", "port", "named"),
    [("a", None, "a"), ("a", 1, "a:1"), ("::1", 80, "[::1]:80"), ("fe80::1%eth0", None, "[fe80::1]")],
)
def test_a_host_is_named_as_its_header_takes_it(host: str, port: int | None, named: str) -> None:
    assert host_of(host, port) == named

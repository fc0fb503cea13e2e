"""What a cache says in an answer, in its own words."""

from __future__ import annotations

import pytest

from engine.nodes.said import SAID_MAX, said_in

PAGE = (
    b"<html><head><title>x</title><style>a{}</style></head>\r\n<body><h1>Bad  ban</h1>at &quot;[&quot;</body>"
)


def answer(line: bytes, body: bytes = b"", *lines: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + line, *lines, b"Content-Length: 9", b"", body])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (answer(b"400 Bad ban: missing ] at offset 9", b"a page"), "Bad ban: missing ] at offset 9"),
        (answer(b"400 Bad Request", b"no\tsuch\r\npattern "), "no such pattern"),
        (answer(b"400 bad request"), ""),
        (answer(b"400"), ""),
        (answer(b"400 "), ""),
        (answer(b"499", b"why"), "why"),
        (answer(b"400 Bad Request", PAGE), "Bad ban at &quot;[&quot;"),
        (answer(b"400 Bad Request", b"<p>cut <b"), "cut"),
        (answer(b"400 Bad Request", b"\x1f\x8b\x08", b"Content-Encoding: gzip"), ""),
        (answer(b"400 Bad Request", b"4\r\nwhy?\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"), "why?"),
        (answer(b"400 \x1b[31mred\x00\xff\xe2\x80\xae"), "[31mred \ufffd"),
        (b"", ""),
    ],
)
def test_it_is_the_reason_phrase_or_else_the_page(text: bytes, said: str) -> None:
    assert said_in(text) == said


def test_it_is_bounded() -> None:
    said = said_in(answer(b"400 " + b"x" * 5000))
    assert said == "x" * (SAID_MAX - 1) + "…"

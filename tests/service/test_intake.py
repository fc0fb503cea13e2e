"""Which lane a request takes, and what a head is read as."""

import asyncio
from pathlib import Path

import pytest

from engine.intake.gate import PENDING_MAX, parse_head
from tests.fakes.node import FakeNode
from tests.rigs.engine_in_loop import run, running

LINE = b"POST /v1/engine/task HTTP/1.1\r\nHost: engine\r\n"
BODY = b'{"targets":["http://img.example.com/a.jpg"]}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)


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
    assert (head.is_lines, head.body_bytes, head.is_last) == (False, len(BODY), is_last)


@pytest.mark.parametrize(
    "text",
    [
        LINE + b"\r\n",
        LINE + LENGTH + LENGTH + b"\r\n",
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


def test_keep_alive_stays_in_the_fast_lane(tmp_path: Path) -> None:
    """And only the first request that is not plain leaves it, for good."""

    async def scenario() -> None:
        with FakeNode() as node:
            async with running(tmp_path, node.url) as (engine, port):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                for _ in range(3):
                    writer.write(LINE + b"Connection: keep-alive\r\n" + LENGTH + b"\r\n" + BODY)
                    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 202")
                (connection,) = engine.gate.connections
                assert "fast lane" in repr(connection)
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: e\r\n\r\n")
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
                assert "aiohttp lane" in repr(connection)
                writer.close()
                await writer.wait_closed()

    run(scenario)


def test_pipelined_requests_wait_past_a_limit(tmp_path: Path) -> None:
    """Beyond `PENDING_MAX` without an answer nothing more is read out of the connection."""

    async def scenario() -> None:
        with FakeNode() as node:
            async with running(tmp_path, node.url) as (engine, port):
                seen = 0
                submit = engine.accept.submit

                def counting(body: bytes, token: object, answer: object, **_: object) -> None:
                    nonlocal seen
                    (connection,) = engine.gate.connections
                    seen = max(seen, len(connection._slots))
                    submit(body, token, answer)  # type: ignore[arg-type]

                engine.accept.submit = counting  # type: ignore[method-assign]
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write((LINE + LENGTH + b"\r\n" + BODY) * 1000)
                for _ in range(1000):
                    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 202")
                assert 1 < seen <= PENDING_MAX
                writer.close()
                await writer.wait_closed()

    run(scenario)

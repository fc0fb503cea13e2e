"""Which lane a request takes."""

import asyncio
from pathlib import Path
from typing import Any

from engine.intake.fast_lane import ClientConnection
from engine.intake.pipeline import PENDING_MAX
from tests.fakes.node import FakeNode
from tests.rigs.engine_in_loop import run, running

LINE = b"POST /v1/engine/task HTTP/1.1\r\nHost: engine\r\n"
BODY = b'{"targets":["http://img.example.com/a.jpg"]}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)


def test_keep_alive_stays_in_the_fast_lane(tmp_path: Path) -> None:
    """And only the first request that is not plain leaves it, for good."""

    async def scenario() -> None:
        with FakeNode() as node:
            async with running(tmp_path, node.url) as (engine, port):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                for _ in range(3):
                    writer.write(LINE + b"Connection: keep-alive\r\n" + LENGTH + b"\r\n" + BODY)
                    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 202")
                (connection,) = engine.parts.interface.gate.connections
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
                drafting = engine.parts.admission._drafting
                take = drafting._on_drafted

                def counting(*task: Any, **more: Any) -> None:
                    nonlocal seen
                    (connection,) = engine.parts.interface.gate.connections
                    assert isinstance(connection, ClientConnection)
                    seen = max(seen, len(connection._slots))
                    take(*task, **more)

                drafting._on_drafted = counting  # a method of a compiled class cannot be replaced
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write((LINE + LENGTH + b"\r\n" + BODY) * 1000)
                for _ in range(1000):
                    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 202")
                assert 1 < seen <= PENDING_MAX
                writer.close()
                await writer.wait_closed()

    run(scenario)

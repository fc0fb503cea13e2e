"""The interface when something inside goes wrong: an answer without details, which are in the log."""

import asyncio
import json
from pathlib import Path

import pytest

from engine.intake.problems import CONTENT_TYPE
from engine.nodes.answer import Answer
from engine.nodes.health import NodeState
from engine.nodes.probe import Probe, Problem
from tests import described
from tests.fakes.node import FakeNode
from tests.rigs.engine_in_loop import run, running
from tests.waiting import until


def test_an_error_inside_is_500_without_a_traceback(tmp_path: Path) -> None:
    """The log has the traceback; the connection goes on."""

    async def scenario() -> None:
        with FakeNode() as node:
            async with running(tmp_path, node.url) as (engine, port):

                def broken() -> None:
                    raise RuntimeError("secret inner state")

                engine.parts.overview.version_document = broken  # type: ignore[assignment,method-assign]
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /version HTTP/1.1\r\nHost: e\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 500")
                assert b"application/problem+json" in head
                text = await reader.readuntil(b"}")
                described.check("GET", "/version", 500, {"content-type": CONTENT_TYPE}, text)
                body = json.loads(text)
                assert body["detail"] == "an error in the engine; its log says more"
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: e\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                writer.close()
                await writer.wait_closed()
        assert "secret inner state" in (tmp_path / "log").read_text()

    run(scenario)


def test_a_client_that_leaves_before_its_answer_is_no_error(tmp_path: Path) -> None:
    """Its task is taken all the same; the log stays clean."""

    async def scenario() -> None:
        with FakeNode() as node:
            async with running(tmp_path, node.url) as (engine, port):
                body = b'{"targets":["http://img.example.com/a"],"id":"left"}'
                request = b"POST /v1/engine/task HTTP/1.1\r\nHost: e\r\nContent-Type: application/json\r\n"
                for expect in (b"", b"X-Lane: \x01\r\n"):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(request + expect + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                    await writer.drain()
                    writer.transport.abort()
                await until(lambda: engine.parts.core.stats.tasks_done > 0)
        assert "Traceback" not in (tmp_path / "log").read_text()

    run(scenario)


def test_a_probe_that_fails_inside_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        failed: list[Answer] = []
        with FakeNode() as node:
            async with running(tmp_path, node.url) as (engine, _):
                problem_of = Probe._problem_of

                def once_wrong(probe: Probe, answer: Answer, nonce: str) -> Problem | None:
                    if not failed:
                        failed.append(answer)
                        raise RuntimeError("secret inner state")
                    return problem_of(probe, answer, nonce)

                monkeypatch.setattr(Probe, "_problem_of", once_wrong)
                [edge] = engine.parts.core.nodes.values()
                edge.start_probe()
                await until(lambda: edge.state is NodeState.READY)
        assert failed

    run(scenario)
    assert "secret inner state" in (tmp_path / "log").read_text()

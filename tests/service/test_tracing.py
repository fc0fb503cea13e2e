"""A request's traceparent: kept, shown, passed on to callbacks; and spans at a real OTLP receiver."""

import asyncio
import contextlib
import http.client
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from engine.errors import ConfigError
from engine.observe import tracing
from release.lab.caches import free_port
from tests.fakes.cache_clients import SITE
from tests.fakes.callback_receiver import RULE, Receiver
from tests.fakes.node import OK, FakeNode, always, answer
from tests.rigs import engine_in_loop
from tests.rigs.door import DoorEngine
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.redis_servers import RedisServer
from tests.waiting import until, wait_until

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
URL = "http://img.example.com/secret-page"


class Collector:
    """An OTLP receiver over HTTP; what it is sent is decoded as the protocol says."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                outer._take(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def _take(self, body: bytes) -> None:
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services.append({one.key: one.value.string_value for one in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


def _post(port: int, *traceparents: str, **fields: object) -> str:
    """Hand a task in with these headers; return its id."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        body = json.dumps({"targets": [URL], **fields}).encode()
        connection.putrequest("POST", "/v1/engine/task")
        connection.putheader("Content-Length", str(len(body)))
        for traceparent in traceparents:
            connection.putheader("Traceparent", traceparent)
        connection.endheaders(body)
        response = connection.getresponse()
        said = json.loads(response.read())
        assert response.status == 202, said
        return str(said["task_id"])
    finally:
        connection.close()


def _get(port: int, task_id: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", f"/v1/engine/task/{task_id}")
        return dict(json.loads(connection.getresponse().read()))
    finally:
        connection.close()


@pytest.mark.parametrize("store", ["embedded", pytest.param("redis", marks=pytest.mark.slow)])
def test_a_traceparent_outlives_a_crash_and_goes_with_the_callback(tmp_path: Path, store: str) -> None:
    """In the journal, and in the document of a task that waits and is delivered late."""
    receiver = Receiver()
    try:
        with FakeNode() as node, contextlib.ExitStack() as stack:
            tables = fake_table(node.url, name="edge-1") + RULE
            if store == "redis":
                tables += f'[store]\nurl = "{stack.enter_context(RedisServer(tmp_path)).url}"\n'
            with EngineProcess(tmp_path, tables, due_s=0.2) as engine:
                node.stop()
                traced = _post(engine.port, SAMPLED, callback=f"{receiver.url}/traced")
                plain = _post(engine.port, callback=f"{receiver.url}/plain")
                engine.wait_for(traced, "partial")
                engine.kill()
                node.start()
                engine.start()
                engine.wait_for(traced, "done")
                engine.wait_for(plain, "done")
                shown = [engine.task(task)["traceparent"] for task in (traced, plain)]
                assert shown == [SAMPLED, None]
                wait_until(lambda: [post.document["state"] for post in receiver.posts].count("done") == 2)
                said = {(post.path, post.headers.get("traceparent")) for post in receiver.posts}
                assert said == {("/traced", SAMPLED), ("/plain", None)}
    finally:
        receiver.stop()


@pytest.mark.slow
def test_a_traceparent_goes_along_to_the_worker_that_a_task_belongs_to(tmp_path: Path) -> None:
    with (
        FakeNode() as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1"), workers=2) as engine,
    ):
        ids = [_post(engine.port, SAMPLED, id=f"task-{number}") for number in range(12)]
        assert {engine.wait_for(task)["traceparent"] for task in ids} == {SAMPLED}


def test_both_lanes_and_the_purge_door_take_a_traceparent_and_ignore_what_is_none(tmp_path: Path) -> None:
    with FakeNode() as node, DoorEngine(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        for traceparent, kept in ((SAMPLED, SAMPLED), ("00-nonsense-01", None), (SAMPLED.upper(), None)):
            for more in ({}, {"Expect": "100-continue"}):  # what expects is aiohttp's
                headers, asked = {"traceparent": traceparent, **more}, {"targets": [f"http://{SITE}/a"]}
                _, _, body = engine.request("POST", "/v1/engine/task", asked, headers)
                assert engine.task(json.loads(body)["task_id"])["traceparent"] == kept, (traceparent, more)
        head = f"PURGE /b HTTP/1.1\r\nHost: {SITE}\r\ntraceparent: {SAMPLED}\r\n\r\n"
        assert engine.purge(head.encode())["traceparent"] == SAMPLED


def test_spans_of_a_sampled_task_go_to_the_receiver_and_hold_no_target(
    tmp_path: Path, collector: Collector
) -> None:
    async def scenario() -> None:
        with FakeNode() as edge:
            settings: dict[str, Any] = {"trace_url": collector.url, "name": "purge-1"}
            async with engine_in_loop.running(tmp_path, edge.url, **settings) as (engine, port):
                done = await asyncio.to_thread(_post, port, SAMPLED)
                for others in ((UNSAMPLED,), (), (SAMPLED, SAMPLED)):
                    await asyncio.to_thread(_post, port, *others)
                await until(lambda: engine.parts.core.stats.tasks_done == 4)
                edge.script = lambda _: [answer(400)]
                failed = await asyncio.to_thread(_post, port, f"00-{'a' * 32}-{'b' * 16}-01")
                await until(lambda: engine.parts.core.stats.tasks_failed == 1)
                edge.stop()
                late = await asyncio.to_thread(_post, port, f"00-{'c' * 32}-{'d' * 16}-01", due_s=0.1)
                await until(lambda: engine.parts.core.stats.tasks_partial == 1)
                edge.script = always(OK)
                edge.start()
                await until(lambda: engine.parts.core.stats.tasks_done == 5)
                shown = await asyncio.to_thread(_get, port, done)
            by_name = {(span.name, span.trace_id.hex()): span for span in collector.spans}
            assert len(by_name) == len(collector.spans) == 6, "the others are not sampled"
            task, node = by_name["purge url", TRACE], by_name["node edge-1", TRACE]
            bad, bad_node = by_name["purge url", "a" * 32], by_name["node edge-1", "a" * 32]
            assert task.parent_span_id.hex() == PARENT
            assert node.parent_span_id == task.span_id
            assert _facts(task)["purgeline.task_id"] == done
            assert (_facts(node)["purgeline.acked"], _facts(bad)["purgeline.failed"]) == (1, 1)
            assert _facts(bad)["purgeline.task_id"] == failed
            delivered_late = _facts(by_name["purge url", "c" * 32])
            assert (delivered_late["purgeline.task_id"], delivered_late["purgeline.state"]) == (late, "done")
            assert (task.status.code, bad.status.code, bad.status.message) == (0, 2, "failed")
            assert bad_node.status.message == "0 of 1 acked"
            assert abs(task.start_time_unix_nano / 1e9 - shown["created_at"]) < 0.001
            assert abs(task.end_time_unix_nano / 1e9 - shown["settled_at"]) < 0.001
            assert collector.services[0]["service.instance.id"] == "purge-1"
            assert not any(b"secret-page" in body or b"img.example" in body for body in collector.bodies)

    engine_in_loop.run(scenario)


def _facts(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_a_receiver_that_is_away_holds_up_neither_tasks_nor_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        with FakeNode() as edge:
            url = f"http://127.0.0.1:{free_port()}"
            async with engine_in_loop.running(tmp_path, edge.url, trace_url=url) as (engine, port):
                await asyncio.to_thread(_post, port, SAMPLED)
                await until(lambda: engine.parts.core.stats.tasks_done == 1)
                began = time.monotonic()
            assert time.monotonic() - began < 30

    before = set(threading.enumerate())
    engine_in_loop.run(scenario)
    wait_until(lambda: set(threading.enumerate()) <= before, what="its threads having ended")


def test_without_the_extra_a_trace_url_is_refused_and_nothing_else_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)  # what an import finds where it is not installed
    with pytest.raises(ConfigError, match=r"install purgeline\[tracing\]"):
        tracing.Tracing("http://127.0.0.1:4318", name="a", version="1")
    code = "import engine.process.build, engine.observe.audit, sys; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

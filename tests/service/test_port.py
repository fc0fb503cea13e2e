"""What real clients do to the port: good, bad, slow, cut and mixed requests, on both lanes."""

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import described
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.raw_client import Answer, RawClient, chunked, post
from tests.waiting import wait_until

BODY_MAX = 20_000
HEADS = {
    "fast": b"POST /v1/engine/task HTTP/1.1\r\nHost: engine\r\n",
    "aiohttp": b"PUT /v1/engine/log-format HTTP/1.1\r\nHost: engine\r\n",
}
"""Heads without their end: the first is for the fast lane as long as it stays plain."""


def edge(node: FakeNode) -> str:
    return fake_table(node.url, name="edge-1", driver="ats")


@pytest.fixture(scope="module")
def node() -> Iterator[FakeNode]:
    with FakeNode() as running:
        yield running


@pytest.fixture(scope="module")
def engine(node: FakeNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine with patience."""
    folder = tmp_path_factory.mktemp("patient")
    with EngineProcess(folder, edge(node), body_max_bytes=BODY_MAX) as running:
        yield running
        assert "Traceback" not in running.log()


@pytest.fixture(scope="module")
def hasty(node: FakeNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that soon gives up on a client."""
    folder = tmp_path_factory.mktemp("hasty")
    limits: dict[str, Any] = {
        "header_timeout_s": 0.5,
        "body_timeout_s": 0.5,
        "idle_timeout_s": 1.0,
        "connections_max": 4,
    }
    with EngineProcess(folder, edge(node), **limits) as running:
        yield running
        assert "Traceback" not in running.log()


@pytest.fixture
def client(engine: EngineProcess) -> Iterator[RawClient]:
    with RawClient(engine.port) as connected:
        yield connected


def task(number: object = 0, **fields: object) -> dict[str, object]:
    return {"targets": [f"http://img.example.com/{number}.jpg"], **fields}


def plain(body: object, path: str = "/v1/engine/task") -> bytes:
    return post(body, "Content-Type: application/json", path=path)


def on_aiohttp(body: object, path: str = "/v1/engine/task") -> bytes:
    return chunked(body, path=path)


LANES = pytest.mark.parametrize("request_of", [plain, on_aiohttp], ids=["fast lane", "aiohttp's lane"])


def assert_stored(engine: EngineProcess, answer: Answer) -> None:
    assert answer.status == 202, answer
    assert engine.wait_for(answer.json["task_id"])["state"] == "done"


# --- good requests, however they come


@LANES
def test_a_task_is_taken_and_done(
    engine: EngineProcess, client: RawClient, request_of: Callable[[object], bytes]
) -> None:
    """The same answer from both lanes, with the same headers."""
    answer = client.ask(request_of(task()))
    assert_stored(engine, answer)
    assert answer.json == {"task_id": answer.json["task_id"], "state": "accepted", "total": 1}
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["server"].startswith("purgeline/")


def test_500_pipelined_requests_are_answered_in_order(engine: EngineProcess, client: RawClient) -> None:
    """All in one go, far past the number that may wait; each with the answer to its own id."""
    ids = [f"pipelined-{number}" for number in range(500)]
    client.send(b"".join(post(task(name, id=name)) for name in ids))
    answers = [client.answer() for _ in ids]
    assert [answer.json["task_id"] for answer in answers] == ids
    assert {answer.status for answer in answers} == {202}
    engine.wait_for(ids[-1])


def test_pipelined_good_and_bad_requests_keep_their_order(client: RawClient) -> None:
    """An error is known at once, a 202 only after the commit; the order stays the requests'."""
    client.send(b"".join(post(b"{" if number % 3 else task(number)) for number in range(60)))
    assert [client.answer().status for _ in range(60)] == [202, 400, 400] * 20


def test_lanes_mix_on_one_connection(engine: EngineProcess, client: RawClient) -> None:
    """Fast, fast, then everything else, and tasks again: one at a time."""
    assert_stored(engine, client.ask(post(task(1))))
    assert_stored(engine, client.ask(post(task(2))))
    client.send(b"GET /version HTTP/1.1\r\nHost: engine\r\n\r\n")
    assert client.answer().json["version"]
    assert_stored(engine, client.ask(chunked(task(3))))
    assert_stored(engine, client.ask(post(task(4))))
    assert client.ask(post(b"{")).status == 400
    assert_stored(engine, client.ask(post(task(5))))


def test_lanes_mix_in_one_pipeline(engine: EngineProcess, client: RawClient) -> None:
    """The hand-over happens with answers outstanding before it and requests waiting behind it."""
    get = b"GET /version HTTP/1.1\r\nHost: engine\r\n\r\n"
    client.send(post(task(1)) + post(task(2)) + get + chunked(task(3)) + post(task(4)) + get)
    answers = [client.answer() for _ in range(6)]
    assert [answer.status for answer in answers] == [202, 202, 200, 202, 202, 200]
    assert "version" in answers[2].json
    assert "version" in answers[5].json
    for number in (0, 1, 3, 4):
        assert_stored(engine, answers[number])


@LANES
def test_a_request_may_come_byte_by_byte(
    engine: EngineProcess, client: RawClient, request_of: Callable[[object], bytes]
) -> None:
    """Twice on one connection: every cut is tried, also between two requests."""
    for number in range(2):
        for byte in request_of(task(number)):
            client.send(bytes([byte]))
        assert_stored(engine, client.answer())


@LANES
def test_a_half_closed_client_gets_its_answer(
    engine: EngineProcess, client: RawClient, request_of: Callable[[object], bytes]
) -> None:
    """It has sent everything and shut its side; then the connection ends."""
    client.send(request_of(task()))
    client.end()
    assert_stored(engine, client.answer())
    assert client.is_closed()


@pytest.mark.parametrize("path", ["/version", "/v1/engine/tasks", "/v1/engine/task/nobody", "/metrics"])
def test_a_half_closed_get_is_answered(client: RawClient, path: str) -> None:
    """Request and end arrive together, before a handler was called."""
    client.send(f"GET {path} HTTP/1.1\r\nHost: engine\r\n\r\n".encode())
    client.end()
    assert client.answer().status in {200, 404}
    assert client.is_closed()


def test_a_half_closed_client_that_asked_for_the_end(engine: EngineProcess) -> None:
    """``Connection: close`` and the client's own end come before the commit; it is answered."""
    for number in range(20):
        with RawClient(engine.port) as client:
            client.send(post(task(number), "Connection: close"))
            client.end()
            assert client.answer().status == 202
            assert client.is_closed()


def test_half_close_behind_a_pipeline(client: RawClient) -> None:
    """Everything that was asked before the end is answered."""
    client.send(post(task(1)) * 20)
    client.end()
    assert [client.answer().status for _ in range(20)] == [202] * 20
    assert client.is_closed()


def test_half_close_behind_a_pipeline_on_aiohttps_lane(engine: EngineProcess) -> None:
    """The end may come while no handler runs, between two of the requests."""
    get = b"GET /version HTTP/1.1\r\nHost: engine\r\n\r\n"
    for _ in range(40):
        with RawClient(engine.port) as client:
            client.send(get + post(task(1)) * 5)
            client.answer()
            client.end()
            assert [client.answer().status for _ in range(5)] == [202] * 5
            assert client.is_closed()


def test_http_1_0_is_answered_and_closed(engine: EngineProcess, client: RawClient) -> None:
    assert_stored(engine, client.ask(post(task(), version="1.0")))
    assert client.is_closed()


@pytest.mark.parametrize("extra", ["Connection: close", "connection:  Close", "Connection: close, x"])
def test_connection_close_is_honoured(engine: EngineProcess, client: RawClient, extra: str) -> None:
    answer = client.ask(post(task(), extra))
    assert_stored(engine, answer)
    assert answer.headers["connection"].lower() == "close"
    assert client.is_closed()


def test_expect_100_continue(engine: EngineProcess, client: RawClient) -> None:
    """The client waits for the go-ahead before it sends the body."""
    head, _, body = post(task(), "Expect: 100-continue", "Content-Type: application/json").partition(
        b"\r\n\r\n"
    )
    client.send(head + b"\r\n\r\n")
    assert client.answer().status == 100
    client.send(body)
    assert_stored(engine, client.answer())


def test_an_unknown_expectation_is_a_problem(client: RawClient) -> None:
    answer = client.ask(post(task(), "Expect: rain", "Content-Type: application/json"))
    assert answer.status == 417
    assert "100-continue" in answer.detail


def test_absolute_form_is_taken(engine: EngineProcess, client: RawClient) -> None:
    """As a client sends it that takes the engine for its proxy."""
    path = f"http://127.0.0.1:{engine.port}/v1/engine/task"
    assert_stored(engine, client.ask(post(task(), "Content-Type: application/json", path=path)))


def test_head_is_get_without_the_body(client: RawClient) -> None:
    client.send(b"HEAD /version HTTP/1.1\r\nHost: engine\r\n\r\n")
    answer = client.answer(to_head=True)
    assert answer.status == 200
    assert int(answer.headers["content-length"]) > 0
    assert client.ask(post(task())).status == 202


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/engine/task", "OPTIONS, POST"),
        ("/v1/engine/tasks", "GET, HEAD, OPTIONS, POST"),
        ("/v1/engine/task/some", "DELETE, GET, HEAD, OPTIONS"),
        ("/v1/engine/stats", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_and_405_name_the_methods(client: RawClient, path: str, allowed: str) -> None:
    answer = client.ask(f"OPTIONS {path} HTTP/1.1\r\nHost: engine\r\n\r\n".encode())
    assert (answer.status, answer.headers["allow"]) == (204, allowed)
    answer = client.ask(f"PATCH {path} HTTP/1.1\r\nHost: engine\r\n\r\n".encode())
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert "PATCH" in answer.detail


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/engine/taskss", "/v1/engine/task/", "/%00", "/v2/engine/task"]
)
def test_404_says_where_the_interface_is(client: RawClient, path: str) -> None:
    answer = client.ask(f"GET {path} HTTP/1.1\r\nHost: engine\r\n\r\n".encode())
    assert answer.status == 404
    assert "/v1/engine/" in answer.detail


# --- the same answer for the same body on both lanes


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'{"targets":[]}',
        b'{"targets":["ftp://a/b"]}',
        b'{"tragets":["http://a/b"]}',
        b'{"targets":["http://a/\xff"]}',
        b"[" * 5000,
    ],
)
def test_both_lanes_say_the_same(engine: EngineProcess, body: bytes) -> None:
    with RawClient(engine.port) as fast, RawClient(engine.port) as slow:
        one, other = fast.ask(plain(body)), slow.ask(on_aiohttp(body))
        assert one.detail == other.detail
        assert (one.status, one.body) == (other.status, other.body)
        assert fast.ask(post(task())).status == slow.ask(chunked(task())).status == 202


def test_ndjson_answers_line_by_line_on_both_lanes(engine: EngineProcess) -> None:
    """Good and bad lines, empty ones left out, in the order of the lines."""
    lines = [
        json.dumps(task(1, id="line-1")),
        "{",
        "",
        json.dumps(task(2, id="line-2")),
        json.dumps({"targets": []}),
        json.dumps(task(1, id="line-1")),
    ]
    body = "\n".join(lines).encode()
    for request_of, states in ((plain, (202, 202)), (on_aiohttp, (200, 200))):
        with RawClient(engine.port) as client:
            answer = client.ask(request_of(body, "/v1/engine/tasks"))
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.body.endswith(b"\n")
        found = [json.loads(line) for line in answer.body.splitlines()]
        assert [line.get("task_id", line.get("status")) for line in found] == [
            "line-1",
            400,
            "line-2",
            422,
            "line-1",
        ]
        assert states  # the second round meets settled tasks, the first one new ones
        engine.wait_for("line-2")


def test_ndjson_takes_at_least_one_line(client: RawClient) -> None:
    answer = client.ask(post(b"\n\n", path="/v1/engine/tasks"))
    assert answer.status == 422
    assert "1-10000 lines" in answer.detail


# --- bad requests


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"hello\r\n\r\n",
        b"\r\n\r\n\r\n\x00\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /version\r\n\r\n",
        b"CONNECT \r\n\r\n",
        b"CONNECT a:1\r\n\r\n",
        b"BAN /v1/engine/task HTTP/1.1\r\nHost: engine\r\n\r\n",
        HEADS["fast"] + b"no colon\r\n\r\n",
        HEADS["fast"] + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
        HEADS["aiohttp"] + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
        HEADS["fast"] + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        HEADS["fast"] + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        HEADS["aiohttp"] + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        HEADS["fast"] + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEADS["aiohttp"] + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEADS["fast"] + b"Content-Length: 2, 2\r\n\r\n{}",
        HEADS["fast"] + b"Content-Length: -2\r\n\r\n{}",
        HEADS["fast"] + b"Content-Length: +2\r\n\r\n{}",
        HEADS["fast"] + b"Content-Length: 0x2\r\n\r\n{}",
        HEADS["fast"] + b"Content-Length : 2\r\n\r\n{}",
        HEADS["fast"] + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        HEADS["aiohttp"] + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        HEADS["fast"] + b"Transfer-Encoding: gzip\r\n\r\n",
        HEADS["fast"] + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEADS["fast"] + b"X: " + b"a" * 20_000,
        HEADS["aiohttp"] + b"X: " + b"a" * 20_000,
        HEADS["fast"] + b"".join(b"X-%d: 1\r\n" % number for number in range(3000)) + b"\r\n",
        b"POST /v1/engine/task?" + b"a" * 40_000 + b" HTTP/1.1\r\n",
        HEADS["fast"].replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}",
        HEADS["aiohttp"].replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}",
    ],
)
def test_a_request_that_is_not_http_is_a_problem(
    engine: EngineProcess, client: RawClient, data: bytes
) -> None:
    """A 4xx problem document in one sentence; never a task, never a 5xx."""
    tasks_before = engine.get("/v1/engine/stats")["qps_boss"]["count"]
    client.send(data)
    client.end()
    try:
        answer = client.answer()
    except AssertionError:
        pytest.fail("it was closed without a word")
    assert 400 <= answer.status < 500
    assert answer.detail
    assert "\n" not in answer.detail
    assert engine.get("/v1/engine/stats")["qps_boss"]["count"] == tasks_before


@pytest.mark.parametrize("lane", HEADS)
def test_a_request_that_ends_early_is_a_problem(engine: EngineProcess, lane: str) -> None:
    """In its head or its body; nothing is taken in."""
    for part in (b"", b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{"):
        with RawClient(engine.port) as client:
            client.send(HEADS[lane] + part)
            client.end()
            answer = client.answer()
            assert answer.status == 400
            assert "ended" in answer.detail or "cannot be read" in answer.detail
            assert client.is_closed()


@pytest.mark.parametrize("size", [BODY_MAX + 1, 5_000_000])
@LANES
def test_a_body_that_is_too_large_is_413(
    engine: EngineProcess, size: int, request_of: Callable[[object], bytes]
) -> None:
    """The client sends all of it before it reads, as most do, and still gets the answer."""
    with RawClient(engine.port) as client:
        client.send(request_of(b" " * size) if request_of is plain else chunked(b" " * size, step=60_000))
        answer = client.answer()
        assert answer.status == 413
        assert f"{BODY_MAX}" in answer.detail
        assert "body_max_bytes" in answer.detail


def test_a_body_of_just_the_limit_is_read(engine: EngineProcess, client: RawClient) -> None:
    body = json.dumps(task()).encode().ljust(BODY_MAX)
    assert_stored(engine, client.ask(plain(body)))
    assert_stored(engine, client.ask(on_aiohttp(body)))


@pytest.mark.parametrize(
    "line",
    [
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Type:",
    ],
)
@pytest.mark.parametrize("request_of", [post, chunked])
def test_another_content_type_is_415(client: RawClient, line: str, request_of: Callable[..., bytes]) -> None:
    data = request_of(task(), line)
    if request_of is chunked:
        data = data.replace(b"Content-Type: application/json\r\n", b"")
    answer = client.ask(data)
    assert answer.status == 415
    assert "application/json" in answer.detail


def test_a_compressed_body_is_415(client: RawClient) -> None:
    answer = client.ask(post(task(), "Content-Encoding: gzip", "Content-Type: application/json"))
    assert answer.status == 415
    assert "content-encoding" in answer.detail


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_by_any_spelling_is_taken(engine: EngineProcess, client: RawClient, content_type: str) -> None:
    assert_stored(engine, client.ask(post(task(), f"Content-Type: {content_type}")))


# --- slow, idle, many


@pytest.mark.parametrize("lane", HEADS)
def test_a_slow_head_ends_the_connection(hasty: EngineProcess, lane: str) -> None:
    """Also when bytes keep dripping in."""
    with RawClient(hasty.port) as client:
        client.send(HEADS[lane])

        def dripped() -> bool:
            try:
                client.send(b"X")
            except OSError:
                return True
            client.socket.settimeout(0.05)
            try:
                data = client.socket.recv(65536)
            except TimeoutError:
                return False
            except ConnectionResetError:
                return True
            assert not data or data.startswith(b"HTTP/1.1 408")
            return True

        wait_until(dripped, what="the end of a slow head")


@pytest.mark.parametrize("request_of", [plain, on_aiohttp], ids=["fast lane", "aiohttp's lane"])
def test_a_slow_body_is_408(hasty: EngineProcess, request_of: Callable[[object], bytes]) -> None:
    with RawClient(hasty.port) as client:
        client.send(request_of(task())[:-10])
        answer = client.answer()
        assert answer.status == 408
        assert "0.5 s" in answer.detail
        described.check("POST", "/v1/engine/task", answer.status, answer.headers, answer.body)


@pytest.mark.parametrize("first", [b"", post(task()), b"GET /version HTTP/1.1\r\nHost: e\r\n\r\n"])
def test_an_idle_connection_is_closed(hasty: EngineProcess, first: bytes) -> None:
    """Before the first request, and after one on either lane."""
    with RawClient(hasty.port) as client:
        if first:
            assert client.ask(first).status in {200, 202}
        assert client.is_closed()


def test_connections_past_the_limit_are_told_so(hasty: EngineProcess) -> None:
    """503 with Retry-After at once, and room again when others have left."""

    def accepted() -> bool:
        with RawClient(hasty.port) as client:
            return client.ask(post(task())).status == 202

    wait_until(accepted, what="an empty engine")
    clients = [RawClient(hasty.port) for _ in range(6)]
    try:
        answer = clients[-1].answer()
        assert answer.status == 503
        assert "connections_max" in answer.detail
        assert answer.headers["retry-after"] == "1"
        assert clients[-1].is_closed()
        told = '"audit":"refused","address":"127.0.0.1","door":"http","status":503'
        wait_until(lambda: told in hasty.log(), what="the line of the audit")
    finally:
        for client in clients:
            client.__exit__(None, None, None)
    wait_until(accepted, what="room for a connection")


def test_a_client_that_reads_no_answers_is_not_read_from(engine: EngineProcess, node: FakeNode) -> None:
    """Its answers do not pile up in memory: at some point it can send no more."""
    request = b"GET /version HTTP/1.1\r\nHost: e\r\n\r\n"
    bad = post(b"{" + b" " * 400)
    for data in (bad * 200, request * 200):
        with RawClient(engine.port) as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.socket.settimeout(3)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 100_000_000:
                    sent += client.socket.send(data)
            assert sent < 100_000_000
    assert engine.get("/healthz") == {"status": "ok"}

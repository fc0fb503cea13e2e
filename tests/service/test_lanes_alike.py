"""The same bytes on both lanes: the fast one, and aiohttp's once a connection has been handed over to it."""

import hashlib
import json
from collections.abc import Iterator

import pytest

from tests.fakes.node import FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.raw_client import Answer, RawClient, post

BODY_MAX = 100_000
BODY = b'{"targets":["http://img.example.com/a.jpg"]}'
LINE = b"POST /v1/engine/task HTTP/1.1\r\nHost: engine\r\nAuthorization: Bearer good\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
HAND_OVER = b"GET /healthz HTTP/1.1\r\nHost: engine\r\n\r\n"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    digest = hashlib.sha256(b"good").hexdigest()
    scopes = '["submit", "read", "admin"]'
    token = f'[[auth.tokens]]\nname = "good"\nsha256 = "{digest}"\nscopes = {scopes}\n[[site]]\nhost = "*"\n'
    with FakeNode() as node:
        table = fake_table(node.url, name="edge-1", driver="ats")
        folder = tmp_path_factory.mktemp("lanes")
        with EngineProcess(folder, token + table, body_max_bytes=BODY_MAX) as running:
            yield running
            assert "Traceback" not in running.log()


def both(engine: EngineProcess, data: bytes) -> tuple[Answer, Answer]:
    """Return what each lane answers to the same bytes."""
    with RawClient(engine.port) as fast, RawClient(engine.port) as slow:
        assert slow.ask(HAND_OVER).status == 200
        return fast.ask(data), slow.ask(data)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (LINE + LENGTH + b"\r\n" + BODY, 202),
        (LINE + LENGTH + b"Content-Type: Application/JSON;x\r\n\r\n" + BODY, 202),
        (LINE + LENGTH + b"Content-Type: text/plain\r\n\r\n" + BODY, 415),
        (LINE + LENGTH + b"Content-Type: application/json, text/plain\r\n\r\n" + BODY, 415),
        (LINE + LENGTH + b"Content-Type: application/json\r\ncontent-type: text/plain\r\n\r\n" + BODY, 400),
        (
            LINE
            + LENGTH
            + b"Content-Type: application/json\r\nContent-Type: application/json\r\n\r\n"
            + BODY,
            400,
        ),
        (LINE + LENGTH + b"Host: other\r\n\r\n" + BODY, 400),
        (LINE + LENGTH + b"Content-Encoding: gzip\r\n\r\n" + BODY, 415),
        (LINE.replace(b"good", b"bad") + LENGTH + b"\r\n" + BODY, 401),
        (LINE.replace(b"good", b"b\xff") + LENGTH + b"\r\n" + BODY, 401),
        (LINE.replace(b"Bearer", b"Basic") + LENGTH + b"\r\n" + BODY, 401),
        (LINE + b"Content-Length: %d\r\n\r\n" % (BODY_MAX + 1), 413),
        (LINE + b"Content-Length: 99999999999\r\n\r\n", 413),
        (LINE.replace(b"good", b"bad") + b"Content-Length: %d\r\n\r\n" % (BODY_MAX + 1), 401),
        (LINE.replace(b"good", b"bad") + b"Content-Length: %d\r\n\r\n" % BODY_MAX, 401),
        (LINE + LENGTH + b"Expect: rain\xff\r\n\r\n" + BODY, 417),
        (LINE.replace(b"good", b"bad") + LENGTH + b"Expect: 100-continue\r\n\r\n", 401),
        (LINE.replace(b"POST", b"BAN") + LENGTH + b"\r\n" + BODY, 405),
        (LINE.replace(b"POST", b"PATCH") + LENGTH + b"\r\n" + BODY, 405),
    ],
)
def test_the_lanes_answer_alike_to_the_same_bytes(engine: EngineProcess, data: bytes, status: int) -> None:
    """As soon as it can be told: an answer by the head does not wait for the body."""
    fast, slow = both(engine, data)
    for name in ("server", "content-type", "allow", "www-authenticate"):
        assert fast.headers.get(name) == slow.headers.get(name), name
    assert fast.headers["server"].startswith("purgeline/")
    assert (fast.status, slow.status) == (status, status), (fast, slow)
    if status != 202:
        assert fast.detail == slow.detail


@pytest.mark.parametrize("line", [b"Expect: rain\xff", b"Expect: \x80", b"Expect: caf\xc3\xa9"])
@pytest.mark.parametrize(
    "target", [b"GET /healthz", b"HEAD /version", b"OPTIONS /readyz", b"GET /\xff", b"PUT /"]
)
def test_an_expectation_is_read_the_same_on_every_route(
    engine: EngineProcess, target: bytes, line: bytes
) -> None:
    with RawClient(engine.port) as client:
        client.send(target + b" HTTP/1.1\r\nHost: engine\r\n" + line + b"\r\n\r\n")
        answer = client.answer(to_head=target.startswith(b"HEAD"))
        assert answer.status in {400, 417}  # aiohttp's parser takes no such path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["server"].startswith("purgeline/")


@pytest.mark.parametrize("method", [b"BAN", b"PURGEKEYS", b"get", b"X-y"])
def test_a_method_that_is_not_known_is_answered_in_the_engines_form(
    engine: EngineProcess, method: bytes
) -> None:
    with RawClient(engine.port) as client:
        client.send(method + b" /v1/engine/tasks HTTP/1.1\r\nHost: engine\r\n\r\n")
        first = client.socket.recv(9)
        assert first == b"HTTP/1.1 "
        rest = client._file.read()
        assert rest.startswith(b"405 "), rest
        assert b"\r\nServer: purgeline/" in rest
        assert b"\r\nConnection: close\r\n" in rest
        assert b"\r\nAllow: DELETE, GET, HEAD, OPTIONS, POST, PUT\r\n" in rest
        assert f"no route takes {method.decode()}" in json.loads(rest.split(b"\r\n\r\n")[1])["detail"]


def test_bodies_without_the_right_token_take_no_memory(engine: EngineProcess) -> None:
    """Each is answered on its head, however much of it is still to come."""
    refused = LINE.replace(b"good", b"bad") + b"Content-Length: %d\r\n\r\n" % BODY_MAX
    with RawClient(engine.port) as client:
        client.send(refused + b" " * 10_000)
        answer = client.answer()
        assert answer.status == 401
        assert answer.headers["connection"] == "close"
        client.send(b" " * 10_000)  # is read and dropped: the answer is not lost to a reset
        assert client.is_closed()
    with RawClient(engine.port) as client:
        whole = post(BODY, "Authorization: Bearer bad")
        assert [client.ask(whole).status for _ in range(2)] == [401, 401], (
            "a whole request keeps its connection"
        )


def test_the_body_is_asked_for_once_nothing_speaks_against_it(engine: EngineProcess) -> None:
    with RawClient(engine.port) as client:
        client.send(LINE + LENGTH + b"Expect: 100-continue\r\n\r\n")
        assert client.answer().status == 100
        assert client.ask(BODY).status == 202

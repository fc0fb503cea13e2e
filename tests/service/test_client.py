from __future__ import annotations

import threading
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from engine.cli.client import EngineClient
from engine.cli.waiting import wait
from engine.client.bodies import encode
from engine.client.errors import RefusedError, UnreachableError
from tests.fakes.engine import HEAD, Answer, FakeEngine, problem, task

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine().running() as running:
        yield running


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[EngineClient]:
    with EngineClient(engine.url, token="s3cret", timeout_s=5, sleep=lambda _: None) as opened:
        yield opened


def test_requests_share_one_connection_and_carry_the_token(engine: FakeEngine, client: EngineClient) -> None:
    """Keep-alive: three requests, one connection."""
    engine.script["GET /v1/engine/task/t1"] = [(200, task())]
    for _ in range(3):
        assert client.task("t1") == task()
    assert engine.connections == 1
    assert engine.requests[0][1]["Authorization"] == "Bearer s3cret"


def test_refused_connection_is_unreachable_and_not_sent() -> None:
    with (
        EngineClient("http://127.0.0.1:1") as client,
        pytest.raises(UnreachableError, match="refused") as caught,
    ):
        client.stats()
    assert not caught.value.sent


def test_unknown_host_is_unreachable() -> None:
    with EngineClient("http://no-such-host.invalid") as client, pytest.raises(UnreachableError):
        client.stats()
    with EngineClient("http://a..b") as client, pytest.raises(UnreachableError):
        client.stats()


@pytest.mark.parametrize(
    "cut", [b"", HEAD + b"Content-Length: 100\r\n\r\n{", HEAD + b"Transfer-Encoding: chunked\r\n\r\n5"]
)
def test_connection_closed_in_mid_answer_is_tried_once_more(
    engine: FakeEngine, client: EngineClient, cut: bytes
) -> None:
    engine.script["GET /v1/engine/stats"] = [cut, (200, {"saver_queue": 1})]
    assert client.stats() == {"saver_queue": 1}
    assert engine.connections == 2


def test_connection_closed_in_mid_answer_twice_may_have_been_received(
    engine: FakeEngine, client: EngineClient
) -> None:
    engine.script["POST /v1/engine/task"] = [HEAD + b"Content-Length: 100\r\n\r\n{"]
    with pytest.raises(UnreachableError, match="closed before the whole answer") as caught:
        client.submit(encode({"id": "t1", "targets": []}))
    assert caught.value.sent
    assert len(engine.requests) == 2


def test_idle_connection_closed_by_the_engine_is_opened_again(
    engine: FakeEngine, client: EngineClient
) -> None:
    """A reload closes idle connections; the next request does not fail for it."""
    engine.script["GET /v1/engine/stats"] = [HEAD + b"Content-Length: 2\r\n\r\n{}"]
    assert client.stats() == {}
    time.sleep(0.05)  # the close arrives
    assert client.stats() == {}
    assert engine.connections == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (HEAD + b"Content-Length: 5\r\n\r\nhello", "no JSON object"),
        (HEAD + b"Content-Length: 2\r\n\r\n\xff\xfe", "no JSON object"),
        ((200, [1, 2]), "no JSON object"),
        ((200, {"nodes": [1]}), "no list of nodes"),
        ((200, {}), "no list of nodes"),
    ],
)
def test_garbage_is_not_an_engine(
    engine: FakeEngine, client: EngineClient, answer: Answer, reason: str
) -> None:
    engine.script["GET /v1/engine/nodes"] = [answer]
    with pytest.raises(UnreachableError, match=reason):
        client.nodes()


def test_task_without_state_is_not_an_engine(engine: FakeEngine, client: EngineClient) -> None:
    """A wait on such an answer would never end."""
    engine.script["GET /v1/engine/task/t1"] = [(200, {"task_id": "t1"})]
    with pytest.raises(UnreachableError, match="no task"):
        client.task("t1")


def test_silent_engine_times_out() -> None:
    import socket  # noqa: PLC0415 - this test alone

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with (
            EngineClient(url, timeout_s=0.1) as client,
            pytest.raises(UnreachableError, match=r"within 0\.1 s"),
        ):
            client.stats()


def test_problem_document_becomes_status_and_detail(engine: FakeEngine, client: EngineClient) -> None:
    engine.script["GET /v1/engine/stats"] = [problem(403, "token 'ci' lacks the scope read")]
    with pytest.raises(RefusedError, match="lacks the scope") as caught:
        client.stats()
    assert (caught.value.status, caught.value.detail) == (403, "token 'ci' lacks the scope read")


def test_error_without_problem_document_names_the_status(engine: FakeEngine, client: EngineClient) -> None:
    engine.script["GET /v1/engine/stats"] = [b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>"]
    with pytest.raises(RefusedError, match=r"Bad Gateway \(502\)"):
        client.stats()
    engine.script["GET /v1/engine/stats"] = [(301, {}, {"Location": "https://x/"})]
    with pytest.raises(RefusedError, match="redirected to https://x/"):
        client.stats()


def test_early_answer_to_a_large_body_is_read(engine: FakeEngine) -> None:
    """A 413 that comes while the body is still being sent is the answer, not a broken pipe."""
    import socket  # noqa: PLC0415 - this test alone

    content = b'{"detail": "body is over 1 MiB"}'

    def refuse(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            head = f"HTTP/1.1 413 Too Large\r\nContent-Length: {len(content)}\r\n\r\n"
            connection.sendall(head.encode() + content)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=refuse, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with EngineClient(url) as client, pytest.raises(RefusedError, match="over 1 MiB"):
            client.submit(b" " * 8_000_000)
        thread.join()


@pytest.mark.parametrize("status", [503, 429])
def test_busy_engine_is_asked_again_after_its_retry_after(engine: FakeEngine, status: int) -> None:
    engine.script["GET /v1/engine/stats"] = [
        problem(status, "full", Retry_After="2"),
        problem(status, "full"),
        (200, {}),
    ]
    slept: list[float] = []
    notices: list[str] = []
    with EngineClient(engine.url, sleep=slept.append, notice=notices.append) as client:
        assert client.stats() == {}
    assert slept == [2, 1]
    assert notices == [f"full ({status}); attempt 2 of 4 in 2 s", f"full ({status}); attempt 3 of 4 in 1 s"]


def test_busy_engine_is_given_up_after_a_few_attempts(engine: FakeEngine, client: EngineClient) -> None:
    engine.script["GET /v1/engine/stats"] = [problem(503, "full", Retry_After="0")]
    with pytest.raises(RefusedError, match="full") as caught:
        client.stats()
    assert caught.value.is_busy
    assert len(engine.requests) == 4


def test_long_retry_after_is_not_waited_for(engine: FakeEngine, client: EngineClient) -> None:
    engine.script["GET /v1/engine/stats"] = [
        problem(503, "maintenance", Retry_After=formatdate(time.time() + 3600))
    ]
    with pytest.raises(RefusedError) as caught:
        client.stats()
    assert 3000 < (caught.value.retry_after_s or 0) <= 3600
    assert len(engine.requests) == 1


def test_unreadable_retry_after_is_the_default(engine: FakeEngine) -> None:
    engine.script["GET /v1/engine/stats"] = [problem(503, "full", Retry_After="soon"), (200, {})]
    slept: list[float] = []
    with EngineClient(engine.url, sleep=slept.append) as client:
        client.stats()
    assert slept == [1]


def test_tasks_follow_the_cursor_up_to_the_limit(engine: FakeEngine, client: EngineClient) -> None:
    pages: list[Answer] = [
        (200, {"tasks": [task("a"), task("b")], "cursor": "b&="}),
        (200, {"tasks": [task("c")], "cursor": "c"}),
    ]
    engine.script["GET /v1/engine/tasks"] = pages
    document = client.tasks({"state": "running"}, limit=3)
    assert [row["task_id"] for row in document["tasks"]] == ["a", "b", "c"]
    assert [request[0] for request in engine.requests] == [
        "GET /v1/engine/tasks?state=running&limit=3",
        "GET /v1/engine/tasks?state=running&limit=1&cursor=b%26%3D",
    ]


def test_an_empty_page_with_a_cursor_is_not_the_last(engine: FakeEngine, client: EngineClient) -> None:
    """A page of a filtered listing looks at so many tasks, and none of them may be of the state."""
    engine.script["GET /v1/engine/tasks"] = [
        (200, {"tasks": [], "cursor": "s0.9"}),
        (200, {"tasks": [], "cursor": "s0.5"}),
        (200, {"tasks": [task("a", "failed")], "cursor": None}),
    ]
    assert [row["task_id"] for row in client.tasks({"state": "failed"})["tasks"]] == ["a"]


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:9181", "ftp://x", "http://", "http://u:p@x", "http://x?q", "http://x:99999", "http://x/a\n"],
)
def test_address_that_is_none_is_refused_before_any_request(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        EngineClient(url)


@pytest.mark.parametrize("token", ["a\r\nX: y", "ключ", "a b"])
def test_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        EngineClient("http://x", token=token)


def test_prefix_of_the_address_is_kept(engine: FakeEngine) -> None:
    engine.script["GET /cdn/v1/engine/stats"] = [(200, {})]
    with EngineClient(engine.url + "/cdn/") as client:
        assert client.stats() == {}


def test_wait_polls_slower_and_slower_until_all_are_settled(engine: FakeEngine, client: EngineClient) -> None:
    running: list[Answer] = [(200, task("a"))] * 15
    engine.script["GET /v1/engine/task/a"] = [*running, (200, task("a", "done"))]
    engine.script["GET /v1/engine/task/b"] = [(200, task("b", "partial"))]
    slept: list[float] = []
    reports: list[list[str]] = []
    documents = wait(
        client,
        ["a", "b"],
        report=lambda round_: reports.append([document["state"] for document in round_]),
        sleep=slept.append,
    )
    assert [document["state"] for document in documents] == ["done", "partial"]
    assert reports[0] == ["running", "partial"]
    assert reports[-1] == ["done", "partial"]
    assert slept == sorted(slept)
    assert (slept[0], slept[-1]) == (0.02, 1.0)
    assert sum("task/b" in request[0] for request in engine.requests) == 1


def test_wait_outlives_a_restart_of_the_engine(engine: FakeEngine, client: EngineClient) -> None:
    """Away for less than the time-out, after it answered once: the wait goes on."""
    script: list[Answer] = [(200, task("a")), b"", b"", b"", problem(503, "starting", Retry_After="99")]
    engine.script["GET /v1/engine/task/a"] = [*script, (200, task("a", "done"))]
    (document,) = wait(client, ["a"], report=lambda _: None, sleep=lambda _: None)
    assert document["state"] == "done"


def test_wait_ends_when_the_engine_stays_away() -> None:
    engine = FakeEngine()
    engine.script["GET /v1/engine/task/a"] = [(200, task("a")), b""]
    with (
        engine.running(),
        EngineClient(engine.url, timeout_s=0.2) as client,
        pytest.raises(UnreachableError),
    ):
        wait(client, ["a"], report=lambda _: None)


def test_wait_for_an_engine_that_never_answered_fails_at_once() -> None:
    with EngineClient("http://127.0.0.1:1") as client, pytest.raises(UnreachableError):
        wait(client, ["a"], report=lambda _: None, sleep=lambda _: pytest.fail("waited"))


def test_wait_for_an_unknown_task_fails(engine: FakeEngine, client: EngineClient) -> None:
    with pytest.raises(RefusedError, match="no such path"):
        wait(client, ["a"], report=lambda _: None)

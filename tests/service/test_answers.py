"""Caches that answer slowly, wrongly, partly or not at all: nothing is lost, nothing called done too soon."""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fakes.node import OK, Act, FakeNode, Request, Script, always, answer
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.waiting import wait_until

HOST = "img.example.com"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED += b"4;x=y\r\nWiki\r\nB\r\nHTTP/1.1 50\n\r\n0\r\nT: 1\r\n\r\n"
WITHOUT_LENGTH = b"HTTP/1.1 200 OK\r\n\r\nuntil the end"
HTTP_1_0 = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
HTTP_1_0_ALIVE = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def targets(count: int) -> list[str]:
    return [f"http://{HOST}/{number}" for number in range(count)]


class Shared(NamedTuple):
    """A node and an engine for tests after which the node is ready again."""

    node: FakeNode
    engine: EngineProcess


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with (
        FakeNode() as node,
        EngineProcess(tmp_path_factory.mktemp("kept"), fake_table(node.url, name="edge-1")) as engine,
    ):
        yield Shared(node, engine)


@pytest.fixture
def shared(kept: Shared) -> Shared:
    """The node without a connection or a request of the test before."""
    kept.node.script = always(OK)
    kept.node.hang_up()
    wait_until(lambda: kept.engine.node("edge-1")["state"] == "ready", what="the node being ready")
    kept.node.requests.clear()
    return kept


def byte_by_byte(request: Request) -> Iterable[bytes | Act]:
    for byte in answer(200, b"body", "X-Long: " + "x" * 20):
        yield bytes([byte])


GOOD: dict[str, Script] = {
    "plain": always(OK),
    "a body": always(answer(200, b"<html>Purged</html>" * 100)),
    "a body of a megabyte": always(answer(200, b"x" * 1_000_000)),
    "single bytes": byte_by_byte,
    "chunked": always(CHUNKED),
    "100 first": always(CONTINUE, OK),
    "103 and 100 first": always(HINTS + CONTINUE + HINTS + OK),
    "close after each": always(answer(200, b"bye", "Connection: close"), Act.CLOSE),
    "close after each, unsaid": always(OK, Act.CLOSE),
    "no length, ended by close": always(WITHOUT_LENGTH, Act.CLOSE),
    "HTTP/1.0": always(HTTP_1_0, Act.CLOSE),
    "HTTP/1.0 keep-alive": always(HTTP_1_0_ALIVE),
    "204": always(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "lower-case fields": always(
        b"HTTP/1.1 200 OK\r\ncontent-length:   3\r\nconnection: Keep-Alive\r\n\r\nabc"
    ),
    "a large head": always(answer(200, b"x", *(f"X-{n}: {'y' * 500}" for n in range(20)))),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_shape_of_a_good_answer_is_an_ack(name: str, shared: Shared) -> None:
    """Whatever the framing: each URL is acked once, by its own answer."""
    node, engine = shared
    node.script = GOOD[name]
    count = 20 if "megabyte" in name else 60
    before = engine.get("/v1/engine/stats")["qps_proxy"]["count"]
    task = engine.wait_for(engine.submit(targets(count)))
    assert (task["state"], task["counter"], task["errors"]) == ("done", count, [])
    assert set(node.urls) == set(targets(count))
    assert engine.node("edge-1")["state"] == "ready"
    assert engine.get("/v1/engine/stats")["qps_proxy"]["count"] == before + count


def test_answers_torn_across_packets_are_put_together(tmp_path: Path) -> None:
    """One connection, answers cut anywhere."""
    sizes = itertools.cycle([3, 11, 29])

    def script(request: Request) -> Iterable[bytes | Act]:
        text = answer(200, b"<html>Purged</html>")
        size = next(sizes)
        for start in range(0, len(text), size):
            yield text[start : start + size]
            time.sleep(0.001)

    with (
        FakeNode(script) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1"), connections_per_node=1) as engine,
    ):
        task = engine.wait_for(engine.submit(targets(60)))
        assert (task["state"], task["counter"]) == ("done", 60)
        assert node.connections == 1


@pytest.mark.parametrize("answered", [1, 2, 5, 31])
@pytest.mark.parametrize("ending", [Act.CLOSE, Act.RESET])
def test_the_unanswered_tail_of_a_closed_connection_is_sent_again(
    answered: int, ending: Act, shared: Shared
) -> None:
    """A pipeline is cut after some answers: what came is kept, the rest goes out anew."""

    def script(request: Request) -> Iterable[bytes | Act]:
        yield OK
        if request.place == answered:
            yield ending

    node, engine = shared
    node.script = script
    task = engine.wait_for(engine.submit(targets(150)))
    assert (task["state"], task["counter"], task["failed"]) == ("done", 150, 0)
    assert set(node.urls) == set(targets(150))
    assert engine.node("edge-1")["state"] == "ready"


def test_close_announced_in_the_middle_of_a_pipeline(tmp_path: Path) -> None:
    """`Connection: close` on the tenth answer: the engine goes on with another connection."""

    def script(request: Request) -> Iterable[bytes | Act]:
        if request.place == 10:
            return [answer(200, b"", "Connection: close"), Act.CLOSE]
        return [OK]

    with (
        FakeNode(script) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1"), connections_per_node=1) as engine,
    ):
        task = engine.wait_for(engine.submit(targets(100)))
        assert (task["state"], task["counter"]) == ("done", 100)
        assert Counter(node.urls) == Counter(targets(100))
        assert node.connections == 10


def test_the_first_request_on_a_connection_goes_alone(tmp_path: Path) -> None:
    """Nothing is pipelined at a node that has not yet shown that it answers there."""
    most = 0

    def script(request: Request) -> Iterable[bytes | Act]:
        nonlocal most
        if request.place == 1:
            most = max(most, engine.node("edge-1")["in_flight"])
        yield OK

    with (
        FakeNode(script) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1"), connections_per_node=1) as engine,
    ):
        assert engine.wait_for(engine.submit(targets(100)))["state"] == "done"
        assert most == 1


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_passing_error_is_tried_again(status: int, shared: Shared) -> None:
    """Two errors for each URL, then good: done, without a word left of it."""
    seen: Counter[str] = Counter()

    def script(request: Request) -> Iterable[bytes | Act]:
        seen[request.path] += 1
        return [answer(status, b"wait") if seen[request.path] <= 2 else OK]

    node, engine = shared
    node.script = script
    task = engine.wait_for(engine.submit(targets(40)))
    assert (task["state"], task["counter"], task["errors"]) == ("done", 40, [])
    assert set(seen.values()) == {3}
    assert engine.node("edge-1")["state"] == "ready"


def broken(request: Request) -> Iterable[bytes | Act]:
    return [answer(500, b"broken") if request.path == "/7" else OK]


def test_a_lasting_error_is_kept_with_its_reason_and_tried_again(tmp_path: Path) -> None:
    """Always 500 for one URL: the others are done, it waits, and is done when the cache has recovered."""
    with (
        FakeNode(broken) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine,
    ):
        task_id = engine.submit(targets(40), due_s=1)
        wait_until(lambda: engine.task(task_id)["delayed"] == 1, what="the wrong one being kept")
        task = engine.wait_for(task_id, "partial")
        assert (task["counter"], task["failed"], task["delayed"]) == (39, 0, 1)
        reason = "answered 500, 5 times; it is tried again, with growing pauses"
        assert task["errors"] == [{"node": "edge-1", "target": f"http://{HOST}/7", "reason": reason}]
        assert (engine.node("edge-1")["state"], engine.node("edge-1")["delayed"]) == ("ready", 1)
        asked = node.urls.count(f"http://{HOST}/7")
        wait_until(lambda: node.urls.count(f"http://{HOST}/7") > asked, what="another attempt")
        assert engine.task(task_id)["failed"] == 0
        node.script = always(OK)
        task = engine.wait_for(task_id, "done")
        assert (task["counter"], task["delayed"], task["errors"]) == (40, 0, [])


def test_a_poison_url_fails_in_the_end(tmp_path: Path) -> None:
    """It goes wrong for poison_after_s, and the node purges others of its host meanwhile."""
    with (
        FakeNode(broken) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1"), poison_after_s=1) as engine,
    ):
        task_id = engine.submit(targets(40), due_s=0.5)
        while engine.task(task_id)["state"] != "failed":
            assert engine.wait_for(engine.submit([f"http://{HOST}/good"]))["state"] == "done"
        task = engine.task(task_id)
        assert (task["counter"], task["failed"], task["delayed"]) == (39, 1, 0)
        assert "poison_after_s" in task["errors"][-1]["reason"]
        assert engine.node("edge-1")["delayed"] == 0


def test_an_answer_that_will_not_change_fails_at_once(tmp_path: Path) -> None:
    """Asked once, and the answer is in the task's errors."""
    with (
        FakeNode(always(answer(400, b"no"))) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine,
    ):
        task = engine.wait_for(engine.submit([f"http://{HOST}/a"]))
        assert (task["state"], task["errors"][0]["reason"]) == ("failed", "answered 400: Said")
        assert len(node.requests) == 1


def test_an_answer_that_an_operator_can_change_is_waited_for(tmp_path: Path) -> None:
    """A cache that sends purges elsewhere, or does not know them, is mended; what was accepted stays."""
    statuses = {"/a": 302, "/b": 410, "/c": 418}

    def script(request: Request) -> list[bytes]:
        return [answer(statuses.get(request.path, 200), b"no")]

    with (
        FakeNode(script) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine,
    ):
        task_id = engine.submit([f"http://{HOST}{path}" for path in statuses])
        task = engine.wait_for(task_id, "partial")
        assert (task["delayed"], task["failed"]) == (3, 0)
        reasons = sorted({error["reason"].partition(";")[0] for error in task["errors"]})
        assert reasons[0] == "refused: answered 302, a redirect: let edge-1 answer PURGE itself"
        assert [reason[:21] for reason in reasons[1:]] == ["refused: answered 410", "refused: answered 418"]
        statuses.clear()
        assert engine.wait_for(task_id, "done")["counter"] == 3


BAD: dict[str, Script] = {
    "garbage": always(b"220 smtp.example.com ready\r\n\r\n"),
    "another protocol's version": always(b"HTTP/2 200\r\n\r\n"),
    "no status": always(b"HTTP/1.1 OK\r\n\r\n"),
    "two lengths": always(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "a length that is none": always(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"),
    "a bad chunk": always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "an endless head": always(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000),
    "half a head, then close": always(OK[:12], Act.CLOSE),
    "half a body, then close": always(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", Act.CLOSE),
    "close without an answer": always(Act.CLOSE),
    "reset": always(Act.RESET),
    "no answer": always(Act.HANG),
    "half an answer and no more": always(OK[:20], Act.HANG),
}


NOT_IN_TIME = {"no answer", "half an answer and no more"}


@pytest.mark.parametrize("name", BAD)
def test_a_node_that_never_answers_rightly_is_away_and_loses_nothing(name: str, tmp_path: Path) -> None:
    """Its subtasks are delayed with the reason; when it has come to its senses they are delivered."""
    with (
        FakeNode(BAD[name], answers_probes=False) as node,
        FakeNode() as other,
        EngineProcess(
            tmp_path,
            fake_table(node.url, name="edge-1") + fake_table(other.url, name="edge-2"),
            request_timeout_s=0.3,
        ) as engine,
    ):
        task_id = engine.submit(targets(20), due_s=1)
        task = engine.wait_for(task_id, "partial")
        assert task["counter"] == 20
        wait_until(lambda: engine.node("edge-1")["delayed"] == 20, what="everything being delayed")
        task = engine.task(task_id)
        assert (task["delayed"], task["failed"], task["state"]) == (20, 0, "partial")
        state, said = ("sick", "sick: ") if name in NOT_IN_TIME else ("down", "unreachable: ")
        assert task["errors"][0]["reason"].startswith(said)
        shown = engine.node("edge-1")
        assert (shown["state"], shown["reason"]) == (state, shown["last_error"])
        assert shown["last_error"]
        node.script = always(OK)
        task = engine.wait_for(task_id, "done", timeout_s=30)
        assert (task["counter"], task["delayed"], task["errors"]) == (40, 0, [])
        assert set(targets(20)) <= set(node.urls)


def test_one_url_that_kills_the_connection_does_not_stop_the_others(tmp_path: Path) -> None:
    """A cache that crashes on one URL: that one is kept, all others are done."""

    def script(request: Request) -> Iterable[bytes | Act]:
        return [Act.RESET if request.path == "/13" else OK]

    with (
        FakeNode(script) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1"), due_s=2) as engine,
    ):
        task_id = engine.submit(targets(100))
        wait_until(lambda: engine.task(task_id)["counter"] == 99, timeout_s=60, what="the others being done")
        wait_until(lambda: engine.node("edge-1")["state"] == "ready", what="the node being ready")
        task = engine.wait_for(task_id, "partial")
        assert (task["failed"], task["delayed"]) == (0, 1)
        assert f"http://{HOST}/13" in [error["target"] for error in task["errors"]]
        node.script = always(OK)
        assert engine.wait_for(task_id, "done", timeout_s=60)["counter"] == 100


def test_a_slow_node_is_not_a_dead_one(tmp_path: Path) -> None:
    """Each answer within the time-out: none is sent twice, though the whole takes many time-outs."""

    def script(request: Request) -> Iterable[bytes | Act]:
        time.sleep(0.05)
        yield OK

    with (
        FakeNode(script) as node,
        EngineProcess(
            tmp_path, fake_table(node.url, name="edge-1"), connections_per_node=1, request_timeout_s=1
        ) as engine,
    ):
        task = engine.wait_for(engine.submit(targets(60)), timeout_s=30)
        assert (task["state"], task["counter"]) == ("done", 60)
        assert Counter(node.urls) == Counter(targets(60))
        assert node.connections == 1


def test_answers_nobody_asked_for_acknowledge_nothing(tmp_path: Path) -> None:
    """More answers than requests: the connection is out of step and is dropped, not believed."""

    def script(request: Request) -> Iterable[bytes | Act]:
        return [OK * 3] if request.connection == 1 else [answer(400)]

    with (
        FakeNode(script) as node,
        EngineProcess(
            tmp_path, fake_table(node.url, name="edge-1"), connections_per_node=1, pipeline_depth=1
        ) as engine,
    ):
        task = engine.wait_for(engine.submit(targets(4)))
        assert task["state"] == "failed"
        assert task["counter"] <= 1

"""What the engine says on its own: callbacks and alerts, to a real receiver."""

import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.callback_receiver import RULE, SECRET, Receiver
from tests.fakes.certificate import make_certificate
from tests.fakes.node import OK, FakeNode, always, answer
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

HOST = "img.example.com"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.stop()


def test_a_callback_reports_the_end_and_is_signed(receiver: Receiver, tmp_path: Path) -> None:
    """The signature covers the time stamp and the very bytes of the body."""
    with (
        FakeNode() as node,
        EngineProcess(tmp_path, RULE + fake_table(node.url, name="edge-1")) as engine,
    ):
        task_id = engine.submit([f"http://{HOST}/a"], callback=f"{receiver.url}/hook?x=1")
        (post,) = receiver.wait_for_posts(1)
        assert post.path == "/hook?x=1"
        assert post.headers["content-type"] == "application/json"
        assert (post.headers["purgeline-task"], post.headers["purgeline-attempt"]) == (task_id, "1")
        signed = post.headers["purgeline-timestamp"].encode() + b"." + post.body
        expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert post.headers["purgeline-signature"] == f"v1={expected}"
        assert (post.document["task_id"], post.document["state"]) == (task_id, "done")
        document = engine.wait_for(task_id)
        assert document.pop("callback")["host"] == "127.0.0.1"
        assert post.document == document
        wait_until(lambda: engine.get("/v1/engine/stats")["notify_queue"] == 0, what="an empty queue")
        assert len(receiver.posts) == 1


def test_a_callback_over_https_goes_to_a_certificate_that_the_machine_trusts(tmp_path: Path) -> None:
    """The start reads no certificates; the first receiver with https has them read."""
    ca, tls = make_certificate(tmp_path, "own")
    receiver = Receiver(tls)
    with (
        FakeNode() as node,
        EngineProcess(
            tmp_path, RULE + fake_table(node.url, name="edge-1"), env={"SSL_CERT_FILE": str(ca)}
        ) as engine,
    ):
        task_ids = {engine.submit([f"http://{HOST}/{n}"], callback=receiver.url) for n in range(3)}
        receiver.wait_for_posts(3)
        assert {document["task_id"] for document in receiver.documents()} == task_ids
    receiver.stop()


def test_a_failed_task_is_reported_as_well(receiver: Receiver, tmp_path: Path) -> None:
    """With its errors."""
    with (
        FakeNode(always(answer(400))) as node,
        EngineProcess(tmp_path, RULE + fake_table(node.url, name="edge-1")) as engine,
    ):
        engine.submit([f"http://{HOST}/a"], callback=receiver.url)
        (document,) = [post.document for post in receiver.wait_for_posts(1)]
        assert (document["state"], document["failed"]) == ("failed", 1)
        assert document["errors"][0]["reason"] == "answered 400: Said"


def test_a_callback_is_tried_again_after_an_error(receiver: Receiver, tmp_path: Path) -> None:
    """Two 500s, then taken: three attempts with one and the same body."""
    receiver.status = lambda count: 500 if count <= 2 else 200
    with (
        FakeNode() as node,
        EngineProcess(tmp_path, RULE + fake_table(node.url, name="edge-1")) as engine,
    ):
        engine.submit([f"http://{HOST}/a"], callback=receiver.url)
        posts = receiver.wait_for_posts(3)
        assert [post.headers["purgeline-attempt"] for post in posts] == ["1", "2", "3"]
        assert len({post.body for post in posts}) == 1
        wait_until(lambda: engine.get("/v1/engine/stats")["notify_queue"] == 0, what="an empty queue")


def test_a_task_tells_of_the_attempts_of_its_callback_until_and_after_it_is_delivered(
    receiver: Receiver, tmp_path: Path
) -> None:
    """Two errors, then taken; told by either worker, and without what may be secret."""
    receiver.status = lambda count: 500 if count <= 2 else 204
    with (
        FakeNode() as node,
        SupervisedEngine(tmp_path, RULE + fake_table(node.url, name="edge-1"), workers=2) as engine,
    ):
        plain = engine.submit([f"http://{HOST}/b"])
        task_id = engine.submit([f"http://{HOST}/a"], callback=f"{receiver.url}/private?key=hidden")

        def told() -> dict[str, Any]:
            status, _, text = engine.request("GET", f"/v1/engine/task/{task_id}")
            assert status == 200
            assert not re.search("hidden|private", text.decode())
            return dict(json.loads(text)["callback"])

        failed = wait_until(lambda: (now := told())["attempts"] and now["next_at"] and now)
        assert (failed["state"], failed["reports"]) == ("pending", "done")
        assert (failed["host"], failed["last"], failed["over_at"]) == ("127.0.0.1", "answered 500", None)
        over = wait_until(lambda: (now := told())["state"] != "pending" and now)
        assert (over["state"], over["attempts"], over["last"]) == ("delivered", 3, "answered 204")
        assert over["next_at"] is None
        assert over["over_at"] >= engine.task(task_id)["settled_at"]
        assert "callback" not in engine.wait_for(plain)
        wait_until(lambda: engine.get("/v1/engine/stats")["notify_queue"] == 0)
        assert [told() for _ in range(4)] == [over] * 4


def test_a_task_tells_that_its_callback_was_given_up(receiver: Receiver, tmp_path: Path) -> None:
    """At once after an answer that another attempt would not change; the engine is killed after that."""
    receiver.status = lambda count: 410
    with (
        FakeNode() as node,
        EngineProcess(tmp_path, RULE + fake_table(node.url, name="edge-1")) as engine,
    ):
        task_id = engine.submit([f"http://{HOST}/a"], callback=receiver.url)
        wait_until(lambda: engine.task(task_id)["callback"]["state"] == "failed")
        over = engine.task(task_id)["callback"]
        assert (over["attempts"], over["last"]) == (1, "answered 410")
        wait_until(lambda: engine.get("/v1/engine/stats")["saver_queue"] == 0)
        engine.kill()
        engine.start()
        assert engine.task(task_id)["callback"] == over


def test_a_task_that_goes_on_tells_of_each_of_its_reports(receiver: Receiver, tmp_path: Path) -> None:
    """First that nothing is to be reported yet, then what became of `partial`, then of `done`."""
    with (
        FakeNode() as node,
        EngineProcess(
            tmp_path, RULE + fake_table(node.url, name="edge-1") + fake_table("http://127.0.0.1:9", name="e2")
        ) as engine,
    ):
        task_id = engine.submit(
            [f"http://{HOST}/a"], callback=receiver.url, start_at=time.time() + 1, due_s=3, nodes=["edge-1"]
        )
        assert engine.task(task_id)["callback"] == {
            "host": "127.0.0.1",
            "state": "waiting",
            "reports": None,
            "attempts": None,
            "last": "",
            "next_at": None,
            "over_at": None,
        }
        late = engine.submit([f"http://{HOST}/a"], callback=receiver.url, due_s=0.2)
        wait_until(lambda: engine.task(late)["callback"]["state"] == "delivered")
        told = engine.task(late)["callback"]
        assert (told["reports"], told["attempts"]) == ("partial", 1)
        engine.request("DELETE", f"/v1/engine/task/{late}")
        wait_until(lambda: engine.task(late)["callback"]["reports"] == "cancelled")
        wait_until(lambda: engine.task(late)["callback"]["state"] == "delivered")
        wait_until(lambda: engine.task(task_id)["callback"]["state"] == "delivered")


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine with a rule, for what it refuses."""
    with (
        FakeNode() as node,
        EngineProcess(tmp_path_factory.mktemp("ruled"), RULE + fake_table(node.url, name="edge-1")) as engine,
    ):
        yield engine


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/x",
        "ftp://127.0.0.1/x",
        "http://user:pw@127.0.0.1/x",
        "http://127.0.0.1.evil.example/x",
        "127.0.0.1",
        "http://127.0.0.1:0/",
        "http://127.0.0.1/a b",
        "",
    ],
)
def test_a_callback_outside_the_rules_is_refused(url: str, ruled: EngineProcess) -> None:
    """422 at the request; the engine posts nowhere it was not told to."""
    body = {"targets": [f"http://{HOST}/a"], "callback": url}
    status, _, text = ruled.request("POST", "/v1/engine/task", body)
    assert status == 422
    assert "callback" in json.loads(text)["detail"]
    assert ruled.get("/v1/engine/tasks")["tasks"] == []


def test_without_a_rule_callbacks_are_refused(receiver: Receiver, tmp_path: Path) -> None:
    """No [[callback]], no callback."""
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        body = {"targets": [f"http://{HOST}/a"], "callback": receiver.url}
        status, _, text = engine.request("POST", "/v1/engine/task", body)
        assert status == 422
        assert "no [[callback]] rule" in json.loads(text)["detail"]


@pytest.mark.parametrize("is_crash", [False, True])
def test_a_callback_survives_a_restart(is_crash: bool, receiver: Receiver, tmp_path: Path) -> None:
    """The receiver is down while the engine ends: the next engine delivers."""
    receiver.status = lambda count: 503
    with (
        FakeNode() as node,
        EngineProcess(tmp_path, RULE + fake_table(node.url, name="edge-1")) as engine,
    ):
        task_id = engine.submit([f"http://{HOST}/a"], callback=receiver.url)
        receiver.wait_for_posts(1)
        if is_crash:
            engine.kill()
        else:
            assert engine.stop() == 0
        before = len(receiver.posts)
        receiver.status = lambda count: 200
        engine.start()
        receiver.wait_for_posts(before + 1)
        assert receiver.documents()[-1]["task_id"] == task_id
        assert receiver.documents()[-1]["state"] == "done"
        wait_until(lambda: engine.get("/v1/engine/stats")["notify_queue"] == 0, what="an empty queue")
        assert engine.stop() == 0
        count = len(receiver.posts)
        engine.start()
        assert engine.get("/v1/engine/stats")["notify_queue"] == 0
        assert len(receiver.posts) == count


@pytest.mark.parametrize("is_restarted", [False, True])
def test_partial_is_reported_at_the_due_time_and_done_when_it_is(
    is_restarted: bool, receiver: Receiver, tmp_path: Path
) -> None:
    """Two callbacks, in this order, across a restart too."""
    with (
        FakeNode() as node,
        FakeNode() as other,
        EngineProcess(
            tmp_path, RULE + fake_table(node.url, name="edge-1") + fake_table(other.url, name="edge-2")
        ) as engine,
    ):
        node.stop()
        engine.submit([f"http://{HOST}/a", f"http://{HOST}/b"], callback=receiver.url, due_s=1)
        receiver.wait_for_posts(1)
        document = receiver.documents()[0]
        assert (document["state"], document["counter"], document["delayed"]) == ("partial", 2, 2)
        if is_restarted:
            assert engine.stop() == 0
            engine.start()
        node.start()
        receiver.wait_for_posts(2)
        document = receiver.documents()[1]
        assert (document["state"], document["counter"], document["delayed"]) == ("done", 4, 0)
        wait_until(lambda: engine.get("/v1/engine/stats")["notify_queue"] == 0, what="an empty queue")
        assert len(receiver.posts) == 2


def test_partial_is_reported_while_a_node_does_not_answer(receiver: Receiver, tmp_path: Path) -> None:
    """At the due time with subtasks still on the wire; then done."""
    release = threading.Event()

    def slow(request: object) -> Iterator[bytes]:
        release.wait(30)
        yield OK

    with (
        FakeNode(slow) as node,
        EngineProcess(tmp_path, RULE + fake_table(node.url, name="edge-1"), request_timeout_s=60) as engine,
    ):
        engine.submit([f"http://{HOST}/a"], callback=receiver.url, due_s=0.5)
        receiver.wait_for_posts(1)
        assert receiver.documents()[0]["state"] == "partial"
        release.set()
        receiver.wait_for_posts(2)
        assert [document["state"] for document in receiver.documents()] == ["partial", "done"]


def test_alerts_tell_of_a_node_that_goes_down_and_is_back(receiver: Receiver, tmp_path: Path) -> None:
    """One each, however many subtasks fail; and one for a refusing node."""
    tables = f'[alert]\nurl = "{receiver.url}/alerts"\nsecret = "{SECRET}"\n'
    with (
        FakeNode() as node,
        FakeNode(always(answer(403))) as closed,
        EngineProcess(
            tmp_path, tables + fake_table(node.url, name="edge-1") + fake_table(closed.url, name="edge-2")
        ) as engine,
    ):
        node.stop()
        for number in range(5):
            engine.submit([f"http://{HOST}/{number}"], nodes=["edge-1"])
        receiver.wait_for_posts(1)
        (down,) = receiver.documents()
        assert (down["key"], down["level"]) == ("node:edge-1", "error")
        assert "edge-1 is unreachable" in down["message"]
        assert receiver.posts[0].headers["purgeline-signature"].startswith("v1=")
        node.start()
        receiver.wait_for_posts(2)
        back = receiver.documents()[1]
        assert (back["key"], back["level"]) == ("node:edge-1", "resolved")
        facts = back["facts"]
        assert [facts[name] for name in ("event", "node", "layer")] == ["node.ready", "edge-1", "edge"]
        assert facts["away_s"] > 0
        page = engine.request("GET", "/metrics")[2].decode()
        assert 'purgeline_node_returns_total{driver="varnish",layer="edge",node="edge-1"} 1.0' in page
        for number in range(5):
            engine.wait_for(engine.submit([f"http://{HOST}/{number}"], nodes=["edge-2"]), "partial")
        receiver.wait_for_posts(3)
        refused = receiver.documents()[2]
        assert (refused["key"], refused["level"]) == ("refused:edge-2", "error")
        wait_until(lambda: engine.get("/v1/engine/stats")["alert_queue"] == 0, what="an empty queue")
        assert len(receiver.posts) == 3

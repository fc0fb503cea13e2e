"""A cache that cannot be reached: the purge goes on elsewhere, nothing is lost, and it is delivered late."""

import json
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from release.lab import caches
from release.lab.origin import Origin
from tests.fakes.callback_receiver import RULE, Receiver
from tests.fakes.certificate import make_certificate
from tests.fakes.node import OK, PROBE_PATH, Act, FakeNode, Request, always, answer
from tests.rigs.engine_process import EngineProcess, fake_table, get_body, node_table
from tests.waiting import wait_until

HOST = "img.example.com"
RESTARTS = ["none", "stop", "kill"]


def restart(engine: EngineProcess, how: str) -> None:
    """Start the engine anew. A crash may come before the rows are saved: then the task begins anew."""
    if how == "stop":
        assert engine.stop() == 0
    elif how == "kill":
        engine.kill()
    if how != "none":
        engine.start()


@pytest.mark.parametrize(
    ("driver", "how"),  # these two keep their objects over a crash
    [
        ("nginx", "none"),
        ("nginx", "stop"),
        ("ats", "kill"),
        pytest.param("nginx", "kill", marks=pytest.mark.slow),
        pytest.param("ats", "none", marks=pytest.mark.slow),
        pytest.param("ats", "stop", marks=pytest.mark.slow),
    ],
)
def test_a_dead_edge_is_purged_when_it_is_back(driver: str, how: str, origin: Origin, tmp_path: Path) -> None:
    """The other edge is fresh at once; the dead one before it counts as ready; the engine may restart."""
    with (
        caches.start_cache(driver, tmp_path, name="dead", backend=origin.address) as dead,
        caches.start_varnish(tmp_path, name="alive", backend=origin.address) as alive,
        EngineProcess(tmp_path, node_table(dead, name="dead") + node_table(alive, name="alive")) as engine,
    ):
        for cache in (dead, alive):
            get_body(cache, "/a")
        origin.version = "v2"
        dead.kill()
        task_id = engine.submit([f"http://{HOST}/a"], due_s=1)
        task = engine.wait_for(task_id, "partial")
        assert (task["counter"], task["delayed"], task["failed"], task["total"]) == (1, 1, 0, 2)
        assert task["active"]
        assert "unreachable" in task["errors"][0]["reason"]
        assert get_body(alive, "/a").startswith(b"v2 ")
        node = engine.node("dead")
        assert (node["state"], node["delayed"]) == ("down", 1)
        restart(engine, how)
        wait_until(lambda: engine.node("dead")["delayed"] == 1, what="all being parked")
        engine.wait_for(task_id, "partial")
        dead.start()
        wait_until(lambda: engine.node("dead")["state"] == "ready", timeout_s=40, what="the node being ready")
        assert get_body(dead, "/a").startswith(b"v2 ")
        task = engine.wait_for(task_id, "done")
        assert (task["counter"], task["delayed"], task["errors"], task["active"]) == (2, 0, [], False)
        assert engine.node("dead")["delayed"] == 0


def test_an_nginx_without_a_purge_path_of_its_own_comes_back_whatever_its_origin_does(tmp_path: Path) -> None:
    """Its probe goes to the purge location, as its purges do: the origin hangs, and is not asked.

    Not every nginx has the guard of our template, which refuses a PURGE at any other place.
    """
    with (
        FakeNode(always(Act.HANG), answers_probes=False) as hung_origin,
        caches.start_nginx(tmp_path, name="edge-1", backend=hung_origin.url.partition("//")[2]) as cache,
        EngineProcess(
            tmp_path,
            fake_table(cache.url, name="edge-1", driver="nginx"),
            connect_timeout_s=0.2,
            request_timeout_s=1,
        ) as engine,
    ):
        cache.kill()
        guard = "if ($request_method = PURGE) {"
        configuration = cache.workdir / "nginx.conf"
        text = configuration.read_text()
        assert guard in text
        configuration.write_text(text.replace(guard, "if ($request_method = NOTHING) {"))
        task_id = engine.submit([f"http://{HOST}/a"], due_s=0.5)
        engine.wait_for(task_id, "partial")
        cache.start()
        assert engine.wait_for(task_id, "done", timeout_s=20)["counter"] == 1
        assert hung_origin.requests == []


def test_a_paused_cache_gets_its_purges_when_it_goes_on(origin: Origin, tmp_path: Path) -> None:
    """It takes connections and never answers: found by the time-out, not waited for."""
    with (
        caches.start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1"), request_timeout_s=0.5) as engine,
    ):
        get_body(cache, "/a")
        origin.version = "v2"
        cache.pause()
        task_id = engine.submit([f"http://{HOST}/a"], due_s=1)
        engine.wait_for(task_id, "partial")
        wait_until(lambda: engine.node("edge-1")["state"] == "sick", what="the node being sick")
        assert "no answer within 0.5 s" in engine.node("edge-1")["last_error"]
        assert engine.task(task_id)["delayed"] == 1
        cache.resume()
        assert engine.wait_for(task_id, "done", timeout_s=40)["counter"] == 1
        assert get_body(cache, "/a").startswith(b"v2 ")


@pytest.mark.parametrize("how", RESTARTS)
def test_what_was_asked_for_many_times_is_delivered_once(how: str, tmp_path: Path) -> None:
    """Five tasks for the same URLs: one request each, and all five are done."""
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        node.stop()
        urls = [f"http://{HOST}/{number}" for number in range(10)]
        ids = [engine.submit(urls, due_s=0.5) for _ in range(5)]
        for task_id in ids:
            engine.wait_for(task_id, "partial")
        restart(engine, how)
        wait_until(lambda: engine.node("edge-1")["delayed"] == 50, what="all being parked")
        node.start()
        for task_id in ids:
            assert engine.wait_for(task_id, "done", timeout_s=40)["counter"] == 10
        assert Counter(node.urls) == Counter(urls)


@pytest.mark.parametrize(("kind", "target"), [("prefix", f"http://{HOST}/news/"), ("host", HOST)])
def test_a_wide_purge_supersedes_the_urls_before_it(kind: str, target: str, tmp_path: Path) -> None:
    """Older URLs below it need no request of their own; later ones and others do."""
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        node.stop()
        before = engine.submit([f"http://{HOST}/news/{number}" for number in range(20)], due_s=0.5)
        engine.wait_for(before, "partial")
        other = engine.submit(["http://other.example.com/news/1"], due_s=0.5)
        engine.wait_for(other, "partial")
        wide = engine.submit([target], kind=kind, due_s=0.5)
        engine.wait_for(wide, "partial")
        later = engine.submit([f"http://{HOST}/news/later"], due_s=0.5)
        engine.wait_for(later, "partial")
        node.start()
        for task_id in (before, other, wide, later):
            task = engine.wait_for(task_id, "done", timeout_s=40)
            assert task["counter"] == task["total"]
        assert sorted((request.method, request.host, request.path) for request in node.requests) == [
            ("BAN", HOST, "/"),
            ("PURGE", HOST, "/news/later"),
            ("PURGE", "other.example.com", "/news/1"),
        ]


@pytest.mark.parametrize(
    "how", ["kill", *(pytest.param(how, marks=pytest.mark.slow) for how in ("none", "stop"))]
)
def test_five_thousand_are_parked_and_delivered(how: str, tmp_path: Path) -> None:
    """More than one chunk; nothing doubled in the counts, nothing left behind."""
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        node.stop()
        urls = [f"http://{HOST}/{number}" for number in range(5000)]
        task_id = engine.submit(urls, due_s=1)
        task = engine.wait_for(task_id, "partial")
        assert task["delayed"] == 5000
        restart(engine, how)
        wait_until(lambda: engine.node("edge-1")["delayed"] == 5000, what="all being parked")
        node.start()
        task = engine.wait_for(task_id, "done", timeout_s=60)
        assert (task["counter"], task["delayed"], task["failed"]) == (5000, 0, 0)
        wait_until(lambda: engine.node("edge-1")["state"] == "ready", what="the node being ready")
        assert engine.node("edge-1")["delayed"] == 0
        assert set(node.urls) == set(urls)
        assert len(node.requests) == 5000


def test_a_crash_before_the_due_time_does_not_double_the_delayed(tmp_path: Path) -> None:
    """The journal's task begins anew: its rows of before are not counted with those of now."""
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        node.stop()
        task_id = engine.submit([f"http://{HOST}/{number}" for number in range(100)], due_s=600)
        for _ in range(3):
            wait_until(lambda: engine.node("edge-1")["delayed"] == 100, what="all being parked")
            wait_until(lambda: engine.get("/v1/engine/stats")["saver_queue"] == 0, what="being saved")
            engine.kill()
            engine.start()
        wait_until(lambda: engine.task(task_id)["delayed"] == 100, what="all being parked")
        assert engine.node("edge-1")["delayed"] == 100
        node.start()
        assert engine.wait_for(task_id, "done", timeout_s=40)["counter"] == 100
        assert len(node.requests) == 100
        assert engine.node("edge-1")["delayed"] == 0


def test_new_tasks_are_taken_while_the_delayed_are_delivered(tmp_path: Path) -> None:
    """A busy engine catches up: the old first, the new after them, the node ready at the end."""
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        node.stop()
        old = engine.submit([f"http://{HOST}/old/{number}" for number in range(3000)], due_s=0.5)
        engine.wait_for(old, "partial")
        node.start()
        new: list[str] = []
        while engine.node("edge-1")["state"] != "ready":
            new.append(engine.submit([f"http://{HOST}/new/{len(new)}"]))
        for task_id in new:
            assert engine.wait_for(task_id)["state"] == "done"
        assert engine.wait_for(old)["state"] == "done"
        paths = [request.path for request in node.requests]
        assert all(path.startswith("/old/") for path in paths[:100])
        assert len(paths) == len(set(paths)) == 3000 + len(new)


def test_a_delayed_purge_that_is_refused_waits_until_the_access_list_is_mended(tmp_path: Path) -> None:
    """Back, but with a wrong access list."""
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        node.stop()
        task_id = engine.submit([f"http://{HOST}/a"])
        engine.wait_for(task_id, "partial")
        node.script = always(answer(403))
        node.start()
        shown = wait_until(lambda: engine.node("edge-1")["held"], what="the refusal", timeout_s=40)
        assert "refused: answered 403" in shown[0]["reason"]
        task = engine.get(f"/v1/engine/task/{task_id}")
        assert (task["state"], task["failed"], task["delayed"]) == ("partial", 0, 1)

        def says_so() -> bool:
            return any("refused: answered 403" in error["reason"] for error in engine.task(task_id)["errors"])

        wait_until(says_so, what="the task saying why it waits now")
        node.script = always(OK)
        assert engine.wait_for(task_id, "done", timeout_s=40)["errors"] == []


def test_a_full_delay_queue_turns_tasks_away_that_have_no_other_node(tmp_path: Path) -> None:
    """What was accepted before is kept and delivered; then there is room again. No host is purged instead."""

    def ask(**body: object) -> tuple[int, dict[str, str], bytes]:
        return engine.request("POST", "/v1/engine/task", json.dumps(body).encode())

    nodes = {"one": FakeNode(), "other": FakeNode()}
    with (
        nodes["one"] as node,
        nodes["other"] as other,
        EngineProcess(
            tmp_path,
            fake_table(node.url, name="edge-1", driver="squid") + fake_table(other.url, name="edge-2"),
            delay_rows_max=10,
        ) as engine,
    ):
        node.stop()
        urls = [f"http://{HOST}/{number}" for number in range(10)]
        first = "first"
        assert ask(id=first, targets=urls, nodes=["edge-1"])[0] == 202
        engine.wait_for(first, "partial")
        status, headers, body = ask(targets=urls[:1], nodes=["edge-1"])
        assert (status, headers["retry-after"]) == (503, "60")
        assert "the delay queue of edge-1 is full" in json.loads(body)["detail"]
        again = ask(id=first, targets=urls, nodes=["edge-1"])
        assert again[0] == 200, "the repeat of a task that is accepted adds no row"
        assert json.loads(again[2])["delayed"] == 10
        assert ask(id=first, targets=urls[:1], nodes=["edge-1"])[0] == 409
        assert ask(id="new", targets=urls[:1], nodes=["edge-1"])[0] == 503
        both = engine.submit(urls[:1])
        assert engine.wait_for(both, "partial")["counter"] == 1
        node.start()
        for task_id in (first, both):
            engine.wait_for(task_id, "done", timeout_s=40)
        assert ask(targets=urls[:1], nodes=["edge-1"])[0] == 202


def test_delivery_goes_on_after_the_node_dies_in_the_middle_of_it(tmp_path: Path) -> None:
    """One delayed purge waits for its next attempt while the node goes down again."""
    died = threading.Event()
    probes_while_dead = 0

    def script(request: Request) -> Iterable[bytes | Act]:
        nonlocal probes_while_dead
        if request.path.endswith(PROBE_PATH):
            probes_while_dead += died.is_set()
            return [Act.RESET if died.is_set() else OK]
        if request.path == "/0":
            return [answer(503)]
        died.set()
        return [Act.RESET]

    with (
        FakeNode(script, answers_probes=False) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1"), connections_per_node=1) as engine,
    ):
        node.stop()
        task_id = engine.submit([f"http://{HOST}/{number}" for number in range(50)], due_s=0.5)
        engine.wait_for(task_id, "partial")
        node.start()
        wait_until(lambda: probes_while_dead >= 3, timeout_s=30, what="several probes of the dead node")
        node.script = always(OK)
        task = engine.wait_for(task_id, "done", timeout_s=30)
        assert (task["counter"], task["delayed"]) == (50, 0)
        wait_until(lambda: engine.node("edge-1")["state"] == "ready", what="the node being ready")


def test_a_delayed_task_can_be_cancelled(tmp_path: Path) -> None:
    """What was not sent never is; another task's delayed purges stay."""
    with FakeNode() as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        node.stop()
        gone = engine.submit([f"http://{HOST}/gone"], due_s=0.5)
        kept = engine.submit([f"http://{HOST}/kept"], due_s=0.5)
        early = engine.submit([f"http://{HOST}/early"], due_s=600)
        for task_id in (gone, kept):
            engine.wait_for(task_id, "partial")
        wait_until(lambda: engine.node("edge-1")["delayed"] == 3, what="all being parked")
        for task_id in (gone, early):
            assert engine.request("DELETE", f"/v1/engine/task/{task_id}")[0] == 200
            task = engine.wait_for(task_id)
            assert (task["state"], task["delayed"]) == ("cancelled", 0)
        wait_until(lambda: engine.node("edge-1")["delayed"] == 1, what="the counts being right")
        assert engine.request("DELETE", f"/v1/engine/task/{gone}")[0] == 409
        node.start()
        engine.wait_for(kept, "done", timeout_s=40)
        assert node.urls == [f"http://{HOST}/kept"]


def ended(engine: EngineProcess) -> dict[str, int]:
    """Return how many tasks ended how, as the metrics say."""
    lines = engine.request("GET", "/metrics")[2].decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {
        state: int(float(values[f"purgeline_tasks_{state}_total"]))
        for state in ("done", "failed", "cancelled")
    }


def test_cancelling_a_stored_task_is_reported_and_its_late_delivery_is_not(tmp_path: Path) -> None:
    """What is on its way to the cache when the client cancels changes nothing any more."""
    gate = threading.Event()

    def held(request: Request) -> Iterable[bytes | Act]:
        assert gate.wait(60)
        yield OK

    receiver = Receiver()
    try:
        with (
            FakeNode(held) as node,
            EngineProcess(tmp_path, RULE + fake_table(node.url, name="edge-1")) as engine,
        ):
            node.stop()
            task_id = engine.submit([f"http://{HOST}/a"], due_s=0.5, callback=receiver.url)
            assert receiver.wait_for_posts(1)[0].document["state"] == "partial"
            node.start()
            wait_until(lambda: node.requests, what="the delivery being on its way")
            status, _, body = engine.request("DELETE", f"/v1/engine/task/{task_id}")
            assert (status, json.loads(body)["state"]) == (200, "cancelled")
            assert "callback" not in json.loads(body)
            cancelled = engine.wait_for(task_id, "cancelled")
            cancelled.pop("callback")  # the report does not tell of itself
            assert receiver.wait_for_posts(2)[1].document == cancelled
            gate.set()
            wait_until(lambda: engine.node("edge-1")["state"] == "ready", what="the node being ready")
            later = engine.wait_for(engine.submit([f"http://{HOST}/b"], callback=receiver.url))
            later.pop("callback")
            assert receiver.wait_for_posts(3)[2].document == later
            found = engine.task(task_id)
            told = found.pop("callback")
            assert found == cancelled
            assert (told["state"], told["host"]) == ("delivered", "127.0.0.1")
            assert len(receiver.posts) == 3
            assert ended(engine) == {"done": 1, "failed": 0, "cancelled": 1}
            assert engine.node("edge-1")["delayed"] == 0
    finally:
        receiver.stop()


def test_late_ends_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    """Tasks that only the store knows: two done, one failed."""

    def picky(request: Request) -> Iterable[bytes | Act]:
        yield answer(400) if request.path == "/bad" else OK

    with FakeNode(picky) as node, EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine:
        node.stop()
        ends = {"/a": "done", "/b": "done", "/bad": "failed"}
        ids = {path: engine.submit([f"http://{HOST}{path}"], due_s=0.5) for path in ends}
        for task_id in ids.values():
            engine.wait_for(task_id, "partial")
        wait_until(lambda: engine.get("/v1/engine/stats")["tasks_in_cache"] == 0, what="all being stored")
        node.start()
        for path, state in ends.items():
            engine.wait_for(ids[path], state, timeout_s=40)
        expected = {"done": 2, "failed": 1, "cancelled": 0}
        wait_until(lambda: ended(engine) == expected, what="the counts being right")


# https


def test_an_https_node_with_its_own_ca_is_purged(tmp_path: Path) -> None:
    """The CA file of the node's table is what counts; unverified only when asked for."""
    ca, tls = make_certificate(tmp_path, "own")
    with FakeNode(tls=tls) as node:
        tables = fake_table(node.url, name="own", ca_file=str(ca))
        tables += fake_table(node.url, name="unverified", tls_verify=False)
        with EngineProcess(tmp_path, tables) as engine:
            task = engine.wait_for(engine.submit([f"http://{HOST}/{number}" for number in range(200)]))
            assert (task["state"], task["counter"]) == ("done", 400)


def test_an_https_node_with_the_wrong_ca_is_unreachable_and_says_why(tmp_path: Path) -> None:
    """No purge goes to whoever holds another key."""
    _, tls = make_certificate(tmp_path, "own")
    other, _ = make_certificate(tmp_path, "other")
    with (
        FakeNode(tls=tls) as node,
        FakeNode() as plain,
        EngineProcess(
            tmp_path,
            fake_table(node.url, name="wrong-ca", ca_file=str(other))
            + fake_table(node.url, name="no-ca")
            + fake_table(plain.url.replace("http://", "https://"), name="no-tls", tls_verify=False),
        ) as engine,
    ):
        task_id = engine.submit([f"http://{HOST}/a"], due_s=1)
        engine.wait_for(task_id, "partial")
        wait_until(lambda: engine.task(task_id)["delayed"] == 3, what="all being parked")
        errors = {error["node"]: error["reason"] for error in engine.task(task_id)["errors"]}
        for name in ("wrong-ca", "no-ca"):
            assert engine.node(name)["state"] == "down"
            assert "unreachable" in errors[name]
            assert "certificate verify failed" in errors[name].lower()
        assert engine.node("no-tls")["state"] == "down"
        assert not node.requests
        assert not plain.requests

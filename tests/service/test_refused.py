"""A cache that answers, but may not or will not purge: said loudly, and not hammered."""

import time
from pathlib import Path

import pytest

from engine.nodes.refusals import REFUSAL_HOLD_S
from release.lab import caches
from release.lab.origin import Origin
from tests.fakes.node import OK, Act, FakeNode, Request, always, answer
from tests.rigs.engine_process import EngineProcess, fake_table, get_body, node_table
from tests.waiting import wait_until

HOST = "img.example.com"
DRIVERS = ["varnish", "ats", "nginx", "squid"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_wrong_access_list_fails_the_task_and_says_so(driver: str, origin: Origin, tmp_path: Path) -> None:
    """The visitor still gets old content, so nothing may call this done."""
    with (
        caches.start_cache(
            driver, tmp_path, name="edge-1", backend=origin.address, purge_allowed=False
        ) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        get_body(cache, "/a")
        origin.version = "v2"
        task = engine.wait_for(engine.submit([f"http://{HOST}/a"]))
        assert (task["state"], task["counter"], task["failed"]) == ("failed", 0, 1)
        (error,) = task["errors"]
        assert (error["node"], error["target"]) == ("edge-1", f"http://{HOST}/a")
        assert "refused" in error["reason"]
        assert "403" in error["reason"]
        node = engine.node("edge-1")
        assert (node["refused"], node["acked"]) == (1, 0)
        assert "refused" in node["last_error"]
        assert get_body(cache, "/a").startswith(b"v1 ")


@pytest.mark.parametrize("driver", DRIVERS)
def test_others_are_purged_beside_a_refusing_node(driver: str, origin: Origin, tmp_path: Path) -> None:
    """One wrong access list: the task fails, and every other cache has new content."""
    with (
        caches.start_cache(
            driver, tmp_path, name="closed", backend=origin.address, purge_allowed=False
        ) as closed,
        caches.start_varnish(tmp_path, name="open", backend=origin.address) as ready,
        EngineProcess(tmp_path, node_table(closed, name="closed") + node_table(ready, name="open")) as engine,
    ):
        targets = [f"http://{HOST}/{number}" for number in range(200)]
        get_body(ready, "/7")
        origin.version = "v2"
        task = engine.wait_for(engine.submit(targets))
        assert (task["state"], task["counter"], task["failed"]) == ("failed", 200, 200)
        assert {error["node"] for error in task["errors"]} == {"closed"}
        assert get_body(ready, "/7").startswith(b"v2 ")
        assert (engine.node("open")["state"], engine.node("closed")["state"]) == ("ready", "refusing")


def test_ats_without_a_remap_rule_is_refused_and_not_absent(origin: Origin, tmp_path: Path) -> None:
    """Both are a 404; only one with a body means that nothing was looked up."""
    with (
        caches.start_ats(tmp_path, name="edge-1", backend=origin.address, hosts=[HOST]) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        task = engine.wait_for(engine.submit([f"http://{HOST}/not-cached", "http://other.example.com/a"]))
        assert (task["state"], task["counter"], task["failed"]) == ("failed", 1, 1)
        assert task["errors"][0]["target"] == "http://other.example.com/a"
        assert "refused" in task["errors"][0]["reason"]
        assert "no rule for this host" in task["errors"][0]["reason"]
        assert engine.node("edge-1")["refused"] == 1


def test_a_refusing_node_is_not_hammered(tmp_path: Path) -> None:
    """5,000 URLs: what is in the pipelines when the first refusals come, and nothing after it."""
    with (
        FakeNode(always(answer(403, b"no"))) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine,
    ):
        began = time.monotonic()
        targets = [f"http://{HOST}/{number}" for number in range(5000)]
        task = engine.wait_for(engine.submit(targets))
        assert (task["state"], task["failed"], len(task["errors"])) == ("failed", 5000, 100)
        tries = int((time.monotonic() - began) / REFUSAL_HOLD_S) + 1
        assert len(node.requests) <= 4 + 8 + tries
        assert engine.node("edge-1")["state"] == "refusing"
        sent = len(node.requests)
        task = engine.wait_for(engine.submit(targets))
        assert task["failed"] == 5000
        assert "not sent, because it has refused" in task["errors"][-1]["reason"]
        assert len(node.requests) - sent <= 2


def test_a_refused_host_leaves_other_hosts_alone(tmp_path: Path) -> None:
    """One host without a rule: thousands of its URLs fail, another host's on the same node are done."""

    def script(request: Request) -> list[bytes | Act]:
        return [answer(404, b"<html>no rule</html>") if request.host == "bad.example.com" else OK]

    with (
        FakeNode(script) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1", driver="ats")) as engine,
    ):
        began = time.monotonic()
        bad = engine.submit([f"http://bad.example.com/{number}" for number in range(2000)])
        good = engine.submit([f"http://{HOST}/{number}" for number in range(2000)])
        task = engine.wait_for(good)
        assert (task["state"], task["counter"]) == ("done", 2000)
        task = engine.wait_for(bad)
        assert (task["state"], task["failed"]) == ("failed", 2000)
        tries = int((time.monotonic() - began) / REFUSAL_HOLD_S) + 1
        assert sum(request.host == "bad.example.com" for request in node.requests) <= 4 + 8 + tries
        assert sum(request.host == HOST for request in node.requests) == 2000


def test_a_node_that_lets_purges_in_again_is_ready_again(tmp_path: Path) -> None:
    """After the operator's repair one try gets through, and ends the refusing state."""
    with (
        FakeNode(always(answer(403))) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine,
    ):
        engine.wait_for(engine.submit([f"http://{HOST}/{number}" for number in range(50)]))
        assert engine.node("edge-1")["state"] == "refusing"
        node.script = always(OK)

        def is_done() -> bool:
            return str(engine.wait_for(engine.submit([f"http://{HOST}/a"]))["state"]) == "done"

        wait_until(is_done, what="a purge being let through")
        assert engine.node("edge-1")["state"] == "ready"
        task = engine.wait_for(engine.submit([f"http://{HOST}/{number}" for number in range(50)]))
        assert task["state"] == "done"


@pytest.mark.parametrize("status", [401, 405, 407, 501])
def test_these_answers_are_refusals_as_well(status: int, tmp_path: Path) -> None:
    """A login, or a method the cache does not know: the same request would be refused again."""
    with (
        FakeNode(always(answer(status, b"no"))) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine,
    ):
        task = engine.wait_for(engine.submit([f"http://{HOST}/a"]))
        assert task["state"] == "failed"
        assert f"refused: answered {status}" in task["errors"][0]["reason"]
        assert len(node.requests) == 1

"""A cache that answers, but may not or will not purge: said loudly, and not hammered."""

from pathlib import Path

import pytest

from release.lab import caches
from release.lab.origin import Origin
from tests.fakes.node import OK, Act, FakeNode, Request, always, answer
from tests.rigs.engine_process import EngineProcess, fake_table, get_body, node_table
from tests.waiting import wait_until

HOST = "img.example.com"
DRIVERS = ["varnish", "ats", "nginx", "squid"]
NUMBERS = ("state", "counter", "failed", "delayed")


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_wrong_access_list_holds_the_task_and_says_so(driver: str, origin: Origin, tmp_path: Path) -> None:
    """The visitor still gets old content, so nothing may call this done; and an operator can mend it."""
    with (
        caches.start_cache(
            driver, tmp_path, name="edge-1", backend=origin.address, purge_allowed=False
        ) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        get_body(cache, "/a")
        origin.version = "v2"
        task = engine.wait_for(engine.submit([f"http://{HOST}/a"]), "partial")
        assert [task[key] for key in NUMBERS] == ["partial", 0, 0, 1]
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
    """One wrong access list: the task waits for that node, and every other cache has new content."""
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
        task = engine.wait_for(engine.submit(targets), "partial")
        assert [task[key] for key in NUMBERS] == ["partial", 200, 0, 200]
        assert {error["node"] for error in task["errors"]} == {"closed"}
        assert get_body(ready, "/7").startswith(b"v2 ")
        assert (engine.node("open")["state"], engine.node("closed")["state"]) == ("ready", "refusing")


def test_a_rule_that_was_missing_is_all_that_a_held_task_waits_for(origin: Origin, tmp_path: Path) -> None:
    """ATS: both answers are a 404; only one with a body means that nothing was looked up."""
    with (
        caches.start_ats(tmp_path, name="edge-1", backend=origin.address, hosts=[HOST]) as cache,
        EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine,
    ):
        targets = [f"http://{HOST}/not-cached", "http://other.example.com/a"]
        task = engine.wait_for(engine.submit(targets), "partial")
        assert [task[key] for key in NUMBERS] == ["partial", 1, 0, 1]
        assert task["errors"][0]["target"] == "http://other.example.com/a"
        assert "refused" in task["errors"][0]["reason"]
        assert "no rule for this host" in task["errors"][0]["reason"]
        node = engine.node("edge-1")
        [held] = node["held"]
        assert (node["state"], held["host"], held["operation"]) == (
            "refusing",
            "other.example.com",
            "purge_url",
        )
        rules = next(cache.workdir.rglob("remap.config"))
        rules.write_text(f"{rules.read_text()}map http://other.example.com/ http://{origin.address}/\n")
        cache.kill()
        cache.start()
        assert engine.wait_for(task["task_id"], "done", timeout_s=60)["errors"] == []


BANS_OF_ONE_HOST = 'if (req.method == "BAN" && req.http.Purgeline-Ban-Host == "closed.example.com") {'


def test_refused_bans_of_a_host_leave_its_purges_and_other_bans_alone(origin: Origin, tmp_path: Path) -> None:
    """A Varnish whose VCL refuses the bans of one host only."""
    closed = "closed.example.com"
    with caches.start_varnish(tmp_path, name="edge-1", backend=origin.address) as cache:
        vcl = next(cache.workdir.rglob("*.vcl"))
        text = vcl.read_text()
        marker = "sub vcl_recv {"
        assert marker in text
        refusing = f'{marker}\n    {BANS_OF_ONE_HOST} return (synth(405, "No bans")); }}\n'
        _restart(cache, vcl, text.replace(marker, refusing, 1))
        with EngineProcess(tmp_path, node_table(cache, name="edge-1")) as engine:
            bans = engine.submit([f"http://{closed}/{number}/" for number in range(20)], kind="prefix")
            task = engine.wait_for(bans, "partial")
            assert [task[key] for key in NUMBERS] == ["partial", 0, 0, 20]
            purges = engine.submit([f"http://{closed}/{number}" for number in range(20)])
            assert engine.wait_for(purges)["state"] == "done"
            other = engine.submit([f"http://{HOST}/"], kind="prefix")
            assert engine.wait_for(other)["state"] == "done"
            node = engine.node("edge-1")
            assert [(held["host"], held["operation"]) for held in node["held"]] == [(closed, "purge_prefix")]
            _restart(cache, vcl, text)
            assert engine.wait_for(bans, "done", timeout_s=60)["counter"] == 20
            wait_until(lambda: engine.node("edge-1")["state"] == "ready", what="a node that refuses nothing")


def _restart(cache: caches.Cache, file: Path, text: str) -> None:
    cache.kill()
    file.write_text(text)
    cache.start()


def test_a_refusing_node_is_not_hammered(tmp_path: Path) -> None:
    """5,000 URLs: what is in the pipelines when the first refusals come, and single trials after it."""
    with (
        FakeNode(always(answer(403, b"no"))) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine,
    ):
        targets = [f"http://{HOST}/{number}" for number in range(5000)]
        task = engine.wait_for(engine.submit(targets), "partial")
        assert (task["state"], task["delayed"], len(task["errors"])) == ("partial", 5000, 100)
        assert len(node.requests) <= 4 + 8 + 2
        assert engine.node("edge-1")["state"] == "refusing"
        sent = len(node.requests)
        task = engine.wait_for(engine.submit(targets), "partial")
        assert task["delayed"] == 5000
        assert "not sent, because it has refused" in task["errors"][-1]["reason"]
        assert len(node.requests) - sent <= 3


def test_a_refused_host_leaves_other_hosts_alone(tmp_path: Path) -> None:
    """One host without a rule: thousands of its URLs wait, another host's on the same node are done."""

    def script(request: Request) -> list[bytes | Act]:
        return [answer(404, b"<html>no rule</html>") if request.host == "bad.example.com" else OK]

    with (
        FakeNode(script) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1", driver="ats")) as engine,
    ):
        bad = engine.submit([f"http://bad.example.com/{number}" for number in range(2000)])
        good = engine.submit([f"http://{HOST}/{number}" for number in range(2000)])
        task = engine.wait_for(good)
        assert (task["state"], task["counter"]) == ("done", 2000)
        task = engine.wait_for(bad, "partial")
        assert (task["state"], task["delayed"]) == ("partial", 2000)
        assert sum(request.host == "bad.example.com" for request in node.requests) <= 4 + 8 + 3
        assert sum(request.host == HOST for request in node.requests) == 2000


def test_a_node_that_lets_purges_in_again_gets_what_waited_and_is_ready(tmp_path: Path) -> None:
    """After the operator's repair one trial gets through; the rest of the same task follows."""
    with (
        FakeNode(always(answer(403))) as node,
        EngineProcess(tmp_path, fake_table(node.url, name="edge-1")) as engine,
    ):
        held = engine.submit([f"http://{HOST}/{number}" for number in range(50)])
        engine.wait_for(held, "partial")
        assert engine.node("edge-1")["state"] == "refusing"
        node.script = always(OK)
        assert engine.wait_for(held, "done", timeout_s=40)["counter"] == 50
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
        task = engine.wait_for(engine.submit([f"http://{HOST}/a"]), "partial")
        assert f"refused: answered {status}" in task["errors"][0]["reason"]

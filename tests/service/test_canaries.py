"""Canaries of a whole engine: what they find on real caches, and who answers, runs and shows them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine.api.canary_origin import CanaryOrigin, CanaryServer
from engine.config.tables import CanaryConfig
from engine.errors import ConfigError
from engine.nodes.canary import HEADER, Canary
from release.lab import caches
from release.lab.caches import free_port
from release.lab.origin import Origin
from tests.fakes.canary_cache import CanaryCache
from tests.fakes.node import FakeNode
from tests.rigs.engine_in_loop import run, running
from tests.rigs.engine_process import EngineProcess, fake_table, get_body, layer_tables, node_table
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import until, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.process.lifecycle import Lifecycle
    from release.lab.caches import Cache

PATH = CanaryConfig().path
LYING = 'sub vcl_recv { if (req.method == "PURGE") { return (synth(200, "Purged")); } }\n'


def canary_table(**keys: object) -> str:
    return "[canary]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def canary_of(engine: EngineProcess, name: str) -> dict[str, Any]:
    return engine.node(name)["canary"] or {}


def states_of(engine: EngineProcess) -> dict[str, str]:
    """Return what the last canaries of all nodes came to; empty while one had none."""
    nodes = engine.get("/v1/engine/nodes")["nodes"]
    if not all(node["canary"] for node in nodes):
        return {}
    return {node["name"]: node["canary"]["state"] for node in nodes}


def ask(port: int, method: str = "GET", name: str = "x", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask a canary origin."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, PATH + name, headers={n.replace("_", "-"): v for n, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


class Site:
    """A Varnish behind a Varnish, three other caches beside them, and an engine whose canaries they fetch."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        origin = stack.enter_context(Origin())
        self.engine = EngineProcess(folder, "", request_timeout_s=2)
        canary = f"127.0.0.1:{self.engine.port}"
        parent = stack.enter_context(
            caches.start_varnish(
                folder, name="parent-1", backend=origin.address, is_parent=True, canary=canary
            )
        )
        self.edge = stack.enter_context(caches.start_varnish(folder, name="edge-1", backend=parent.address))
        self.others = [
            stack.enter_context(
                caches.start_cache(driver, folder, name=driver, backend=origin.address, canary=canary)
            )
            for driver in ("nginx", "ats", "squid")
        ]
        self.engine.configure(
            canary_table(interval_s=0.4)
            + layer_tables("parent", "edge")
            + node_table(parent, name="parent-1", layer="parent")
            + node_table(self.edge, name="edge-1", parents=["parent-1"])
            + "".join(node_table(cache, name=cache.name, parents=[]) for cache in self.others)
        )
        stack.enter_context(self.engine)

    def wait_for(self, state: str) -> dict[str, Any]:
        """Wait until the edge's canary is in this state, and return it."""
        wait_until(lambda: canary_of(self.engine, "edge-1").get("state") == state, what=f"a {state} canary")
        return canary_of(self.engine, "edge-1")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("canaries"), stack)


def test_every_kind_of_canary_is_fresh_on_every_kind_of_cache(site: Site) -> None:
    """Each fetches canaries as its template has it, and pages from their origin as before."""
    engine = site.engine
    wait_until(lambda: set(states_of(engine).values()) == {"fresh"}, what="fresh canaries")
    kinds = {name: set(canary_of(engine, name)["kinds"]) for name in states_of(engine)}
    assert kinds["parent-1"] == kinds["edge-1"] == {"url", "prefix", "regex", "key", "host"}
    assert kinds["nginx"] == kinds["ats"] == kinds["squid"] == {"url"}
    assert all(get_body(cache, "/a.html").startswith(b"v1 ") for cache in (site.edge, *site.others))
    page = engine.request("GET", "/metrics")[2].decode()
    assert 'purgeline_canary_fresh_seconds_count{kind="key",node="edge-1"}' in page
    assert 'purgeline_canary_stale_total{kind="url",node="squid"} 0.0' in page


def test_a_cache_that_acks_and_keeps_is_found_by_its_next_canary(site: Site) -> None:
    engine = site.engine
    good = (site.edge.workdir / "varnish.vcl").read_text()
    site.wait_for("fresh")
    _put(site.edge, good.replace("sub vcl_recv {", LYING + "sub vcl_recv {", 1))
    assert "its purges do not reach what visitors get" in site.wait_for("stale")["reason"]
    wait_until(lambda: "host" in canary_of(engine, "edge-1")["kinds"])  # not only that of its return
    assert canary_of(engine, "edge-1")["kinds"]["host"]["state"] == "fresh"  # bans work as before
    assert engine.wait_for(engine.submit(["http://img.example.com/a"]))["state"] == "done"
    page = engine.request("GET", "/metrics")[2].decode()
    assert 'purgeline_canary_stale_total{kind="url",node="edge-1"} 0.0' not in page
    wait_until(lambda: '"alert":"canary:edge-1"' in engine.log(), what="the line in the log")
    _put(site.edge, good)
    site.wait_for("fresh")
    wait_until(lambda: "its canary is fresh again" in engine.log())


def _put(cache: Cache, vcl: str) -> None:
    cache.kill()
    cache.write({"varnish.vcl": vcl})
    cache.start()


async def _turn(engine: Lifecycle) -> dict[str, Any]:
    """Run a round; return what it showed of the node."""
    canaries = engine.parts.canaries
    assert canaries.canaries is not None
    await canaries.canaries.run_all()
    return canaries.document("edge-1") or {}


CANARY: dict[str, object] = {"canary": {"interval_s": 1000}}


def test_a_canary_that_is_not_routed_is_told_and_holds_no_node_from_ready(tmp_path: Path) -> None:
    cache = CanaryCache()

    async def scenario() -> None:
        with FakeNode(cache) as node:
            cache.answers["GET"] = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
            async with running(tmp_path, node.url, tables=CANARY) as (engine, _):
                for _ in range(2):
                    assert (await _turn(engine))["state"] == "not_routed"
                health = engine.parts.core.nodes["edge-1"].health
                assert health.state == "ready"
                engine.parts.core.nodes["edge-1"].start_probe()
                await until(lambda: health.state == "ready" and health.returns == 1)
                del cache.answers["GET"]
                assert (await _turn(engine))["state"] == "fresh"
        log = (tmp_path / "log").read_text()
        assert log.count("canaries are not routed from edge-1 to the engine") == 1
        assert "purgeline render ats" in log
        assert log.count("its canary is fresh again") == 1

    run(scenario)


def test_a_node_that_comes_back_is_ready_after_its_canary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While that is stale, purges go out all the same."""
    monkeypatch.setattr("engine.proof.canary_round.PATIENCE_S", 0.05)
    monkeypatch.setattr("engine.proof.canaries._TRY_AGAIN_S", 0.2)
    cache = CanaryCache()
    cache.lies = True

    async def scenario() -> None:
        with FakeNode(cache) as fake:
            async with running(tmp_path, fake.url, tables=CANARY) as (engine, _):
                node = engine.parts.core.nodes["edge-1"]
                node.start_probe()
                await until(lambda: engine.parts.canaries.document("edge-1"), "a canary")
                assert node.state != "ready"
                assert (engine.parts.canaries.document("edge-1") or {})["state"] == "stale"
                await until(lambda: node.health.takes_new)
                cache.lies = False
                await until(lambda: node.state == "ready")
                assert (engine.parts.canaries.document("edge-1") or {})["state"] == "fresh"

    run(scenario)


def test_a_cache_that_begins_to_lie_is_told_of_within_one_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it begins: the next round begins within the interval, and has patience for a moment."""
    patience_s, interval_s, late_s = 0.05, 5, 4
    monkeypatch.setattr("engine.proof.canary_round.PATIENCE_S", patience_s)
    cache = CanaryCache()

    async def scenario() -> None:
        with FakeNode(cache) as node:
            table: dict[str, object] = {"canary": {"interval_s": interval_s}}
            async with running(tmp_path, node.url, tables=table) as (engine, _):

                def state() -> str:
                    return str((engine.parts.canaries.document("edge-1") or {}).get("state"))

                await until(lambda: state() == "fresh")
                cache.lies = True  # just after a round
                lies_at = time.monotonic()
                await until(lambda: state() == "stale")
                assert time.monotonic() - lies_at < interval_s + patience_s + late_s

    run(scenario)
    assert '"alert":"canary:edge-1"' in (tmp_path / "log").read_text()


def test_the_origin_says_nothing_that_no_engine_of_its_store_has_made(tmp_path: Path) -> None:
    with FakeNode(CanaryCache()) as node:
        tables = canary_table(interval_s=1000) + fake_table(node.url, name="edge-1")
        with EngineProcess(tmp_path, tables) as engine:
            key = tmp_path / "var" / "canary.key"
            assert (len(key.read_bytes()), key.stat().st_mode & 0o777) == (32, 0o600)
            canary = Canary(CanaryConfig())
            canary.key = key.read_bytes()
            value = canary.mint()
            status, headers, body = ask(engine.port, **{HEADER: value})
            assert (status, headers["content-type"], body.decode()) == (
                200, "text/plain; charset=utf-8", value
            )  # fmt: skip
            assert headers["cache-control"] == "public, max-age=300"
            assert ask(engine.port, "HEAD", **{HEADER: value})[0] == 200
            assert ask(engine.port, "POST", **{HEADER: value})[0] == 405
            nonce, _, mac = value.partition(".")
            hostile = (
                "", nonce, f".{mac}", f"{nonce}.", f"{mac}.{mac}", value.upper(), value + "0",
                f"{value},{value}", "<script>alert(1)</script>", "a" * 6000,
                f"{nonce}.{'0' * 32}", "\xe9" * 65,
            )  # fmt: skip
            for text in hostile:
                status, headers, body = ask(engine.port, **({HEADER: text} if text else {}))
                assert (status, headers["cache-control"]) == (404, "no-store"), text
                assert not text or text.encode("latin-1") not in body
            assert ask(engine.port, name="a/../../v1/engine/nodes", **{HEADER: value})[0] == 404
            assert b"no canary" in ask(engine.port)[2]
        assert "Traceback" not in engine.log()


@pytest.mark.slow
def test_one_of_two_workers_runs_canaries_and_both_answer_and_show_them(tmp_path: Path) -> None:
    cache = CanaryCache()
    with FakeNode(cache) as node:
        tables = canary_table(interval_s=0.2) + fake_table(node.url, name="edge-1", driver="ats")
        with SupervisedEngine(tmp_path, tables, workers=2) as engine:
            wait_until(lambda: len(cache.seen) >= 12, what="three rounds")
            assert all(states_of(engine) == {"edge-1": "fresh"} for _ in range(8))  # whoever is asked
            canary = Canary(CanaryConfig())
            canary.key = (tmp_path / "var" / "canary.key").read_bytes()
            assert {ask(engine.port, **{HEADER: canary.mint()})[0] for _ in range(8)} == {200}
            rounds = [path for method, path in cache.seen if method == "PURGE" and PATH in path]
            seconds = max(r.at for r in node.requests) - min(r.at for r in node.requests)
            assert len(rounds) <= seconds / 0.2 + 2
            cache.lies = True  # which a deploy watches for, by what the supervisor knows
            wait_until(lambda: any(worker["stale"] for worker in engine.workers()), what="a stale canary")
            [found] = [worker["stale"] for worker in engine.workers() if worker["stale"]]
            assert "edge-1 acked the purge of its canary" in found["edge-1"]
            assert [worker["canaries"] for worker in engine.workers()] == ["seen", "elsewhere"]


def test_canaries_may_have_a_port_of_their_own_which_is_told_when_it_is_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        with FakeNode(CanaryCache()) as node, socket.create_server(("127.0.0.1", 0)) as taken:
            port = free_port()
            own: dict[str, object] = {"canary": {"interval_s": 1000, "listen": f"127.0.0.1:{port}"}}
            async with running(tmp_path, node.url, tables=own) as (engine, engine_port):
                canary = Canary(CanaryConfig())
                canary.key = (tmp_path / "var" / "canary.key").read_bytes()
                value = {HEADER: canary.mint()}
                assert (await asyncio.to_thread(lambda: ask(port, **value)))[0] == 200
                assert (await asyncio.to_thread(lambda: ask(port)))[0] == 404
                assert b"nothing at" in (await asyncio.to_thread(lambda: ask(engine_port, **value)))[2]
                assert (await _turn(engine))["state"] == "fresh"
                assert engine.parts.canaries.canaries is not None
                origin = CanaryOrigin(engine.parts.canaries.canaries, PATH)
            with pytest.raises(ConfigError, match=r"canary.listen: 127.0.0.1:[0-9]+ cannot be bound"):
                await CanaryServer(origin, f"127.0.0.1:{taken.getsockname()[1]}").start()

    run(scenario)

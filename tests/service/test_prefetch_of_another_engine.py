"""Engines on one Redis, as on several machines: a purge through one waits for the prefetch of another.

Real caches, and an origin that holds its answer back; what it answers is what it had when it was asked.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from release.lab import caches
from tests.fakes.node import OK, Act, FakeNode, Request
from tests.fakes.proxy import Proxy
from tests.rigs.cluster_engine import cluster_engine
from tests.rigs.engine_process import EngineProcess, get_body, layer_tables, node_table
from tests.rigs.redis_servers import RedisServer
from tests.service.test_prefetch_beside_purge import HOST, SlowOrigin
from tests.waiting import wait_until

pytestmark = pytest.mark.redis
PREFETCH_TIMEOUT_S = 1


class Rig:
    """A Redis, a slow origin, a Varnish and one below a parent, and two engines for all of them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.redis = stack.enter_context(RedisServer(folder))
        self.origin = SlowOrigin()
        stack.enter_context(self.origin.node)
        backend = self.origin.address
        parent = stack.enter_context(
            caches.start_varnish(folder, name="parent", backend=backend, is_parent=True)
        )
        below = stack.enter_context(caches.start_varnish(folder, name="below", backend=parent.address))
        edge = stack.enter_context(caches.start_varnish(folder, name="edge", backend=backend))
        self.caches: dict[str, caches.Cache] = {"parent": parent, "below": below, "edge": edge}
        self._tables = (
            f'[store]\nurl = "{self.redis.url}"\n'
            + layer_tables("parent", "edge")
            + node_table(parent, name="parent", layer="parent", parents=[])
            + node_table(below, name="below", parents=["parent"])
            + node_table(edge, name="edge", parents=[])
        )
        self._folder = folder
        self.one, self.other = (stack.enter_context(self.engine(name)) for name in ("one", "other"))

    def engine(self, name: str, **settings: Any) -> EngineProcess:
        """Return an engine with a folder of its own, not started yet."""
        folder = self._folder / name
        folder.mkdir()
        return EngineProcess(folder, self._tables, name=name, **settings)

    def prefetch_old(self, engine: EngineProcess, url: str, node: str) -> threading.Event:
        """Have an engine prefetch what the origin then changes; returns the event that lets it go."""
        let_go = self.origin.hold()
        path = url.partition(HOST)[2]
        engine.submit([url], action="prefetch", nodes=[node])
        wait_until(lambda: self.origin.hits(path) == 1, what="the origin being asked")
        self.origin.change()
        return let_go


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(tmp_path_factory.mktemp("engines"), stack)


def purge_waits(engine: EngineProcess, task_id: str, node: str) -> None:
    """Wait until a node has acked a purge, and see that it does not count."""
    wait_until(lambda: engine.node(node)["waiting"] == 1, what="the first answer")
    time.sleep(0.3)
    assert engine.task(task_id)["counter"] == 0


@pytest.mark.parametrize("kind", ["url", "prefix", "host"])
def test_a_purge_waits_for_the_prefetch_of_another_engine(rig: Rig, kind: str) -> None:
    url = f"http://{HOST}/{kind}/a"
    target = {"url": url, "prefix": f"http://{HOST}/{kind}/", "host": HOST}[kind]
    let_go = rig.prefetch_old(rig.other, url, "edge")
    task = rig.one.submit([target], kind=kind, nodes=["edge"])
    purge_waits(rig.one, task, "edge")
    let_go.set()
    assert rig.one.wait_for(task)["state"] == "done"
    assert get_body(rig.caches["edge"], f"/{kind}/a").startswith(b"v2 ")


def test_a_prefetch_of_another_engine_at_an_edge_is_under_way_at_its_parent(rig: Rig) -> None:
    url = f"http://{HOST}/through"
    let_go = rig.prefetch_old(rig.other, url, "below")
    task = rig.one.submit([url], nodes=["parent", "below"])
    purge_waits(rig.one, task, "parent")
    let_go.set()
    assert rig.one.wait_for(task)["counter"] == 2
    assert [get_body(rig.caches[name], "/through")[:2] for name in ("below", "parent")] == [b"v2", b"v2"]


def test_a_prefetch_of_an_engine_that_was_killed_counts_until_it_surely_has_ended(rig: Rig) -> None:
    url = f"http://{HOST}/killed"
    with rig.engine("killed", prefetch_timeout_s=PREFETCH_TIMEOUT_S) as killed:
        let_go = rig.prefetch_old(killed, url, "edge")
        killed.kill()
        task = rig.one.submit([url], nodes=["edge"])
        purge_waits(rig.one, task, "edge")
        let_go.set()
        assert rig.one.wait_for(task, timeout_s=30)["state"] == "done"
    assert get_body(rig.caches["edge"], "/killed").startswith(b"v2 ")


def test_a_purge_that_is_acked_while_redis_is_away_counts_after_a_look_at_it(tmp_path: Path) -> None:
    """It was sent while another engine's prefetch was under way, and is sent again after its end."""
    may_answer, let_go = threading.Event(), threading.Event()

    def script(request: Request) -> Iterator[bytes | Act]:
        (let_go if request.method == "GET" else may_answer).wait(60)
        yield OK

    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(tmp_path))
        between = stack.enter_context(Proxy(server.port))
        cache = stack.enter_context(FakeNode(script))
        through = f"redis://127.0.0.1:{between.port}/0"
        one = stack.enter_context(cluster_engine(tmp_path, through, [cache], number=1))
        other = stack.enter_context(cluster_engine(tmp_path, server.url, [cache], number=2))
        other.submit([f"http://{HOST}/a"], action="prefetch")
        wait_until(lambda: len(cache.urls) == 1, what="the prefetch")
        task = one.submit([f"http://{HOST}/a"])
        wait_until(lambda: len(cache.urls) == 2, what="the purge")
        between.cut()
        may_answer.set()
        wait_until(lambda: one.node("edge-1")["in_flight"] == 0, what="its answer")
        assert (one.node("edge-1")["waiting"], one.task(task)["counter"]) == (1, 0)
        between.heal()
        wait_until(lambda: one.request("GET", "/readyz")[0] == 200, what="Redis being back")
        purge_waits(one, task, "edge-1")
        let_go.set()
        assert one.wait_for(task)["state"] == "done"
        assert [request.method for request in cache.requests] == ["GET", "PURGE", "PURGE"]


def test_what_waits_for_a_look_when_its_engine_ends_is_sent_again(tmp_path: Path) -> None:
    may_answer = threading.Event()

    def script(_: Request) -> Iterator[bytes | Act]:
        may_answer.wait(60)
        yield OK

    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(tmp_path))
        between = stack.enter_context(Proxy(server.port))
        cache = stack.enter_context(FakeNode(script))
        through = f"redis://127.0.0.1:{between.port}/0"
        engine = cluster_engine(tmp_path, through, [cache], number=1, drain_timeout_s=1)
        with engine:
            task = engine.submit([f"http://{HOST}/a"])
            wait_until(lambda: cache.urls, what="the purge")
            between.cut()
            may_answer.set()
            wait_until(lambda: engine.node("edge-1")["in_flight"] == 0, what="its answer")
        between.heal()
        with engine:
            assert engine.wait_for(task)["state"] == "done"
        assert len(cache.urls) == 2


def test_a_prefetch_is_not_sent_while_redis_is_away(tmp_path: Path) -> None:
    """Nobody else could see it; what Redis has of it afterwards is gone when it has ended."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(tmp_path))
        between = stack.enter_context(Proxy(server.port))
        purges = threading.Event()

        def script(request: Request) -> Iterator[bytes | Act]:
            if request.method == "PURGE":
                purges.wait(60)
            yield OK

        cache = stack.enter_context(FakeNode(script))
        through = f"redis://127.0.0.1:{between.port}/0"
        engine = stack.enter_context(cluster_engine(tmp_path, through, [cache], number=1))
        task = engine.submit([f"http://{HOST}/a"], prefetch=True)
        wait_until(lambda: cache.urls, what="the purge")
        between.cut()
        purges.set()
        wait_until(lambda: engine.node("edge-1")["in_flight"] == 0, what="its answer")
        time.sleep(0.5)
        assert len(cache.urls) == 1
        between.heal()
        assert engine.wait_for(task)["counter"] == 2
        assert [request.method for request in cache.requests] == ["PURGE", "GET"]

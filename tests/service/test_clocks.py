"""Engines whose clocks are apart: none of them decides about delivery by what another's clock showed."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine.base.clock import SteadyClock
from engine.store.redis.open import redis_store
from engine.tasks.records import Batch, Parked, Sighting
from engine.tasks.words import Operation
from release.lab.caches import free_port
from tests.fakes.node import OK, FakeNode, Request
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.redis_servers import RedisServer
from tests.rigs.wall_clock import WallClock
from tests.waiting import wait_until

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

URL = "http://a.com/"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


class Held:
    """A cache whose answers for URLs that end in ``held`` are kept back."""

    def __init__(self, node: FakeNode) -> None:
        self._event = threading.Event()
        self.open = self._event.set
        node.script = self._answer

    def _answer(self, request: Request) -> Iterator[bytes]:
        if request.url.endswith("held"):
            self._event.wait(30)
        yield OK


@contextlib.contextmanager
def engine_at(
    folder: Path, redis: RedisServer, url: str, name: str, offset_s: int
) -> Iterator[EngineProcess]:
    """Run an engine whose clock is ahead by so much; *url*: where it reaches the one node."""
    own = folder / name
    own.mkdir()
    store = f'[store]\nurl = "{redis.url}"\ntakeover_s = 1\n'
    tables = store + fake_table(url, name="edge-1", driver="ats")
    env = WallClock(own, offset_s).env
    with EngineProcess(own, tables, env=env, name=name, drain_timeout_s=1) as engine:
        yield engine


@pytest.mark.slow
def test_a_new_purge_of_an_engine_that_is_behind_does_not_count_as_sent(
    tmp_path: Path, redis: RedisServer
) -> None:
    """It comes after the same was sent, while that delivery, of an engine that is ahead, still goes on."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    with FakeNode() as edge:
        held = Held(edge)
        edge.stop()
        with (
            engine_at(tmp_path, redis, edge.url, "one", 3600) as one,
            engine_at(tmp_path, redis, nowhere, "behind", -45) as behind,
        ):
            first = one.submit([f"{URL}x", f"{URL}held"])
            one.wait_for(first, "partial")
            edge.start()
            wait_until(lambda: len(edge.urls) == 2, what="the delivery")
            new = behind.submit([f"{URL}x"])
            behind.wait_for(new, "partial")
            held.open()
            assert one.wait_for(new)["state"] == "done"
            assert edge.urls.count(f"{URL}x") == 2
            shown = {each["name"]: each["clock_ahead_s"] for each in one.get("/v1/engine/cluster")["engines"]}
            assert abs(shown["one"] - 3600) < 1
            assert abs(shown["behind"] + 45) < 1


def test_a_task_of_a_dead_engine_is_not_due_at_once_where_the_clock_is_ahead(
    tmp_path: Path, redis: RedisServer
) -> None:
    with FakeNode() as edge:
        held = Held(edge)
        with (
            engine_at(tmp_path, redis, edge.url, "one", 0) as one,
            engine_at(tmp_path, redis, edge.url, "ahead", 3600) as ahead,
        ):
            task_id = one.submit([f"{URL}held"])
            wait_until(lambda: edge.urls, what="the request")
            one.kill()
            wait_until(lambda: len(edge.urls) == 2, what="the takeover")
            assert ahead.task(task_id)["state"] == "running"
            held.open()
            assert ahead.wait_for(task_id)["state"] == "done"


def test_a_stored_task_is_not_due_at_once_where_the_clock_of_the_leader_is_ahead(
    tmp_path: Path, redis: RedisServer
) -> None:
    """Versions before stored tasks whose rows wait as running, for the leader to make partial in time."""
    with FakeNode() as edge, contextlib.closing(redis_store(redis.url, "before", region_count=16)) as store:
        edge.stop()
        store.open()
        now = time.time()
        for name, due_at in (("due", now - 1), ("later", now + 600)):
            row = Parked("edge-1", int(Operation.PURGE_URL), f"{URL}{name}", name, "", 0.0)
            store.commit(Batch(documents={name: running(name, due_at)}, parked=[row]))
        with engine_at(tmp_path, redis, edge.url, "ahead", 3600) as ahead:
            ahead.wait_for("due", "partial")
            assert ahead.task("later")["state"] == "running"


def running(name: str, due_at: float) -> bytes:
    """Return the document of a task with one row, as a version before stored it."""
    layer = {"name": "edge", "total": 1, "counter": 0, "failed": 0, "delayed": 1}
    document = {
        "task_id": name,
        "action": "purge",
        "kind": "url",
        "state": "running",
        "active": True,
        "working_layer": "edge",
        "total": 1,
        "counter": 0,
        "failed": 0,
        "delayed": 1,
        "layers": [layer],
        "created_at": due_at - 60,
        "updated_at": due_at - 60,
        "due_at": due_at,
        "errors": [],
    }
    return msgspec.json.encode(document)


def test_a_redis_whose_clock_is_set_makes_no_living_engine_dead_and_no_dead_one_alive(tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    with RedisServer(tmp_path, clock=clock) as redis, FakeNode() as edge:
        held = Held(edge)
        with (
            engine_at(tmp_path, redis, edge.url, "one", 0) as one,
            engine_at(tmp_path, redis, edge.url, "two", 0) as two,
        ):
            task_id = one.submit([f"{URL}held"])
            wait_until(lambda: edge.urls, what="the request")
            clock.set(3600)
            wait_until(lambda: has_heard_of_all(two, 3600), what="the other one's look at the new time")
            assert two.wait_for(two.submit([f"{URL}x"]))["state"] == "done"
            assert edge.urls.count(f"{URL}held") == 1
            os.kill(one.pid, signal.SIGSTOP)  # not killed: an engine of the same machine would see that
            clock.set(-3600)
            try:
                wait_until(lambda: edge.urls.count(f"{URL}held") == 2, what="the takeover")
            finally:
                one.kill()
            held.open()
            assert two.wait_for(task_id)["state"] == "done"


def has_heard_of_all(engine: EngineProcess, ahead_s: float) -> bool:
    shown = engine.get("/v1/engine/cluster")["engines"]
    return len(shown) == 2 and all(abs(each["clock_ahead_s"] + ahead_s) < 5 for each in shown)


def test_a_redis_whose_clock_is_set_forward_makes_no_node_gone_for_longer(tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    with (
        RedisServer(tmp_path, clock=clock) as redis,
        contextlib.closing(redis_store(redis.url, "e", region_count=4)) as store,
    ):
        store.open()
        store.now = SteadyClock().now
        store.commit(Batch(sightings=[Sighting("old", "edge", is_gone=True)]))
        clock.set(7200)
        assert store.last_seen()["old"].ago_s < 60
        store.commit(Batch(sightings=[Sighting("new", "edge", is_gone=True)]))
        assert store.last_seen()["new"].ago_s < 60

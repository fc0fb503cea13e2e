"""Redis is away, full, slow or another one: new tasks are answered 503, work goes on, nothing is lost."""

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.tasks.shards import shard_of
from tests.fakes.log_cache import LogCache
from tests.fakes.node import OK, Act, FakeNode, Request
from tests.fakes.proxy import Proxy
from tests.rigs.cluster_engine import cluster_engine
from tests.rigs.cluster_load import Clients, never_came, wait_until_settled
from tests.rigs.engine_process import EngineProcess
from tests.rigs.redis_servers import RedisCluster, RedisServer, SentinelGroup
from tests.waiting import wait_until

pytestmark = pytest.mark.redis


class Way(NamedTuple):
    """A Redis and the way to it."""

    server: RedisServer
    proxy: Proxy


@pytest.fixture
def way(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Way]:
    fsync = getattr(request, "param", "everysec")
    with RedisServer(tmp_path, fsync=fsync) as server, Proxy(server.port) as proxy:
        yield Way(server, proxy)


def through(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"


FAULTS: dict[str, tuple[Callable[[Way], None], Callable[[Way], None]]] = {
    "stopped and started": (lambda way: way.server.stop(), lambda way: way.server.start()),
    "killed": (lambda way: way.server.kill(), lambda way: way.server.start()),
    "frozen": (lambda way: way.server.pause(), lambda way: way.server.resume()),
    "out of memory": (lambda way: way.server.set("maxmemory", 1), lambda way: way.server.set("maxmemory", 0)),
    "cut off": (lambda way: way.proxy.cut(), lambda way: way.proxy.heal()),
    "behind a partition": (lambda way: way.proxy.stall(), lambda way: way.proxy.heal()),
    "heard no more": (lambda way: way.proxy.lose_answers(), lambda way: way.proxy.heal()),
}


def post(engine: EngineProcess, name: str) -> tuple[int, dict[str, str], bytes]:
    body = {"id": name, "targets": [f"http://img.example.com/{name}"]}
    return engine.request("POST", "/v1/engine/task", body)


def assert_nothing_is_lost(clients: Clients, engine: EngineProcess, cache: LogCache) -> None:
    """End the load: all that was accepted is done, was seen all the time, and came to the cache."""
    seen = clients.stop()
    assert wait_until_settled([engine.port], seen.accepted, timeout_s=30)[1] == []
    assert (seen.wrong, seen.not_found) == ([], [])
    assert never_came(seen.accepted, [cache]) == []
    print(f"{len(seen.accepted)} accepted, {seen.longest_gap_s:.1f} s without, {seen.answers}")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", ["always"], indirect=True)
def test_new_tasks_are_refused_and_work_that_is_under_way_goes_on(
    tmp_path: Path, way: Way, fault: str
) -> None:
    """A task is at the cache when Redis goes: it is not sent again, and done when Redis is back."""
    may_answer = threading.Event()

    def script(request: Request) -> Iterator[bytes | Act]:
        if "/held" in request.path:
            may_answer.wait(30)
        yield OK

    begin, end = FAULTS[fault]
    with FakeNode(script) as cache, cluster_engine(tmp_path, through(way.proxy), [cache]) as engine:
        assert post(engine, "held")[0] == 202
        wait_until(lambda: cache.urls == ["http://img.example.com/held"], what="the purge at the cache")
        begin(way)
        try:
            status, headers, body = post(engine, "refused")
            assert status == 503, body
            assert headers["retry-after"]
            assert headers["content-type"] == "application/problem+json"
            assert post(engine, "again")[0] == 503
            may_answer.set()
            wait_until(lambda: engine.node("edge-1")["in_flight"] == 0, what="the answer")
            assert engine.request("GET", "/healthz")[0] == 200
        finally:
            end(way)
        wait_until(lambda: post(engine, "after")[0] in {200, 202}, what="tasks being accepted again")
        assert post(engine, "refused")[0] in {200, 202}  # the same id and body as before
        for name in ("held", "after", "refused"):
            assert engine.wait_for(name)["state"] == "done", name
        assert cache.urls.count("http://img.example.com/held") == 1
        assert "Traceback" not in engine.log()
        engine.kill()
        engine.start()
        assert engine.task("held")["state"] == "done"


@pytest.mark.parametrize("way", ["always"], indirect=True)
def test_a_killed_redis_has_all_that_was_accepted(tmp_path: Path, way: Way) -> None:
    """Kill -9 of the process under load, twice. With ``everysec`` it puts writes off for a busy disk."""
    with LogCache("edge-1") as cache, cluster_engine(tmp_path, way.server.url, [cache]) as engine:
        clients = Clients([engine.port], count=6)
        with clients:
            for _ in range(2):
                before = len(clients.seen.accepted)
                wait_until(lambda before=before: len(clients.seen.accepted) > before + 300, what="the load")  # type: ignore[misc]
                way.server.kill()
                way.server.start()
        seen = clients.stop()
        states, lost = wait_until_settled([engine.port], seen.accepted, timeout_s=30)
        assert (lost, seen.wrong, seen.not_found) == ([], [], [])
        assert states["done"] == len(seen.accepted)
        assert never_came(seen.accepted, [cache]) == []


def test_an_engine_starts_without_redis_and_is_not_ready(tmp_path: Path, way: Way) -> None:
    """As one that runs already it answers 503; when Redis is there it goes on with its start."""
    with FakeNode() as cache:
        engine = cluster_engine(tmp_path, way.server.url, [cache])
        way.server.stop()
        engine.start(wait=False)
        try:
            wait_until(lambda: engine.request("GET", "/healthz")[0] == 200, what="it", errors=(OSError,))
            status, _, body = engine.request("GET", "/readyz")
            assert (status, b"the engine is starting: Redis single at" in body) == (503, True), body
            status, headers, body = post(engine, "a")
            assert (status, "retry-after" in headers, b"Connection refused" in body) == (503, True, True), (
                body
            )
            assert engine.request("GET", "/v1/engine/task/a")[0] == 503
            assert engine.request("GET", "/v1/engine/tasks")[0] == 503
            way.server.start()
            wait_until(lambda: engine.request("GET", "/readyz")[0] == 200, what="being ready")
            assert post(engine, "a")[0] == 202
            assert engine.wait_for("a")["state"] == "done"
            assert cache.urls == ["http://img.example.com/a"]
            engine.stop()
            way.server.stop()
            engine.start(wait=False)
            wait_until(lambda: engine.request("GET", "/healthz")[0] == 200, what="it", errors=(OSError,))
        finally:
            engine.stop()
        assert "Traceback" not in engine.log()


def test_a_redis_that_cannot_be_reached_is_not_stormed(tmp_path: Path, way: Way) -> None:
    """Each new connection is reset; clients go on asking, and the engine tries a few times a second."""
    with LogCache("edge-1") as cache, cluster_engine(tmp_path, through(way.proxy), [cache]) as engine:
        assert post(engine, "a")[0] == 202
        way.proxy.reset()
        before, began = way.proxy.connections, time.monotonic()
        with Clients([engine.port], count=8) as clients:
            time.sleep(5)  # how often it tries in a while
            tried, took_s = way.proxy.connections - before, time.monotonic() - began
            way.proxy.heal()
        seen = clients.stop()
        print(f"{tried} connections tried in {took_s:.1f} s, {seen.answers[503]} answers 503")
        assert seen.answers[503] > 20
        assert tried < 20 * took_s
        assert wait_until_settled([engine.port], seen.accepted, timeout_s=20)[1] == []


def test_a_slow_redis_makes_clients_wait_and_nothing_else(tmp_path: Path, way: Way) -> None:
    with LogCache("edge-1") as cache, cluster_engine(tmp_path, through(way.proxy), [cache]) as engine:
        assert post(engine, "a")[0] == 202
        way.proxy.slow(0.1)
        with Clients([engine.port], count=8) as clients:
            wait_until(lambda: len(clients.seen.accepted) > 50, what="accepted tasks")
        seen = clients.stop()
        way.proxy.heal()
        assert set(seen.answers) <= {200, 202}
        assert (seen.broken, seen.wrong) == (0, [])
        assert wait_until_settled([engine.port], seen.accepted, timeout_s=20)[1] == []


def test_sentinel_gives_the_engines_another_master(tmp_path: Path) -> None:
    """A 202 means that all replicas have it, so the new master knows every task, whichever it is."""
    with (
        SentinelGroup(tmp_path) as group,
        LogCache("edge-1") as cache,
        cluster_engine(tmp_path, group.url, [cache], store='wait_replicas = "all"') as engine,
    ):
        clients = Clients([engine.port], count=6)
        with clients:
            wait_until(lambda: len(clients.seen.accepted) > 300, what="the load")
            old = group.master()
            old.kill()
            group.wait_for_failover(old)
            before = len(clients.seen.accepted)
            wait_until(lambda: len(clients.seen.accepted) > before + 300, what="accepting on the new master")
        document = engine.get("/v1/engine/cluster")
        assert (document["wait_replicas"], document["replicas"], document["warnings"]) == ("all", 2, [])
        assert_nothing_is_lost(clients, engine, cache)


def test_a_cluster_loses_a_master_and_no_task(tmp_path: Path) -> None:
    """Its one replica takes its place; to have a replica again, it needs the old one back."""
    with (
        RedisCluster(tmp_path) as cluster,
        LogCache("edge-1") as cache,
        cluster_engine(tmp_path, cluster.url, [cache], store="wait_replicas = 1") as engine,
    ):
        clients = Clients([engine.port], count=6)
        with clients:
            wait_until(lambda: len(clients.seen.accepted) > 300, what="the load")
            wait_until(lambda: engine.get("/v1/engine/cluster")["replicas"] == 1, what="counted replicas")
            old = cluster.masters()[1]
            slot = next(slot for slot in range(0, 16384, 100) if cluster.owner(slot) is old)
            old.kill()
            cluster.wait_for_failover(old, slot)
            old.start()
            before = len(clients.seen.accepted)
            wait_until(lambda: len(clients.seen.accepted) > before + 300, what="accepting on the new one")
        assert_nothing_is_lost(clients, engine, cache)


def test_regions_without_a_server_fail_alone(tmp_path: Path) -> None:
    """A master and its replica are gone: the other regions accept, deliver, take over and are listed."""
    may_answer = threading.Event()

    def script(request: Request) -> Iterator[bytes | Act]:
        if "/held" in request.path:
            may_answer.wait(30)
        yield OK

    names = [f"t{number}" for number in range(40)]
    with (
        RedisCluster(tmp_path, cluster_require_full_coverage="no") as cluster,
        FakeNode(script) as cache,
        cluster_engine(tmp_path, cluster.url, [cache], store="takeover_s = 2") as one,
        cluster_engine(tmp_path, cluster.url, [cache], number=1, store="takeover_s = 2") as other,
    ):
        gone = {
            region
            for region in range(16)
            if cluster.owner(cluster.slot_of(f"{{region-{region:02d}}}")) is cluster.servers[0]
        }
        lives = [name for name in names if shard_of(name, 16) not in gone]
        assert 0 < len(lives) < len(names)
        cache.stop()
        assert [post(one, name)[0] for name in names] == [202] * len(names)
        wait_until(
            lambda: one.get("/v1/engine/nodes")["nodes"][0]["delayed"] == len(names), what="the delayed rows"
        )
        for server in (cluster.servers[0], cluster.servers[3]):
            server.kill()
        cache.start()
        for name in lives:
            assert one.wait_for(name)["state"] == "done", name
        held = [name for name in map("held{}".format, range(20)) if shard_of(name, 16) not in gone]
        wait_until(lambda: post(one, held[0])[0] in {200, 202}, what="accepting again")
        assert {post(one, name)[0] for name in held[1:]} == {202}
        wait_until(lambda: any("/held" in url for url in cache.urls), what="the purges at the cache")
        one.kill()
        may_answer.set()
        for name in held:
            assert other.wait_for(name)["state"] == "done", name
        page = other.get("/v1/engine/tasks?limit=100")
        assert {task["task_id"] for task in page["tasks"]} == {*lives, *held}
        assert set(page["missing_regions"]) == gone
        assert set(other.get("/v1/engine/cluster")["missing_regions"]) == gone
        for server in (cluster.servers[0], cluster.servers[3]):
            server.start()
        wait_until(
            lambda: "missing_regions" not in other.get("/v1/engine/tasks?limit=100"), what="all regions"
        )
        for name in names:
            assert other.wait_for(name)["state"] == "done", name
        page = other.get("/v1/engine/tasks?limit=100")
        assert {task["task_id"] for task in page["tasks"]} == {*names, *held}


def test_slots_that_move_are_followed(tmp_path: Path) -> None:
    """Every region's slot moves under load: through ASK while its keys go, and MOVED when they have gone."""
    with (
        RedisCluster(tmp_path) as cluster,
        LogCache("edge-1") as cache,
        cluster_engine(tmp_path, cluster.url, [cache], store="region_count = 4") as engine,
    ):
        clients = Clients([engine.port], count=6)
        with clients:
            wait_until(lambda: len(clients.seen.accepted) > 300, what="the load")
            for slot in sorted(_slots_in_use(cluster)):
                source = cluster.owner(slot)
                to = next(master for master in cluster.masters() if master is not source)
                cluster.begin_move(slot, to)
                for _ in range(1000):
                    if not cluster.move_keys(slot, to, limit=200):
                        break
                cluster.finish_move(slot, to)
                before = len(clients.seen.accepted)
                wait_until(lambda before=before: len(clients.seen.accepted) > before + 50, what="accepting")  # type: ignore[misc]
        seen = clients.stop()
        assert wait_until_settled([engine.port], seen.accepted, timeout_s=30)[1] == []
        assert (seen.wrong, seen.not_found, seen.broken) == ([], [], 0)
        assert never_came(seen.accepted, [cache]) == []
        print(f"{len(seen.accepted)} accepted, {seen.longest_gap_s:.2f} s without, {seen.answers}")


def test_a_slot_that_stays_half_moved_takes_tasks(tmp_path: Path) -> None:
    """Whichever keys are there already: no server has all that a task needs, and each step finds its own."""
    with (
        RedisCluster(tmp_path) as cluster,
        FakeNode() as cache,
        cluster_engine(tmp_path, cluster.url, [cache], store="region_count = 1") as engine,
    ):
        assert [post(engine, f"before{number}")[0] for number in range(4)] == [202] * 4
        engine.wait_for("before3")
        slot = cluster.slot_of("{region-00}")
        to = next(master for master in cluster.masters() if master is not cluster.owner(slot))
        cluster.begin_move(slot, to)
        names: list[str] = []
        took_s: list[float] = []
        while True:
            names.append(f"t{len(names)}")
            began = time.monotonic()
            assert post(engine, names[-1])[0] == 202
            took_s.append(time.monotonic() - began)
            assert post(engine, names[-1])[0] == 200
            assert engine.get(f"/v1/engine/task/{names[-1]}")["total"] == 1
            if not cluster.move_keys(slot, to, limit=1):
                break
        assert statistics.median(took_s) < 1, "each step finds its own at once"
        assert engine.request("POST", "/v1/engine/task", {"id": "t0", "targets": ["http://a.com/"]})[0] == 409
        assert engine.request("POST", "/v1/engine/task", {"targets": ["http://img.example.com/x"]})[0] == 202
        engine.kill()
        engine.start()
        urls = {f"http://img.example.com/{name}" for name in names}
        wait_until(lambda: urls <= set(cache.urls), what="the purges at the cache")
        cluster.finish_move(slot, to)
        for name in names:
            assert engine.wait_for(name)["state"] == "done", name
        assert len(engine.get("/v1/engine/tasks?limit=100")["tasks"]) == len(names) + 5


def _slots_in_use(cluster: RedisCluster) -> set[int]:
    """Return the slots of all hash tags that keys have."""
    tags = {
        key[key.index("{") : key.index("}") + 1]
        for master in cluster.masters()
        for key in master.ask("KEYS", "*{*}*")
    }
    return {cluster.slot_of(tag) for tag in tags}


def test_an_engine_says_at_its_start_when_redis_may_lose_tasks(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path, fsync="none", maxmemory="1gb", maxmemory_policy="allkeys-lru") as server,
        LogCache("edge-1") as cache,
        cluster_engine(tmp_path, server.url, [cache]) as engine,
    ):
        lines = map(json.loads, engine.log().splitlines())
        warnings = [line["message"] for line in lines if line["level"] == "WARNING"]
        assert any("appendonly" in text for text in warnings), warnings
        wait_until(lambda: "maxmemory-policy allkeys-lru" in engine.log(), what="the warning of eviction")


def test_a_redis_that_is_emptied_loses_what_waits_there_and_says_so(tmp_path: Path, way: Way) -> None:
    """What is at work goes on; and the engines of the store have what they need again without a new task."""
    with LogCache("edge-1", delay_s=2) as cache, LogCache("edge-2") as away:
        engine = cluster_engine(tmp_path, way.server.url, [cache, away])
        away.down()
        with engine:
            assert post(engine, "1")[0] == 202
            wait_until(lambda: cache.has(1), what="the purge at the cache")
            way.server.flush()
            wait_until(lambda: "Redis was emptied" in engine.log(), what="the alert")
            assert engine.request("GET", "/v1/engine/cluster")[0] == 200
            away.up()
            assert engine.wait_for("1")["state"] == "done"
            assert away.has(1)
            assert post(engine, "2")[0] == 202
            assert engine.wait_for("2")["state"] == "done"
            assert way.server.ask("GET", "purgeline:{cluster}:layout") == "region_count=16"


def beats_of(server: RedisServer) -> int:
    [text] = server.ask("HVALS", "purgeline:{cluster}:engines")
    return int(json.loads(text)["beats"])


def test_a_redis_that_comes_back_with_an_old_copy_of_its_data_says_so(tmp_path: Path) -> None:
    """What it had settled since then is done again; what came to wait since then is gone."""
    with RedisServer(tmp_path, fsync="none") as server, LogCache("edge-1") as cache:
        engine = cluster_engine(tmp_path, server.url, [cache])
        with engine:
            wait_until(lambda: engine.get("/v1/engine/cluster")["engines"], what="the engine being there")
            server.ask("SAVE")
            old = (server.folder / "dump.rdb").read_bytes()
            cache.down()
            assert post(engine, "1")[0] == 202
            engine.wait_for("1", "partial")
            told = beats_of(server)
            wait_until(lambda: beats_of(server) > told + 1, what="signs of life that are not in the copy")
            server.kill()
            (server.folder / "dump.rdb").write_bytes(old)
            server.start()
            wait_until(lambda: "an older copy of its data" in engine.log(), what="the alert")
            assert engine.request("GET", "/v1/engine/task/1")[0] == 404
            cache.up()
            wait_until(lambda: post(engine, "2")[0] == 202, what="the engine taking tasks")
            assert engine.wait_for("2")["state"] == "done"

"""What a door reads of a Redis makes pages of a real Varnish fresh; and every arrangement of a Redis."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from release.lab import caches
from release.lab.caches import Cache
from release.lab.origin import Origin
from tests.fakes.node import FakeNode
from tests.rigs.engine_process import fake_table, get_body, node_table
from tests.rigs.redis_door import SITE, STREAM, Bus, RedisDoorEngine
from tests.rigs.redis_servers import RedisCluster, RedisServer, SentinelGroup, wait_for_redis
from tests.waiting import wait_until

pytestmark = pytest.mark.redis


class Site(NamedTuple):
    """An origin, a Varnish, a Redis that an engine reads."""

    origin: Origin
    cache: Cache
    bus: Bus
    engine: RedisDoorEngine


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("redis-door")
    with (
        Origin() as origin,
        RedisServer(folder, fsync="none") as server,
        caches.start_varnish(folder, name="edge-1", backend=origin.address) as cache,
        RedisDoorEngine(folder, node_table(cache, name="edge-1"), server.url) as engine,
    ):
        bus = Bus(server)
        wait_until(lambda: bus.listeners() == 1 and bus.has_group())
        yield Site(origin, cache, bus, engine)


WAYS: dict[str, Callable[[Bus], object]] = {
    "entry": lambda bus: bus.add("/a"),
    "entry by key": lambda bus: bus.add_body(
        json.dumps({"kind": "key", "targets": [{"host": SITE, "key": "node:1"}]})
    ),
    "purge": lambda bus: bus.publish("purge", "/a"),
    "xkey": lambda bus: bus.publish("xkey", "node:1"),
    "xkey.soft": lambda bus: bus.publish("xkey.soft", "node:1"),
    "ban.url": lambda bus: bus.publish("ban.url", "^/a"),
    "ban": lambda bus: bus.publish("ban", f"req.http.host == {SITE} && req.url ~ ^/a"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_stale_page_is_fresh(way: str, site: Site) -> None:
    """That page, and no other."""
    for path, tag in (("/a", "node:1"), ("/b", "node:2")):
        site.origin.set(SITE, path, f"{way} 1".encode(), headers={"Surrogate-Key": tag})
    site.engine.wait_for(site.engine.submit([f"http://{SITE}/a", f"http://{SITE}/b"]))
    assert {get_body(site.cache, path) for path in ("/a", "/b")} == {f"{way} 1".encode()}
    for path, tag in (("/a", "node:1"), ("/b", "node:2")):
        site.origin.set(SITE, path, f"{way} 2".encode(), headers={"Surrogate-Key": tag})
    assert get_body(site.cache, "/a") == f"{way} 1".encode()
    WAYS[way](site.bus)
    wait_until(lambda: get_body(site.cache, "/a") == f"{way} 2".encode(), what="the fresh page")
    assert get_body(site.cache, "/b") == f"{way} 1".encode()


def seen(node: FakeNode) -> set[str]:
    return {request.path for request in node.requests}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SentinelGroup, RedisCluster])
def test_entries_and_messages_come_through_a_failover(
    kind: type[SentinelGroup | RedisCluster], tmp_path: Path
) -> None:
    """Of every arrangement; what the new master has of the stream is done, and what is published after it."""
    with kind(tmp_path) as servers, FakeNode() as node:
        nodes = fake_table(node.url, name="edge-1")
        with RedisDoorEngine(tmp_path, nodes, servers.url, door={"start": "0", "timeout_s": 1}):
            master = master_of(servers)
            wait_until(Bus(master).has_group)
            for number in range(50):
                Bus(master).add(f"/before-{number}")
            Bus(master).wait_until_done()
            master.ask("WAIT", 1, 5000)
            master.kill()
            if isinstance(servers, SentinelGroup):
                new = servers.wait_for_failover(master)
            else:
                new = servers.wait_for_failover(master, servers.slot_of(STREAM))
            for number in range(50):
                Bus(new).add(f"/after-{number}")
            wait_for_redis(Bus(new).is_done, what="every entry being acknowledged", timeout_s=40)
            wanted = {f"/{when}-{number}" for when in ("before", "after") for number in range(50)}
            wait_until(lambda: wanted <= seen(node))

            def is_heard() -> bool:
                Bus(new).publish("purge", "/heard")
                return "/heard" in seen(node)

            wait_until(is_heard, what="a message", timeout_s=30)


def master_of(servers: SentinelGroup | RedisCluster) -> RedisServer:
    if isinstance(servers, SentinelGroup):
        return servers.master()
    return servers.owner(servers.slot_of(STREAM))

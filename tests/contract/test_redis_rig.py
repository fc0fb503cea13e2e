"""The Redis servers and the proxy that other tests use do what those tests take for granted."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.fakes.proxy import Proxy
from tests.rigs.redis_servers import RedisCluster, RedisServer, SentinelGroup, wait_for_redis

pytestmark = pytest.mark.redis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path, fsync="always") as running:
        yield running


def through(proxy: Proxy, *, timeout_s: float = 5) -> redis.Redis:
    return redis.Redis(
        port=proxy.port, decode_responses=True, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
    )


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_was_written_is_there_after_a_restart(server: RedisServer, end: str) -> None:
    server.ask("SET", "a", "1")
    getattr(server, end)()
    assert not server.is_up
    server.start()
    assert server.ask("GET", "a") == "1"
    server.flush()
    assert server.ask("DBSIZE") == 0


def test_a_server_without_a_file_forgets(tmp_path: Path) -> None:
    with RedisServer(tmp_path, fsync="none") as server:
        server.ask("SET", "a", "1")
        server.kill()
        server.start()
        assert server.ask("GET", "a") is None


def test_a_paused_server_answers_when_it_is_resumed(server: RedisServer) -> None:
    server.pause()
    try:
        with socket.create_connection(("127.0.0.1", server.port), 5) as client:
            client.sendall(b"PING\r\n")
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.recv(1)
            server.resume()
            client.settimeout(5)
            assert client.recv(100) == b"+PONG\r\n"
    finally:
        server.resume()


def test_a_full_server_refuses_to_write(server: RedisServer) -> None:
    server.set("maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        server.ask("SET", "a", "1")
    server.set("maxmemory", 0)
    server.ask("SET", "a", "1")


def test_the_sentinels_replace_a_killed_master(tmp_path: Path) -> None:
    with SentinelGroup(tmp_path) as group:
        old = group.master()
        old.ask("SET", "a", "1")
        old.ask("WAIT", 2, 1000)
        old.kill()
        new = group.wait_for_failover(old)
        assert new.ask("GET", "a") == "1"
        old.start()
        assert group.master() is new


def test_the_cluster_survives_a_master_and_moves_slots(tmp_path: Path) -> None:
    with RedisCluster(tmp_path) as cluster:
        slot = cluster.slot_of("{tag}:a")
        owner = cluster.owner(slot)
        for name in ("{tag}:a", "{tag}:b"):
            owner.ask("SET", name, "1")
        other = next(master for master in cluster.masters() if master is not owner)
        cluster.begin_move(slot, other)
        assert cluster.move_keys(slot, other, limit=1) == 1
        answers = {_error(owner, name).split()[0] for name in ("{tag}:a", "{tag}:b")}
        assert answers == {"ASK", "1"}
        assert cluster.move_keys(slot, other) == 1
        cluster.finish_move(slot, other)
        assert _error(owner, "{tag}:a").split()[0] == "MOVED"
        wait_for_redis(lambda: cluster.owner(slot) is other, what="the new owner")
        other.ask("WAIT", 1, 1000)
        other.kill()
        assert cluster.wait_for_failover(other, slot).ask("GET", "{tag}:a") == "1"
        other.start()
        wait_for_redis(lambda: len(cluster.masters()) == 3, what="the old master following the new one")
        cluster.flush()


def _error(server: RedisServer, name: str) -> str:
    try:
        return str(server.ask("GET", name))
    except redis.exceptions.MovedError:  # is an AskError, too
        return "MOVED"
    except redis.exceptions.AskError:
        return "ASK"


def test_the_proxy_cuts_and_heals_on_the_same_port(server: RedisServer) -> None:
    with Proxy(server.port) as proxy:
        client = through(proxy)
        client.set("a", "1")
        port = proxy.port
        proxy.cut()
        with pytest.raises(redis.ConnectionError):
            client.get("a")
        proxy.heal()
        assert (client.get("a"), proxy.port) == ("1", port)
        client.close()


def test_a_stalled_proxy_passes_on_later_what_it_held(server: RedisServer) -> None:
    with Proxy(server.port) as proxy:
        client = through(proxy, timeout_s=0.2)
        client.ping()
        proxy.stall()
        with pytest.raises(redis.TimeoutError):
            client.set("a", "1")
        assert server.ask("GET", "a") is None
        proxy.heal()
        wait_for_redis(lambda: server.ask("GET", "a") == "1", what="the held command arriving")
        client.close()


def test_a_proxy_that_loses_answers_has_things_done_all_the_same(server: RedisServer) -> None:
    with Proxy(server.port) as proxy:
        client = through(proxy, timeout_s=0.2)
        client.ping()
        proxy.lose_answers()
        with pytest.raises(redis.TimeoutError):
            client.incr("a")
        wait_for_redis(lambda: server.ask("GET", "a"), what="the command arriving")
        proxy.heal()
        assert client.get("a") == server.ask("GET", "a")
        client.close()


def test_a_slow_proxy_holds_everything_for_a_while(server: RedisServer) -> None:
    with Proxy(server.port) as proxy:
        client = through(proxy)
        client.ping()
        proxy.slow(0.1)
        began = time.monotonic()
        client.ping()
        assert time.monotonic() - began >= 0.2
        client.close()


def test_a_resetting_proxy_counts_who_tries(server: RedisServer) -> None:
    with Proxy(server.port) as proxy:
        proxy.reset()
        for _ in range(3):
            with pytest.raises(redis.ConnectionError):
                through(proxy).ping()
        assert (proxy.connections, proxy.open_count) == (3, 0)

"""The way to Redis: what is tried again, what is left alone, and what comes back by itself."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config.redis_url import parse_redis_url
from engine.errors import StoreError
from engine.store.redis.link import Link
from tests.fakes.proxy import Proxy
from tests.rigs.redis_servers import RedisServer, SentinelGroup
from tests.waiting import wait_until

pytestmark = pytest.mark.redis


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with RedisServer(tmp_path) as server, Proxy(server.port) as between:
        yield between


@pytest.fixture
def link(proxy: Proxy) -> Iterator[Link]:
    url = parse_redis_url(f"redis://127.0.0.1:{proxy.port}/0")
    made = Link(url, timeout_s=0.5, connections_max=8)
    yield made
    made.close()


def test_a_connection_that_breaks_puts_no_other_off(proxy: Proxy, link: Link) -> None:
    link.one("PING")
    proxy.lose_answers()
    outcomes: list[object] = []

    def ask() -> None:
        try:
            outcomes.append(link.one("GET", "waited-for"))
        except StoreError as exc:
            outcomes.append(exc)

    waiting = threading.Thread(target=ask)
    waiting.start()
    wait_until(lambda: proxy.lost_count, what="the answer that is lost")
    proxy.heal()
    waiting.join(10)
    assert link.one("PING") == b"PONG"  # a server that has failed would be left alone for 50 ms
    assert isinstance(outcomes[0], StoreError)


def test_a_server_that_is_back_is_found_however_many_knock_meanwhile(proxy: Proxy, link: Link) -> None:
    """What fails at once, because a failure has just been seen, does not put the next attempt off."""
    link.one("PING")
    proxy.stall()
    over = threading.Event()
    answers: list[float] = []

    def knock() -> None:
        while not over.is_set():
            try:
                link.one("PING")
            except StoreError:
                time.sleep(0.002)
            else:
                answers.append(time.monotonic())
                time.sleep(0.01)

    threads = [threading.Thread(target=knock) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(2)  # long enough for the longest pause between two attempts
        answers.clear()
        proxy.heal()
        healed_at = time.monotonic()
        while not answers and time.monotonic() < healed_at + 10:
            time.sleep(0.01)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert answers
    assert answers[0] - healed_at < 3


def test_nobody_waits_for_a_time_out_that_another_has_just_seen(proxy: Proxy, link: Link) -> None:
    link.one("PING")
    proxy.stall()
    began = time.monotonic()
    for _ in range(100):  # 50 s, if each waited
        with pytest.raises(StoreError, match=r"127\.0\.0\.1"):
            link.one("PING")
    assert time.monotonic() - began < 25


def test_a_write_counts_only_when_the_replicas_have_been_waited_for(tmp_path: Path) -> None:
    """The server took it and said so, and the connection broke before it told how many replicas have it."""
    with RedisServer(tmp_path) as server, Proxy(server.port) as between:
        url = parse_redis_url(f"redis://127.0.0.1:{between.port}/0")
        link = Link(url, timeout_s=20, connections_max=8, wait_replicas=1)
        outcomes: list[object] = []
        writing = threading.Thread(
            target=lambda: outcomes.extend(link.run([("SET", "a", "1"), ("SET", "b", "2")], is_write=True))
        )
        writing.start()
        try:
            wait_until(lambda: server.info("clients")["blocked_clients"] == 1, what="the server in its WAIT")
        finally:
            between.cut()
            writing.join()
            link.close()
        assert server.ask("GET", "b") == "2"
    assert [type(outcome) for outcome in outcomes] == [StoreError, StoreError]


def test_an_old_master_and_a_replica_that_is_left_to_it_do_not_count(tmp_path: Path) -> None:
    """Both are cut off while the other replica becomes the master; then they acknowledge each other."""
    with SentinelGroup(tmp_path) as group:
        old, new, left = group.servers
        left.set("replica-priority", 200)
        link = Link(parse_redis_url(group.url), timeout_s=40, connections_max=8, wait_replicas=1)
        assert link.one("SET", "before", "1", is_write=True) == b"OK"
        for server in (old, left):
            server.pause()
        outcomes: list[object] = []
        writing = threading.Thread(
            target=lambda: outcomes.extend(link.run([("SET", "meanwhile", "1")], is_write=True))
        )
        writing.start()
        try:
            assert group.wait_for_failover(old) is new
        finally:
            for server in (old, left):
                server.resume()
            writing.join()
        assert old.ask("GET", "meanwhile") == left.ask("GET", "meanwhile") == "1"
        assert new.ask("GET", "meanwhile") is None
        [outcome] = outcomes
        assert isinstance(outcome, StoreError), outcome
        assert "not the master any more" in str(outcome)
        assert link.one("SET", "after", "1") == b"OK"
        assert new.ask("GET", "after") == "1"
        link.close()


def test_a_replica_that_is_away_for_the_others_does_not_count_for_one_that_is_not(tmp_path: Path) -> None:
    """It is on the master's side of a partition, and the one that is to be the next master on the other."""
    with SentinelGroup(tmp_path) as group:
        master, near, far = group.servers
        link = Link(parse_redis_url(group.url), timeout_s=1, connections_max=8, wait_replicas="all")
        far.set("masterauth", "wrong")
        far.set("masteruser", "nobody")
        master.ask("CLIENT", "KILL", "TYPE", "replica")
        near.ask("ACL", "SETUSER", "default", "-ping")
        far_name, near_name = (f"127.0.0.1:{server.port}" for server in (far, near))
        wait_until(lambda: away(link) == {near_name}, what=f"{near_name} being away")
        wait_until(lambda: connected(master) == {near_name}, what=f"{near_name} being connected")
        with pytest.raises(StoreError, match="1 of 2 replicas have it"):
            link.one("SET", "a", "1", is_write=True)
        assert far.ask("GET", "a") is None
        near.kill()  # then it cannot acknowledge, and is not waited for
        far.set("masterauth", "")
        wait_until(lambda: connected(master) == {far_name}, what=f"{far_name} being in step")
        assert link.one("SET", "b", "1", is_write=True) == b"OK"
        link.close()


def connected(master: RedisServer) -> set[str]:
    facts = master.info("replication")
    listed = [facts[f"slave{number}"] for number in range(int(facts["connected_slaves"]))]
    return {f"{one['ip']}:{one['port']}" for one in listed}


def away(link: Link) -> set[str]:
    [master] = link.replicas.look().masters.values()
    return set(master.away)

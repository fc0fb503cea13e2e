"""The log of prefetches in Redis: what a reader is given, and told when something may be missing."""

from __future__ import annotations

import itertools
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.cluster.fetch_changes import Change
from engine.config.redis_url import parse_redis_url
from engine.store.redis.fetch_log import FetchLog, Position
from engine.store.redis.keys import Keys
from engine.store.redis.link import Link
from tests.rigs.redis_servers import RedisCluster, RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.store.redis.script import Command

pytestmark = pytest.mark.redis
_numbers = itertools.count()
Redis = RedisServer | RedisCluster


@pytest.fixture(scope="module", params=[RedisServer, RedisCluster])
def redis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with request.param(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def keys() -> Keys:
    return Keys(f"log-{next(_numbers)}", 16)


@contextmanager
def log_of(
    redis: Redis, keys: Keys, name: str = "one", *, longest_s: float = 5, wait_replicas: int = 0
) -> Iterator[FetchLog]:
    link = Link(parse_redis_url(redis.url), timeout_s=1, connections_max=4, wait_replicas=wait_replicas)
    try:
        yield FetchLog(link, keys, name, longest_s=longest_s)
    finally:
        link.close()


def test_a_reader_goes_on_where_its_last_look_ended(redis: Redis, keys: Keys) -> None:
    with log_of(redis, keys) as log, log_of(redis, keys, "other") as other:
        assert log.append({0: b"a", 3: b"b"}) == {0, 3}
        first = other.read({part: Position() for part in range(4)})
        assert {part: read.texts for part, read in first.items()} == {0: [b"a"], 1: [], 2: [], 3: [b"b"]}
        assert first[0].time_s is not None
        assert abs(first[0].time_s - time.time()) < 5
        more = [str(number).encode() for number in range(1201)]  # more than one answer has
        for text in more:
            log.append({0: text})
        then = other.read({0: first[0].position, 3: first[3].position})
        assert (then[0].texts, then[0].goes_on) == (more, True)
        assert (then[3].texts, then[3].goes_on) == ([], True)
        anew = other.read({0: Position()})
        assert (len(anew[0].texts), anew[0].goes_on, anew[0].position) == (1202, False, then[0].position)


def test_a_look_that_goes_on_is_one_command(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing was ever written: an entry of nobody is there to go on from."""
    with log_of(redis, keys) as log:
        first = log.read({0: Position()})[0]
        assert (first.texts, first.goes_on) == ([], False)
        sent: list[Any] = []
        run = log._link.run

        def noted(commands: Sequence[Command], **named: Any) -> list[Any]:
            sent.append([command[0] for command in commands])
            return run(commands, **named)

        monkeypatch.setattr(log._link, "run", noted)
        then = log.read({0: first.position})[0]
        assert (then.texts, then.goes_on, then.position) == ([], True, first.position)
        assert sent == [["XRANGE"]]


def test_what_is_written_where_there_is_nothing_says_nothing_to_any_version(redis: Redis, keys: Keys) -> None:
    with log_of(redis, keys) as log:
        log.read({0: Position()})
        [[_, fields]] = log._link.one("XRANGE", keys.underway(0), "-", "+")
        assert msgspec.json.decode(fields[3], type=Change) == Change(by="")
        [kept] = log._link.all([("PTTL", keys.underway(0))])
        assert 60_000 < kept <= 65_000
        log._link.one("DEL", keys.underway(0), is_write=True)
        log.append({0: b"a"})
        assert log.read({0: Position()})[0].texts == [b"a"]


def test_a_reader_is_given_all_there_is_when_what_it_knows_was_lost(redis: Redis, keys: Keys) -> None:
    """As after a failover: the same number may even be another entry's."""
    with log_of(redis, keys) as log:
        log.append({0: b"a"})
        known = log.read({0: Position()})[0].position
        log.append({0: b"b"})
        for lost in (known._replace(mark=b"another 1"), known._replace(entry="1-1")):
            read = log.read({0: lost})[0]
            assert (read.texts, read.goes_on) == ([b"a", b"b"], False)


def test_entries_stay_for_the_longest_time_that_a_writer_asks_for(redis: Redis, keys: Keys) -> None:
    with log_of(redis, keys, longest_s=0) as short, log_of(redis, keys, "long", longest_s=600) as long:
        long.append({0: b"a"})
        short.append({0: b"b"})
        [kept] = short._link.all([("PTTL", keys.underway(0))])
        assert 600_000 < kept <= 660_000
        short._link.all([("DEL", f"{keys.underway(0)}:kept")])
        short.append({0: b"c"})
        [kept] = short._link.all([("PTTL", keys.underway(0))])
        assert kept <= 60_000
        [oldest] = short._link.all([("XRANGE", keys.underway(0), "-", "+", "COUNT", 1)])
        assert oldest[0][1][3] == b"a"  # it is not that old


def test_a_clock_that_was_ahead_keeps_nothing_for_longer(redis: Redis, keys: Keys) -> None:
    """What was written by it would be younger than anything for as long as it was ahead."""
    key = keys.underway(0)
    with log_of(redis, keys, longest_s=-59.4) as log:  # they are kept for 0.6 s
        tomorrow = int((time.time() + 86400) * 1000)
        log._link.one("XADD", key, f"{tomorrow}-0", "m", "two 1", "t", "old", is_write=True)
        before = log.read({0: Position()})[0].position
        log.append({0: b"a"})
        log.append({0: b"b"})
        read = log.read({0: before})[0]
        assert (read.texts, read.goes_on) == ([b"a", b"b"], True)
        for text in (b"c", b"d", b"e"):
            time.sleep(0.25)
            log.append({0: text})
        texts = log.read({0: Position()})[0].texts
        assert texts[-1] == b"e"
        assert not {b"old", b"a", b"b"} & set(texts)


def test_what_a_master_without_its_replicas_says_does_not_count(redis: Redis, keys: Keys) -> None:
    """It may have a successor, which knows more. The masters of the cluster have a replica each."""
    with log_of(redis, keys) as alone, log_of(redis, keys, "other", wait_replicas=1) as log:
        alone.append({0: b"a"})
        read = log.read({0: Position()})
        assert log.append({0: b"b"}) == read.keys()
        assert [one.texts for one in read.values()] == ([[b"a"]] if isinstance(redis, RedisCluster) else [])


def test_a_part_whose_master_is_away_is_left_out(redis: Redis, keys: Keys) -> None:
    with log_of(redis, keys) as log:
        everything = {part: Position() for part in range(log.parts)}
        assert log.read(everything).keys() == everything.keys()
        owner = redis
        if isinstance(redis, RedisCluster):
            owner = redis.owner(redis.masters()[0].ask("CLUSTER", "KEYSLOT", keys.underway(0)))
        assert isinstance(owner, RedisServer)
        owner.pause()
        try:
            away = everything.keys() - log.read(everything).keys()
            assert 0 in away
            assert (away == everything.keys()) == isinstance(redis, RedisServer)
            assert log.append(dict.fromkeys(everything, b"a")) == everything.keys() - away
        finally:
            owner.resume()

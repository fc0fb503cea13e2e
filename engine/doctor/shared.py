"""The Redis that engines share: what it may lose, whether it evicts, its clock, and who is there."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.config.redis_url import parse_redis_url
from engine.doctor.check import Check, Verdict
from engine.store.redis.checks import Eviction, dangers, eviction, keeps_no_file
from engine.store.redis.engines import engines_of
from engine.store.redis.keys import Keys
from engine.store.redis.link import Link

if TYPE_CHECKING:
    from engine.config.tables import StoreConfig
    from engine.store.redis.members import Member

_CONNECTIONS: Final = 2
_ASKED: Final = 3
_APPEND: Final = "redis-cli CONFIG SET appendonly yes, and CONFIG REWRITE"
_SYNC: Final = 'redis-cli CONFIG SET appendfsync always, or store.wait_replicas = "all"'
_EVICT: Final = "redis-cli CONFIG SET maxmemory-policy noeviction, and CONFIG REWRITE"


class SharedFacts(NamedTuple):
    """What a look at a Redis told."""

    dangers: list[str]  #: how it can lose what it said it has, sentences
    keeps_no_file: bool
    eviction: Eviction
    ahead_s: float  #: this host's clock, ahead of the one that differs most
    engines: list[Member]


def is_shared(store: StoreConfig) -> bool:
    """Tell whether tasks are in a Redis."""
    return not store.url.startswith("sqlite:")


def look(store: StoreConfig) -> SharedFacts:
    """Ask the Redis of a configuration; nothing is written there.

    Raises:
        StoreError: it cannot be asked.
    """
    link = Link(
        parse_redis_url(store.url),
        timeout_s=store.timeout_s,
        connections_max=_CONNECTIONS,
        wait_replicas=store.wait_replicas,
    )
    with contextlib.closing(link):
        ahead_s = _ahead_s(link)
        found = dangers(link, store)
        keys = Keys(store.prefix, store.region_count)
        return SharedFacts(found, keeps_no_file(link), eviction(link), ahead_s, engines_of(link, keys))


def _ahead_s(link: Link) -> float:
    """Return how far this host's clock is ahead, by the quickest answer: half of its time is not known."""
    asked = []
    for _ in range(_ASKED):
        began_at, began = time.time(), time.monotonic()
        replies = link.on_each_master("TIME")
        took_s = time.monotonic() - began
        here = began_at + took_s / 2
        ahead = [here - int(seconds) - int(micros) / 1e6 for seconds, micros in replies]
        asked.append((took_s, max(ahead, key=abs)))
    return min(asked)[1]


def persistence(facts: SharedFacts) -> Check:
    """Check whether what was answered 202 outlives the end of Redis."""
    if facts.keeps_no_file:
        return Check(
            "redis_persistence", Verdict.FAIL, "appendonly no", "yes, always", facts.dangers[0], _APPEND
        )
    if facts.dangers:
        reason = " ".join(facts.dangers)
        return Check("redis_persistence", Verdict.WARN, "appendonly yes", "yes, always", reason, _SYNC)
    return Check("redis_persistence", Verdict.OK, "appendonly yes", "yes, always")


def evicts(facts: SharedFacts) -> Check:
    """Check whether Redis may drop keys, and has."""
    policies, evicted = ", ".join(facts.eviction.policies), sum(facts.eviction.counts.values())
    if policies:
        reason = "with its memory full Redis drops tasks and delay queues, silently"
        reason += f"; it has evicted {evicted} keys" if evicted else ""
        return Check("redis_eviction", Verdict.FAIL, policies, "noeviction", reason, _EVICT)
    if evicted:
        reason = "before its policy was changed Redis evicted keys: tasks and rows may be gone"
        remedy = "purgeline retry or rewind what is missing; Redis counts anew after its next start"
        return Check("redis_eviction", Verdict.WARN, f"{evicted} evicted", "noeviction", reason, remedy)
    return Check("redis_eviction", Verdict.OK, "noeviction", "noeviction")


def clocks(facts: SharedFacts) -> dict[str, float]:
    """Return how far clocks are ahead of that of Redis: this host's, and those that engines tell."""
    told = {one.about.host: one.about.clock_ahead_s for one in facts.engines if one.lives and one.about.host}
    return {**told, "this host": facts.ahead_s}

"""Whether this Redis can lose what it said it has, seen at the start; and whether it evicts, at any time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from engine.config.checks import store_warnings
from engine.errors import StoreError
from engine.store.redis.replicas import losses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.config.tables import StoreConfig
    from engine.store.redis.link import Link

_KEEPS: Final = "noeviction"


def dangers(link: Link, store: StoreConfig) -> list[str]:
    """Return what an operator should know, a sentence or two each.

    Raises:
        StoreError: Redis cannot be asked.
    """
    warnings: dict[str, None] = {}
    if not store.wait_replicas:
        warnings.update(dict.fromkeys(_unsynced(link)))
    if keeps_no_file(link):
        warnings[
            "Redis keeps no append-only file (appendonly no): when it ends, every task since its last "
            "snapshot is lost, also those answered 202. Set appendonly yes"
        ] = None
    warnings.update(dict.fromkeys(store_warnings(store)))
    with contextlib.suppress(StoreError):  # the cluster's part of the engine looks again and again
        warnings.update(dict.fromkeys(losses(link.replicas.look(), store.wait_replicas)))
    if link.has_parts and _wants_all_slots(link):
        warnings[
            "The cluster serves nothing as soon as one of its masters has no replica left "
            "(cluster-require-full-coverage yes): set it to no, and the regions on other masters go on"
        ] = None
    return list(warnings)


def keeps_no_file(link: Link) -> bool:
    """Tell whether a master has no append-only file.

    Raises:
        StoreError: Redis cannot be asked.
    """
    return any(facts.get("aof_enabled") == "0" for facts in _infos(link))


class Eviction(NamedTuple):
    """Whether masters may evict keys, and how many each has evicted since its start."""

    policies: list[str]  #: those that evict
    counts: dict[str, int]  #: by the server's run id
    used_memory: int = 0  #: bytes, of all that answered


def eviction(link: Link) -> Eviction:
    """Ask the masters that are there; the policy may be changed at any time, or by a failover.

    Raises:
        StoreError: none is.
    """
    policies: set[str] = set()
    counts: dict[str, int] = {}
    used_memory = 0
    for facts in _infos(link):
        policies.add(facts.get("maxmemory_policy", _KEEPS))
        counts[facts.get("run_id", "")] = int(facts.get("evicted_keys", 0))
        used_memory += int(facts.get("used_memory", 0))
    return Eviction(sorted(policies - {_KEEPS}), counts, used_memory)


def _infos(link: Link) -> Iterator[dict[str, str]]:
    for reply in link.on_each_master("INFO"):
        yield dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)


def _unsynced(link: Link) -> Iterator[str]:
    """Yield what a power cut would lose of an append-only file."""
    if all(b"no" in reply for reply in _settings(link, "appendonly")):
        return
    for value, lost in (
        (b"everysec", "those of the last second, or two when its disk is busy"),
        (b"no", "those of the last half minute or so"),
    ):
        if any(value in reply for reply in _settings(link, "appendfsync")):
            yield (
                f"Redis syncs its append-only file too late for a power cut (appendfsync {value.decode()}): "
                f"when its machine loses power, tasks that were answered 202 are lost, {lost}. Set "
                'appendfsync always, or have store.wait_replicas = "all" with replicas on other machines'
            )


def _wants_all_slots(link: Link) -> bool:
    return any(b"yes" in reply for reply in _settings(link, "cluster-require-full-coverage"))


def _settings(link: Link, name: str) -> list[Any]:
    """Return a setting of each master; none where not everybody may ask."""
    try:
        return link.on_each_master("CONFIG", "GET", name)
    except StoreError:
        return []

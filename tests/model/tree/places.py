"""Who there is: a root, its regions, engines of the regions, and the cache of each."""

from __future__ import annotations

from typing import Final

ROOT: Final = "root"
REDIS: Final = "redis"
REDIS_REGION: Final = "us"  #: the region whose engine stores in a Redis

DRIVERS: Final = {
    "eu": ("varnish", "nginx", "ats"),
    "us": ("varnish", "nginx", "squid"),
    "ap": ("varnish", "squid", "nginx"),
}
"""By region: the caches, one below each of its engines."""

REGIONS: Final = tuple(DRIVERS)
LEAVES: Final = {
    f"{region}-{number}": driver
    for region, drivers in DRIVERS.items()
    for number, driver in enumerate(drivers, 1)
}
"""Engines that have a cache, and its driver; the cache goes by the same name with ``cache-`` before it."""

ENGINES: Final = (ROOT, *REGIONS, *LEAVES)
EDGE: Final = "edge"  #: the node of each of `LEAVES`


def region_of(leaf: str) -> str:
    """Return whose engine that is."""
    return leaf.partition("-")[0]


def cache_of(leaf: str) -> str:
    """Return how its cache is called."""
    return f"cache-{leaf}"


def below(names: list[str]) -> list[str]:
    """Return the leaves below nodes as clients of the root name them; no name: all."""
    if not names:
        return list(LEAVES)
    parts = [name.split("/") for name in names]
    return [leaf for leaf in LEAVES if any(part[-1] in {leaf, region_of(leaf)} for part in parts)]


def way_to(leaf: str) -> frozenset[str]:
    """Return everybody between the root and a cache, both among them."""
    region = region_of(leaf)
    names = {ROOT, region, leaf, cache_of(leaf)}
    return frozenset(names | {REDIS} if region == REDIS_REGION else names)

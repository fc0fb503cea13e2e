"""Why a purge came to a cache more than once: what went wrong on its way between the two."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from tests.model.fleet.reasons import ONCE
from tests.model.tree.places import way_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.model.fleet.reasons import Window
    from tests.model.tree.caches import RealCache

LATE_S: Final = 8.0
"""A fault shows so long after its end: a probe sees that a node is back up to 5 s later, rows go out then."""


def repeats(cache: RealCache) -> Iterator[tuple[float, float]]:
    """Return the times of two purges in turn of each URL: each is purged by one task."""
    for url, times in cache.by_url.items():
        if url.startswith(ONCE):
            yield from pairwise(times)


def reason(cache: RealCache, first_at: float, again_at: float, windows: Iterable[Window]) -> str:
    """Return the fault that explains a purge that came again; empty: none does."""
    way = way_to(cache.leaf)
    found = [one for one in windows if one.who & way and one.touches(first_at, again_at, LATE_S)]
    if found:
        return found[0].kind
    is_closed = any(first_at <= at <= again_at for at in cache.closings)
    return "the cache closed the connection before it answered" if is_closed else ""

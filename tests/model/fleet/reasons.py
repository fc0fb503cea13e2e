"""Why a purge came to a cache twice: what went wrong between the two."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.model.caches import Act, Cache

ONCE: Final = "http://u.example/"
"""How URLs begin of which each is purged by one task only, and by its URL only."""
REDIS: Final = "redis"
RESTARTED: Final = "restarted"
DRIVER_CHANGED: Final = "driver changed"
_ENDS: Final = {"killed": "killed", "all killed": "killed", "paused": "paused", RESTARTED: RESTARTED}
"""Faults of an engine after which others, or its next process, take its work over."""
_ON_THE_WAY_S: Final = 0.5  #: what a process has sent comes to a cache so long after its end
_REDIS_LATE_S: Final = 8.0  #: connections come back, and what waits is written down
_CACHE_LATE_S: Final = 2.0
_PARENT_LATE_S: Final = 8.0  #: a probe sees that it is back up to 5 s later


@dataclass
class Window:
    """A fault, and from when to when; times of the loop."""

    kind: str
    who: frozenset[str]  #: engines, caches, `REDIS`
    began_at: float
    ended_at: float = field(default=float("inf"))
    is_gone_at: float | None = None  #: an engine's process, which began to end when this began

    def explains(self, first_at: float, again_at: float, *, is_same: bool) -> bool:
        """Tell whether an engine's work may have changed hands between two moments.

        A process that ends, and others go on before it is gone; the next one of its name (*is_same*) after.
        """
        if self.is_gone_at is None:
            return self.touches(first_at, again_at, 0.0)
        from_at = self.is_gone_at if is_same else self.began_at
        return first_at <= self.is_gone_at + _ON_THE_WAY_S and from_at <= again_at

    def touches(self, since: float, until: float, late_s: float) -> bool:
        """Tell whether it was between two moments, or over so shortly before."""
        return self.began_at <= until and self.ended_at + late_s >= since


def repeats(cache: Cache) -> Iterable[tuple[Act, Act]]:
    """Return two acts in turn of each URL that should have been purged once."""
    by_url: dict[str, list[Act]] = {}
    for act in cache.acts:
        if act.target.startswith(ONCE):
            by_url.setdefault(act.target, []).append(act)
    for acts in by_url.values():
        yield from pairwise(acts)


def reason(
    node: str,
    parents: Iterable[str],
    acts: tuple[Act, Act],
    windows: Iterable[Window],
    name_of: Callable[[str], str],
) -> str:
    """Return what explains that a purge was sent again; empty: nothing does.

    Args:
        node: that got it.
        parents: of the node.
        acts: the two.
        windows: all faults.
        name_of: address → engine.
    """
    first, second = acts
    sender, again = name_of(first.by), name_of(second.by)
    near = [one for one in windows if one.touches(first.at, second.at, _REDIS_LATE_S)]

    def found(who: Iterable[str], late_s: float) -> set[str]:
        names = {*who}
        return {one.kind for one in near if one.who & names and one.touches(first.at, second.at, late_s)}

    is_same = again == sender
    ends = {
        one.kind for one in near if sender in one.who and one.explains(first.at, second.at, is_same=is_same)
    }
    for kind, text in _ENDS.items():
        if kind in ends:
            return f"its engine was {text}, {'and went on' if is_same else 'another took over'}"
    kinds = found([node], _CACHE_LATE_S)
    if kinds - {DRIVER_CHANGED}:
        return "the cache did not answer"
    if kinds:
        return "sent by an engine that had the node's other driver, and not counted"
    if found([sender, again, REDIS], _REDIS_LATE_S):
        return "Redis was away when it was to be written down"
    if found(parents, _PARENT_LATE_S):
        return "sent at once below a parent that was away, and again"
    return ""

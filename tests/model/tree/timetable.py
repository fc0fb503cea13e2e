"""What happens in a round, and when: drawn from its seed, or one long cut."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.model.tree.places import LEAVES, REDIS, REGIONS, ROOT, cache_of, region_of

if TYPE_CHECKING:
    from collections.abc import Sequence

ENGINE_FAULTS: Final = ("killed", "paused", "drained", "clock")
LINK_FAULTS: Final = ("cut off", "cut from a leaf", "slow link", "token revoked", "leaf removed")
CACHE_FAULTS: Final = ("down", "hang", "slow", "cuts")
REDIS_FAULTS: Final = ("redis killed", "redis restarted", "redis paused")
FAULTS: Final = frozenset({*ENGINE_FAULTS, *LINK_FAULTS, *CACHE_FAULTS, *REDIS_FAULTS, "none"})
"""``cut off``: a region from the root; ``cut from a leaf``: from an engine below it; packets are lost, and
nobody is told. ``slow link``: 64 kbit/s each way and a queue of 400 ms. ``token revoked``: the region starts
with another token than the root has. ``leaf removed``: the region starts without one of its engines."""

_LASTS_S: Final = {"killed": (0.2, 4.0), "redis restarted": (0.1, 1.0), "drained": (0.1, 1.0)}
_SECONDS: Final = (0.5, 6.0)
_CLOCKS_S: Final = (-400 * 86_400, -3600, -45, 45, 3600, 400 * 86_400)


@dataclass(frozen=True)
class Event:
    """One fault."""

    at_s: float  #: of the round, at the earliest
    kind: str
    who: str  #: an engine, a cache or the Redis; of a link its lower end
    lasts_s: float
    clock_s: int = 0  #: for a clock

    def __str__(self) -> str:
        return f"{self.at_s:6.2f} s {self.kind} {self.who}"


Track = tuple[Event, ...]  #: each fault begins when the one before it is over


def draw(seed: int, faults: frozenset[str], seconds: float) -> list[Track]:
    """Draw a round."""
    rng = random.Random(seed)
    groups = (ENGINE_FAULTS, ENGINE_FAULTS, LINK_FAULTS, CACHE_FAULTS, REDIS_FAULTS)
    return [_track(rng, [kind for kind in kinds if kind in faults], seconds) for kinds in groups]


def one_cut(at_s: float, lasts_s: float, region: str = REGIONS[0]) -> list[Track]:
    """Return the round in which a region is cut off from the root for so long, and nothing else happens."""
    return [(Event(at_s, "cut off", region, lasts_s),)]


def _track(rng: random.Random, kinds: Sequence[str], seconds: float) -> Track:
    events: list[Event] = []
    at_s = 1.0 + rng.random()
    while kinds and at_s < seconds:
        kind = rng.choice(kinds)
        lasts_s = rng.uniform(*_LASTS_S.get(kind, _SECONDS))
        events.append(Event(at_s, kind, _who(rng, kind), lasts_s, rng.choice(_CLOCKS_S)))
        at_s += lasts_s + rng.uniform(1.0, 4.0)
    return tuple(events)


def _who(rng: random.Random, kind: str) -> str:
    leaf = rng.choice(list(LEAVES))
    if kind in CACHE_FAULTS:
        return cache_of(leaf)
    if kind in REDIS_FAULTS:
        return REDIS
    if kind in ENGINE_FAULTS:
        return rng.choice([ROOT, region_of(leaf), region_of(leaf), leaf, leaf])
    return leaf if kind in {"cut from a leaf", "leaf removed"} else region_of(leaf)

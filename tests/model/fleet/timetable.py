"""What happens in a round, and when: drawn from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ENGINE_FAULTS: Final = (
    "killed",
    "all killed",
    "paused",
    "paused shortly",
    "drained",
    "other version",
    "clock",
    "node removed",
    "driver changed",
    "cut from redis",
    "cut from a server",
    "cut from a cache",
)
"""A pause is longer than the time after which an engine is dead; ``paused shortly`` is not. ``drained``: it
ends by SIGTERM, within less time than what is on the wire may take."""

REDIS_FAULTS: Final = {
    "single": ("master killed", "master restarted", "master paused"),
    "sentinel": (
        "master killed",
        "master restarted",
        "master paused",
        "master cut off",
        "half cut off",
        "lag, then master killed",
        "replica killed",
        "replica lags",
        "replica paused",
        "sentinel killed",
        "sentinel paused",
    ),
    "cluster": (
        "master killed",
        "master restarted",
        "master paused",
        "master cut off",
        "half cut off",
        "lag, then master killed",
        "replica killed",
        "replica lags",
        "replica paused",
        "slot moved",
        "cut off while a slot moves",
    ),
}
"""By topology. ``master cut off``: from the other servers and the Sentinels, not from engines; ``half cut
off``: together with a replica and an engine. ``lag, then master killed``: replicas stop a moment before.
``cut off while a slot moves``: the master that gets the slot, and its replica goes on with that; or a third
one, with its replica and an engine, and the slot has moved before they are back. Never the master that gives
it: with a failover there Redis forgets that the slot moves, see docs/cluster.md."""

CACHE_FAULTS: Final = ("down", "hang", "sick", "half-sick", "slow", "cuts", "wiped", "refuse", "refuse-bans")
FAULTS: Final = frozenset({*ENGINE_FAULTS, *CACHE_FAULTS}.union(*REDIS_FAULTS.values()))

_LASTS_S: Final = {
    "killed": (0.2, 4.0),
    "all killed": (0.1, 2.0),
    "paused": (4.0, 7.0),
    "paused shortly": (0.3, 2.0),
    "cut from redis": (1.0, 7.0),
    "cut from a server": (1.0, 7.0),
    "cut from a cache": (1.0, 6.0),
    "master killed": (0.3, 5.0),
    "master restarted": (0.1, 1.0),
    "master paused": (0.5, 6.0),
    "master cut off": (2.0, 7.0),
    "half cut off": (2.0, 7.0),
    "lag, then master killed": (1.0, 5.0),
    "replica lags": (0.2, 0.9),
    "replica killed": (0.5, 4.0),
    "replica paused": (1.5, 5.0),
    "sentinel killed": (1.0, 5.0),
    "sentinel paused": (1.0, 5.0),
    "slot moved": (0.5, 3.0),
    "cut off while a slot moves": (2.0, 6.0),
}
_SECONDS: Final = (0.5, 5.0)
_CLOCKS_S: Final = (-400 * 86_400, -45, 45, 3600, 400 * 86_400, 400 * 86_400)
_RARE: Final = frozenset({"all killed"})


@dataclass(frozen=True)
class Event:
    """One fault."""

    at_s: float  #: of the round, at the earliest
    kind: str
    who: int  #: draws whom it happens to
    lasts_s: float
    clock_s: int  #: for a clock

    def __str__(self) -> str:
        return f"{self.at_s:6.2f} s {self.kind}"


@dataclass(frozen=True)
class Timetable:
    """A round: tracks of faults, each of which begins when the one before it on its track is over."""

    seed: int
    is_apart: bool  #: engines do not see each other's processes
    drivers: tuple[str, str, str]
    other_driver: str  #: of edge-1, when its cache is changed
    engine_tracks: tuple[tuple[Event, ...], ...]
    redis_track: tuple[Event, ...]
    cache_track: tuple[Event, ...]


def draw(seed: int, topology: str, faults: frozenset[str], seconds: float) -> Timetable:
    """Draw a round."""
    rng = random.Random(seed)
    engines = [kind for kind in ENGINE_FAULTS if kind in faults]
    return Timetable(
        seed,
        is_apart=rng.random() < 0.5,
        drivers=(
            rng.choice(("varnish", "nginx", "ats", "squid")),
            "varnish",
            rng.choice(("varnish", "nginx", "ats")),
        ),
        other_driver=rng.choice(("squid", "ats")),
        engine_tracks=tuple(_track(rng, engines, seconds, (1.0, 4.0)) for _ in range(2)),
        redis_track=_track(rng, [k for k in REDIS_FAULTS[topology] if k in faults], seconds, (1.0, 4.0)),
        cache_track=_track(rng, [kind for kind in CACHE_FAULTS if kind in faults], seconds, (0.3, 3.0)),
    )


def _track(
    rng: random.Random, kinds: Sequence[str], seconds: float, gap_s: tuple[float, float]
) -> tuple[Event, ...]:
    events: list[Event] = []
    at_s = 1.0 + rng.random()
    while kinds and at_s < seconds:
        kind = rng.choice(kinds)
        if kind in _RARE and len(kinds) > 1 and rng.random() < 0.7:
            continue
        lasts_s = rng.uniform(*_LASTS_S.get(kind, _SECONDS))
        events.append(Event(at_s, kind, rng.randrange(1 << 16), lasts_s, rng.choice(_CLOCKS_S)))
        at_s += lasts_s + rng.uniform(*gap_s)
    return tuple(events)

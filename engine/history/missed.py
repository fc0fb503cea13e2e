"""What a rewind sends: purges of a window, each target once, oldest first. Pure.

As in a delay queue: the same purge is sent once, for all that asked for it, and the purge of a prefix or of a
host supersedes older purges of URLs under it, a soft one only soft ones. When there are too many targets, a
host is purged in place of its URLs, if the node can do that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from engine.tasks.segments import start_of
from engine.tasks.words import Kind, host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from engine.history.recall import Purge

TARGETS_MAX: Final = 200_000  #: of one rewind: they are in memory until they are sent
COLLECTED_MAX: Final = 2 * TARGETS_MAX  #: before what is superseded is left out

_URL: Final = Kind.URL
_WIDE: Final = frozenset({Kind.PREFIX, Kind.HOST})

Key = tuple[str, bool, str]
"""Kind, whether it is soft, and target."""


class Slice(NamedTuple):
    """What is sent at one moment, as one task."""

    after_s: float  #: since the beginning of the rewind
    kind: str
    soft: bool
    targets: list[str]


class Missed:
    """Collects purges, in any order."""

    def __init__(self) -> None:
        self.purges = 0  #: tasks
        self._times: dict[Key, tuple[float, float]] = {}  # when it was purged first, and last
        self.is_by_host = False  #: see `go_by_host`

    def __len__(self) -> int:
        return len(self._times)

    def add(self, purges: Iterable[Purge]) -> None:
        """Add purges."""
        times = self._times
        for purge in purges:
            self.purges += 1
            at, kind, soft = purge.at, purge.kind, purge.soft
            for target in purge.targets:
                key = (kind, soft, target)
                if self.is_by_host:
                    key = _host_wide(key)
                first, last = times.get(key, (at, at))
                times[key] = (min(first, at), max(last, at))

    def go_by_host(self) -> None:
        """Have one hard purge of a host in place of all of its purges but those by surrogate key."""
        self.is_by_host = True
        before, self._times = self._times, {}
        for key, (first, last) in before.items():
            wide = _host_wide(key)
            known = self._times.get(wide, (first, last))
            self._times[wide] = (min(first, known[0]), max(last, known[1]))

    def in_order(self, can: Callable[[Key], bool] | None = None) -> list[Key]:
        """Return what is to be sent, by when it was purged first.

        Args:
            can: tells whether the node can do it; what it cannot do supersedes nothing. None: it can do all.
        """
        wide = _Wide(
            {key: at for key, at in self._times.items() if key[0] in _WIDE and (not can or can(key))}
        )
        left = [key for key, (_, last) in self._times.items() if not wide.supersedes(key, last)]
        left.sort(key=lambda key: self._times[key][0])
        return left


class _Wide:
    """The prefixes and hosts that are purged, and when that was last; of nothing else are *times*."""

    def __init__(self, times: dict[Key, tuple[float, float]]) -> None:
        self._last: dict[bool, dict[str, float]] = {False: {}, True: {}}  # soft → start of URLs → when
        for (kind, soft, target), (_, last) in times.items():
            start = start_of(kind, target) if kind != Kind.HOST else f"{target}/"
            known = self._last[soft]
            known[start] = max(last, known.get(start, last))
        self._lengths = {soft: sorted({len(start) for start in known}) for soft, known in self._last.items()}

    def supersedes(self, key: Key, last: float) -> bool:
        """Tell whether a later purge takes all that *key* would."""
        kind, soft, target = key
        if kind != _URL:
            return False
        rest = target.partition("://")[2]
        return any(
            self._last[of].get(rest[:length], last) > last
            for of in ((False, True) if soft else (False,))
            for length in self._lengths[of]
        )


def _host_wide(key: Key) -> Key:
    return key if key[0] == Kind.KEY else (Kind.HOST.value, False, host_of(key[2]))


def slices(keys: Sequence[Key], rate_per_s: float, *, slice_s: float, slices_max: int) -> list[Slice]:
    """Return the tasks that send *keys* in their order, at that rate.

    Args:
        keys: what is sent.
        rate_per_s: targets a second.
        slice_s: between two slices, where there are not too many.
        slices_max: so many at the most.
    """
    size = max(1, round(rate_per_s * slice_s), -(-len(keys) // slices_max))
    found = []
    for place in range(0, len(keys), size):
        groups: dict[tuple[str, bool, bool], list[str]] = {}
        for kind, soft, target in keys[place : place + size]:
            groups.setdefault((kind, soft, host_of(target).startswith("*.")), []).append(target)
        for (kind, soft, _), targets in groups.items():
            found.append(Slice(place / rate_per_s, kind, soft, targets))
    return found

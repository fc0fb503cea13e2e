"""Prefetches of other engines, as this one's purges see them.

Two machines' clocks are never compared. When a prefetch began and ended is told by this engine's looks: it
began after the last look that did not show it, and had ended before the first one that shows its end. Both
are taken the safe way: a purge waits for a prefetch that may have begun before its ack, and for one that may
have ended after the purge was sent.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from engine.nodes.underway import Fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.base.timer import Timer
    from engine.cluster.fetch_changes import Begun, Change
    from engine.nodes.underway import Linked

    Key = tuple[str, int]
    """Who began it, and its number there."""


class FetchMirror:
    """Keeps what is under way through the nodes up to date with what the log says.

    Args:
        nodes: by name, linked.
        timer: of the engine.
        now: `time.monotonic`.
    """

    def __init__(self, nodes: Mapping[str, Linked], timer: Timer, now: Callable[[], float]) -> None:
        self._nodes = nodes
        self._timer = timer
        self._now = now
        self._under_way: dict[Key, Fetch] = {}

    def __repr__(self) -> str:
        return f"<FetchMirror [{len(self._under_way)} under way]>"

    @property
    def is_awaited(self) -> bool:
        """Whether a purge waits for the end of one of them."""
        return any(fetch.on_end for fetch in self._under_way.values())

    def take(self, change: Change, *, not_before: float) -> None:
        """Take in what another engine says; what began has begun after *not_before*."""
        for begun in change.began:
            key = (change.by, begun.number)
            if key not in self._under_way:
                self._begin(key, begun, not_before)
        for number in change.ended:
            self._end((change.by, number))

    def _begin(self, key: Key, begun: Begun, at: float) -> None:
        places = tuple(self._nodes[name].underway for name in begun.nodes if name in self._nodes)
        if not places:
            return
        fetch = self._under_way[key] = Fetch(begun.url, places, at, begun.task_ids)
        for place in places:
            place.begin(fetch)
        self._timer.add((self, key), begun.lasts_s, partial(self._end, key))

    def _end(self, key: Key) -> None:
        fetch = self._under_way.pop(key, None)
        if fetch is not None:
            self._timer.cancel((self, key))
            fetch.end(self._now())

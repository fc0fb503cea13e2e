"""Prefetches of other processes of this engine, and of the one before: as far as purges here have to wait.

They are looked for on the `Board` when a purge was acked here, and from then on now and then, as long as one
is under way: its process does not tell others when it ends.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final
from zlib import crc32

from engine.nodes.underway import Fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engine.nodes.board import Board, Record
    from engine.nodes.underway import Clockwork, Linked, Underway

_LOOK_S: Final = 0.05

_Key = tuple[int, int, float]
"""Region, place and begin of a record."""


class Elsewhere:
    """Keeps what is under way through the nodes up to date with what other processes send them.

    Args:
        board: where they write it.
        nodes: by name, linked.
        timer: of the engine.
        now: `time.monotonic`.
    """

    def __init__(
        self, board: Board, nodes: Mapping[str, Linked], timer: Clockwork, now: Callable[[], float]
    ) -> None:
        self._board = board
        self._nodes = nodes
        self._timer = timer
        self._now = now
        self._names = {crc32(name.encode()): name for name in nodes}
        self._seen: dict[int, int] = {}
        self._known: dict[int, dict[_Key, Fetch]] = {}  # by region; also those that have ended
        self._expires: dict[Fetch, float] = {}  # of those that have not
        self._unknown: dict[int, float] = {}
        self._is_looking = False
        self.word = board.word  #: differs from *seen* when the board has changed since it was looked at
        self.seen = 0

    def __repr__(self) -> str:
        return f"<Elsewhere [{len(self._expires)} under way]>"

    def open(self, *, has_others: bool) -> None:
        """Begin to write down what is under way here, and go on with what processes before left so.

        Args:
            has_others: there may be other processes of this engine: look out for theirs.

        Raises:
            StoreError: the board cannot be opened.
        """
        self._board.open()
        self.word = self._board.word
        for node in self._nodes.values():
            node.fetches.board = self._board
            if has_others:
                node.underway.elsewhere = self
        self.take_left()

    def close(self) -> None:
        """Write nothing more down."""
        for node in self._nodes.values():
            node.fetches.board = None
        self._board.close()

    def take_left(self) -> None:
        """Go on with what processes before this one left under way: it may still come to its end."""
        for record in self._board.take_left():
            node = self._nodes.get(self._names.get(record.node, ""))
            if node is not None:
                node.fetches.take_left(record)
        for region in [region for region in self._known if not self._board.is_other(region)]:
            for fetch in self._known.pop(region).values():
                self._end(fetch, self._now())  # it is one of our own from here on

    def look(self) -> None:
        """Bring what is under way up to date with what other processes have written."""
        word = self.word[0]
        if word != self.seen:
            self.seen = word
            for region, records in self._board.changed(self._seen):
                self._update(region, records)
            for region, until in self._board.unknown_until():
                if until > self._unknown.get(region, 0.0):
                    self._unknown[region] = until
                    self._anything(until)
        self._end_expired()
        if self._expires and not self._is_looking:
            self._is_looking = True
            self._timer.add((self, "look"), _LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._is_looking = False
        self.look()

    def _update(self, region: int, records: list[Record]) -> None:
        known = self._known.get(region, {})
        now_known: dict[_Key, Fetch] = {}
        for record in records:
            key = (record.region, record.place, record.began_at)
            fetch = known.get(key)
            if fetch is None:
                name = self._names.get(record.node)
                if name is None:
                    continue
                places = self._nodes[name].fetches.places
                fetch = self._begin(record.url, places, record.began_at, record.task_ids)
            now_known[key] = fetch
            if record.ends_at < inf:
                self._end(fetch, record.ends_at)
            elif not fetch.is_over:
                self._expires[fetch] = record.expires_at
        for key in known.keys() - now_known.keys():
            self._end(known[key], self._now())
        self._known[region] = now_known

    def _anything(self, until: float) -> None:
        """A process had more under way than it could write down: any object may come until then."""
        places = tuple(node.underway for node in self._nodes.values())
        fetch = self._begin("", places, self._now())
        if until < self._now():
            self._end(fetch, until)
        else:
            self._expires[fetch] = until

    def _begin(
        self, url: str, places: tuple[Underway, ...], began_at: float, task_ids: Sequence[str] = ()
    ) -> Fetch:
        fetch = Fetch(url, places, began_at, task_ids)
        for place in places:
            place.begin(fetch)
        return fetch

    def _end(self, fetch: Fetch, at: float) -> None:
        self._expires.pop(fetch, None)
        if not fetch.is_over:
            fetch.end(at)

    def _end_expired(self) -> None:
        now = self._now()
        for fetch in [fetch for fetch, at in self._expires.items() if at <= now]:
            self._end(fetch, now)

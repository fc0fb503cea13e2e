"""The way out of a channel whose node is an engine, in place of connections: all goes to the node's desk."""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from engine.nodes.answer import Answer
from engine.tree.piece import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.nodes.health import Health
    from engine.nodes.keeper import Keeper
    from engine.nodes.queue import Item
    from engine.tasks.task import Share

AT_ONCE: Final = 20_000  #: subtasks handed down and not settled; a task of 10,000 URLs is taken whole
_TAKEN: Final = 1000
DONE: Final = Answer(200, 1, keep_alive=True)  #: how it is read that all leaves did it
ABSENT: Final = Answer(404, 0, keep_alive=True)  #: and none of them had anything


class Feeder(Protocol):
    """The channel."""

    def take(self, room: int) -> list[Item]:
        """Return requests to send now: *room* and what the last task has more."""

    def put_back(self, items: list[Item]) -> None:
        """Queue requests again, in front."""

    def wake(self) -> None:
        """Have what waits handed down, at the end of this turn of the loop."""

    def settle(self, items: list[Item], answers: list[Answer], duration_s: float) -> None:
        """Take requests that were done."""


class Desk(Protocol):
    """What hands pieces down; see `engine.tree.desk`."""

    def take(self, pieces: list[Piece]) -> None:
        """Hand pieces down, and settle them when the child tells what became of them."""

    def cancel(self, share: Share, pieces: Sequence[Piece]) -> None:
        """Have the child cancel what it has of a share."""

    def drop(self, pieces: Sequence[Piece]) -> None:
        """Do nothing more with pieces: they are given back."""


class WayOut:
    """Takes the requests of one channel to the desk of its node.

    Args:
        channel: gives them, and takes what was done.
        desk: of the node.
        health: of the node.
        keeper: tells which are still wanted.
        late_slack_s: see `Piece`.
    """

    peer = ""

    def __init__(
        self, channel: Feeder, desk: Desk, health: Health, keeper: Keeper, *, late_slack_s: float
    ) -> None:
        self._channel = channel
        self._desk = desk
        self._health = health
        self._keeper = keeper
        self._late_slack_s = late_slack_s
        self._pieces: dict[Piece, None] = {}
        self._count = 0

    def __repr__(self) -> str:
        return f"<WayOut [{len(self._pieces)} pieces, {self._count} subtasks]>"

    @property
    def items(self) -> Iterator[Item]:
        """Requests that are handed down, or about to be, and not settled."""
        for piece in self._pieces:
            yield from piece.items

    @property
    def in_flight(self) -> int:
        """Return how many they are."""
        return self._count

    @property
    def takes_more(self) -> bool:
        """Whether more could be handed down now."""
        return self._count < AT_ONCE and not self._health.is_down

    @property
    def oldest_sent_at(self) -> float:
        """When the oldest of them went out; infinity: there is none. Pieces are in their order."""
        return next((piece.sent_at for piece in self._pieces), inf)

    def fill(self) -> None:
        """Hand down what waits."""
        while self.takes_more:
            items = self._channel.take(min(_TAKEN, AT_ONCE - self._count))
            if not items:
                return
            pieces = self._pieces_of(items)
            for piece in pieces:
                self._pieces[piece] = None
            self._count += len(items)
            self._desk.take(pieces)

    def _pieces_of(self, items: list[Item]) -> list[Piece]:
        now = time.monotonic()
        by_share: dict[Share, list[int]] = {}
        for share, index, _ in items:
            by_share.setdefault(share, []).append(index)
        slack_s = self._late_slack_s
        return [
            Piece(self, share, indexes, share.task.by.path or "", now=now, late_slack_s=slack_s)
            for share, indexes in by_share.items()
        ]

    # What became of them, told by the desk

    def settled(self, piece: Piece, places: Sequence[int], *, is_absent: bool) -> None:
        """Take targets of a piece that all leaves acked."""
        items = piece.items_at(places)
        self._leave(piece, places)
        answer = ABSENT if is_absent else DONE
        self._channel.settle(items, [answer] * len(items), time.monotonic() - piece.sent_at)

    def taken(self, piece: Piece, places: Sequence[int]) -> list[Item]:
        """Return the requests of targets that are settled otherwise, which leave here."""
        items = piece.items_at(places)
        self._leave(piece, places)
        return items

    def _leave(self, piece: Piece, places: Sequence[int]) -> None:
        if piece not in self._pieces:
            return
        self._count -= len(places)
        gone = set(places)
        piece.left = [place for place in piece.left if place not in gone]
        if not piece.left:
            piece.is_over = True
            del self._pieces[piece]
        self._channel.wake()  # there is room again, and what waited for a trial may go

    def cancelled(self, share: Share) -> None:
        """Have the child told of a share that was cancelled, all of it or rows of it, when that is done."""
        asyncio.get_running_loop().call_soon(self._tell_cancelled, share)

    def _tell_cancelled(self, share: Share) -> None:
        pieces = [piece for piece in self._pieces if piece.share is share and piece.is_cancelled]
        self._desk.cancel(share, pieces)

    def given_up(self, piece: Piece, places: Sequence[int]) -> None:
        """Take targets of a cancelled task that nobody acked."""
        wanted = self._keeper.wanted(self.taken(piece, places))
        if wanted:
            self._channel.put_back(wanted)

    def abort(self, reason: str) -> None:
        """Wait for nothing more: what is not settled is queued again."""
        pieces, self._pieces, self._count = list(self._pieces), {}, 0
        items: list[Item] = []
        for piece in pieces:
            items += piece.items
            piece.is_over = True
        self._desk.drop(pieces)
        wanted = self._keeper.wanted(items)
        if wanted:
            self._channel.put_back(wanted)

"""The root side of one child: hands pieces down, many in one request. `settling` acts on what comes back."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.background import FewAtOnce
from engine.errors import EngineError
from engine.tasks.words import Outcome
from engine.tree.link import LinkError, RefusedError
from engine.tree.questions import Questions
from engine.tree.reading import lines_of
from engine.tree.seal import SealError
from engine.tree.settling import Settling
from engine.tree.taking_back import TakingBack
from engine.tree.words import BODY_BYTES, LINES_MAX, TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.nodes.node import Node
    from engine.observe.counters import Stats
    from engine.tasks.task import Share
    from engine.tree.link import Link
    from engine.tree.piece import Piece
    from engine.tree.place import Place
    from engine.tree.words import Line

_AT_ONCE: Final = 4  #: requests at a time that hand down
_PAUSE_S: Final = 0.05  #: after one that failed, at the least
_ERROR: Final = 400
_CONFLICT: Final = 409
_UNREADABLE: Final = 400
_TOO_MANY: Final = 429
_FOR_GOOD: Final = ("nodes", "layers", "groups", "kind")
"""Fields of what it will never do: it has no leaf or layer so called, or a leaf that cannot purge so."""
_SERVER_ERROR: Final = 500


class Desk:
    """Works for one node.

    Args:
        node: that is an engine.
        link: to it.
        place: this engine's.
        stats: counts requests.
        has_second: rows of the node may be of second purges: it has parents, or a store is shared.

    Attributes:
        questions: what is asked for.
        taking_back: what is to be cancelled.
    """

    def __init__(
        self, node: Node, link: Link, place: Place, stats: Stats, *, has_second: bool = False
    ) -> None:
        self._node = node
        self._link = link
        self._place = place
        self._stats = stats
        self.settling = Settling(node, self, self._ask_no_more, stats, has_second=has_second)
        self.questions = Questions(node, link, place, self.settling, stats)
        self.taking_back = TakingBack(link, place, node.name, lambda: self.questions.version)
        self.questions.on_first_version = self._hand_early
        self._to_hand: deque[Piece] = deque()
        self._early: list[
            Piece
        ] = []  # that take a later version than every child speaks, which it has not told
        self._at_work = FewAtOnce(self._hand, _AT_ONCE)
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Desk of {self._node.name} [{len(self._to_hand)} to hand down, {self.questions!r}]>"

    # Told by the ways out

    def take(self, pieces: list[Piece]) -> None:
        """Hand pieces down; ask first for those that the child may have."""
        for piece in pieces:
            if piece.is_asked_first:
                self._ask_for(piece)
            else:
                self.settling.avoid_revoked(piece)
                self._queue(piece)
        self._go_on()

    def cancel(self, share: Share, pieces: Sequence[Piece]) -> None:
        """Have the child cancel what it has of a share; what it acked all the same is told once more."""
        for piece in pieces:
            self.taking_back.add(piece.id)
            if piece.is_to_hand:
                piece.way.given_up(piece, piece.left)
        if share.task.owner is None:
            self.taking_back.take(share.task.id, [share.operation])

    def drop(self, pieces: Sequence[Piece]) -> None:
        """Do nothing more with pieces."""
        gone = set(pieces)
        self._to_hand = deque(piece for piece in self._to_hand if piece not in gone)
        self._early = [piece for piece in self._early if piece not in gone]
        for piece in pieces:
            self.questions.drop(piece)

    def close(self) -> None:
        """Hand nothing down any more, and ask nothing."""
        self._is_closed = True
        self.taking_back.close()
        self.questions.close()
        self._at_work.cancel()

    async def end(self) -> None:
        """Close the connections."""
        await self._link.close()

    # Down

    def hand_again(self, piece: Piece) -> None:
        """Hand a piece down, unless nobody wants it any more."""
        if piece.is_over or self._is_closed:
            return
        if piece.is_cancelled:
            piece.way.given_up(piece, piece.left)
            return
        self._queue(piece)
        self._go_on()

    def _queue(self, piece: Piece) -> None:
        piece.is_to_hand = True
        self._to_hand.append(piece)

    @property
    def _rests(self) -> bool:
        return self._is_closed or self._node.health.is_down

    def _go_on(self) -> None:
        if self._to_hand and not self._rests:
            self._at_work.wake()
        self.questions.go_on()

    async def _hand(self) -> None:
        """Hand down until nothing is left."""
        while not self._rests:
            batch = self._next_batch()
            if not batch:
                return
            try:
                await self._hand_batch(batch)
            except LinkError as exc:
                self._queue_again(batch)
                self._node.failed(str(exc), is_sick=exc.is_sick)
                await asyncio.sleep(max(_PAUSE_S, self._node.health.connect_wait_s()))
            except RefusedError as exc:
                self.settling.refused(batch, str(exc))
            except SealError as exc:
                self.settling.unproven(batch, str(exc))
            except EngineError as exc:
                self.settling.refused(batch, f"refused: {exc}")
            except Exception as exc:  # noqa: BLE001 - purges must not wait for it without a word
                logger.opt(exception=exc).error("handing down to {} failed", self._node.name)
                self.settling.refused(batch, f"refused: handing down failed here: {exc!r}")

    def _queue_again(self, batch: Sequence[Piece]) -> None:
        """Hand pieces down again, of which nobody knows whether the child has them."""
        for piece in reversed(batch):
            if piece.is_over:
                continue
            if piece.is_cancelled:
                self.taking_back.add(piece.id)
                piece.way.given_up(piece, piece.left)
            else:
                piece.is_to_hand = True
                self._to_hand.appendleft(piece)

    def _next_batch(self) -> list[Piece]:
        """Return pieces of one path that go down in one request."""
        batch: list[Piece] = []
        size = 0
        while self._to_hand and len(batch) < LINES_MAX:
            piece = self._to_hand[0]
            if piece.is_over:
                self._to_hand.popleft()
                continue
            if batch and (piece.path != batch[0].path or size + len(piece.body) > BODY_BYTES):
                break
            piece.is_to_hand = False
            self._to_hand.popleft()
            if lacks := piece.lacking(self.questions.version):
                if self.questions.version:
                    self._keep_back(piece, lacks)
                else:
                    piece.is_to_hand = True
                    self._early.append(piece)
                continue
            size += len(piece.body)
            batch.append(piece)
        return batch

    def _hand_early(self) -> None:
        """Hand down what waited for the child's version."""
        early, self._early = self._early, []
        for piece in early:
            piece.is_to_hand = False
            self.hand_again(piece)

    def _keep_back(self, piece: Piece, lacks: str) -> None:
        """Keep what the child's version would leave out, or not read: nothing is left out without a word."""
        name, version = self._node.name, self.questions.version
        reason = f"held: {name} speaks version {version} of the tree's protocol, and {lacks}; bring it up"
        self._node.keeping.keep_below(piece.way.taken(piece, piece.left), reason)

    async def _hand_batch(self, batch: list[Piece]) -> None:
        path = await self._place.path_of(batch[0].path)
        body = b"\n".join([piece.body for piece in batch]) + b"\n"
        self._stats.tree_requests += 1
        said = await self._link.post(TASKS, body, path=path)
        lines = lines_of(said.body, len(batch), self._node.config.url)
        self._node.health.answered()
        for piece, line in zip(batch, lines, strict=True):
            self._handed_down(piece, line)
        self._go_on()

    def _handed_down(self, piece: Piece, said: Line) -> None:
        """Act on what the child answered to one piece."""
        if said.status < _ERROR and said.task_id == piece.id:
            self._is_there(piece)
            return
        if said.status < _ERROR:
            reason = f"unproven: {self._node.name} answered task {piece.id} with one of task {said.task_id}"
            self.settling.unproven([piece], reason)
            return
        if piece.is_over:
            return
        reason = f"answered {said.status}: {said.detail}"
        if said.status == _CONFLICT and not piece.is_part:
            piece.send_as_part()
            self._queue(piece)
        elif said.status == _UNREADABLE:  # its version reads less than this one writes: it is brought up
            items = piece.way.taken(piece, piece.left)
            self._node.keeping.keep_below(items, f"refused: {self._node.name} {reason}")
        elif said.field in _FOR_GOOD:
            for item in piece.way.taken(piece, piece.left):
                self._node.keeping.unreadable(item, reason)
        elif said.status == _TOO_MANY or said.status >= _SERVER_ERROR:
            for item in piece.way.taken(piece, piece.left):
                self._node.unacked(item, Outcome.RETRY, reason)
        else:
            self.settling.refused([piece], f"refused: {reason}")

    def _is_there(self, piece: Piece) -> None:
        """The child has a piece: ask what becomes of it, or have it cancelled where nobody wants it."""
        self._stats.tree_handed += 1
        piece.forget_body()
        piece.was_taken = True
        if piece.is_cancelled:
            self.taking_back.add(piece.id)
        if not piece.is_over:
            self._ask_for(piece)

    def _ask_for(self, piece: Piece) -> None:
        if self.questions.add(piece):
            return
        if piece.is_last:
            self.settling.fail(piece)
        else:  # a row of a task that is at work here
            piece.send_as_part(anew=piece.is_part)
            self.settling.avoid_revoked(piece)
            self._queue(piece)

    def _ask_no_more(self, piece: Piece) -> None:
        self.questions.drop(piece)

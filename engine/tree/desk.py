"""The root side of one child: hands pieces down, asks what became of them, and acts on what it is told.

Many pieces go down in one request, and are asked for in one question, which waits at the child until one of
them has something to tell. Those that take long have a question of their own, so that the others never wait
behind it. Nothing counts but what a report says that the child has signed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
from loguru import logger

from engine.base.background import Background
from engine.errors import EngineError
from engine.tasks.words import Outcome
from engine.tree.fate import fate_of
from engine.tree.link import LinkError, RefusedError
from engine.tree.seal import SealError
from engine.tree.words import ASK, BODY_BYTES, IDS_MAX, LINES_MAX, TASKS, Answer, Question, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.nodes.node import Node
    from engine.tree.link import Link
    from engine.tree.piece import Piece
    from engine.tree.place import Place

_HANDERS: Final = 4  #: requests at a time that hand down
_ASKERS: Final = 4  #: questions at a time about what is new
_NEW_S: Final = 0.5  #: as long as a piece is new
_NEW_WAIT_S: Final = 0.5
_OLD_WAIT_S: Final = 2.0
_LOOK_S: Final = 1.0  #: between two looks at what the child holds
_ERROR: Final = 400
_CONFLICT: Final = 409
_UNREADABLE: Final = 400
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500

_encode = msgspec.json.encode
_decode_answer: Final = msgspec.json.Decoder(Answer).decode


class _Line(msgspec.Struct):
    """What the child answers to one piece: a problem has a status."""

    status: int = 0
    detail: str = ""
    line: int = 0


_decode_line: Final = msgspec.json.Decoder(_Line).decode


class Desk:
    """Works for one node.

    Args:
        node: that is an engine.
        link: to it.
        place: this engine's.
    """

    def __init__(self, node: Node, link: Link, place: Place) -> None:
        self._node = node
        self._link = link
        self._place = place
        self._to_hand: deque[Piece] = deque()
        self._to_ask: dict[str, Piece] = {}
        self._handers = Background()
        self._askers = Background()
        self._asks_old = Background()
        self._is_closed = False
        self._delayed = 0  # the child's rows, when it was asked last
        self._looked_at = 0.0
        self.handed = 0  #: pieces that the child took
        self.requests = 0  #: that handed them down
        self.questions = 0

    def __repr__(self) -> str:
        return (
            f"<Desk of {self._node.name} [{len(self._to_hand)} to hand down, {len(self._to_ask)} to ask for]>"
        )

    # Told by the ways out

    def take(self, pieces: list[Piece]) -> None:
        """Hand pieces down; ask first for those that the child may have."""
        for piece in pieces:
            if piece.is_asked_first:
                self._ask_for(piece)
            else:
                self._to_hand.append(piece)
        self._go_on()

    def drop(self, pieces: Sequence[Piece]) -> None:
        """Do nothing more with pieces."""
        gone = set(pieces)
        self._to_hand = deque(piece for piece in self._to_hand if piece not in gone)
        for piece in pieces:
            if self._to_ask.get(piece.id) is piece:
                del self._to_ask[piece.id]

    def close(self) -> None:
        """Ask nothing more."""
        self._is_closed = True
        for work in (self._handers, self._askers, self._asks_old):
            work.cancel()

    async def end(self) -> None:
        """Close the connections."""
        await self._link.close()

    def _go_on(self) -> None:
        if self._is_closed or self._node.health.is_down:
            return
        if self._to_hand and len(self._handers) < _HANDERS:
            self._handers.start(self._hand())
        self._start_asking()

    def _start_asking(self) -> None:
        if self._is_closed or self._node.health.is_down:
            return
        if len(self._askers) < _ASKERS and any(not p.is_out for p in self._to_ask.values()):
            self._askers.start(self._ask_new())
        if not len(self._asks_old) and (self._to_ask or len(self._node.postponed)):
            self._asks_old.start(self._ask_old())

    # Down

    async def _hand(self) -> None:
        """Hand down until nothing is left."""
        while self._to_hand and not self._node.health.is_down and not self._is_closed:
            batch = self._next_batch()
            if not batch:
                continue
            try:
                await self._hand_batch(batch)
            except LinkError as exc:
                self._to_hand.extendleft(reversed([piece for piece in batch if not piece.is_over]))
                self._node.failed(str(exc), is_sick=exc.is_sick)
                await asyncio.sleep(max(0.05, self._node.health.connect_wait_s()))
            except RefusedError as exc:
                self._refuse(batch, str(exc))
            except SealError as exc:
                self._unproven(batch, str(exc))
            except EngineError as exc:
                self._refuse(batch, f"refused: {exc}")
            except Exception as exc:  # noqa: BLE001 - purges must not wait for it without a word
                logger.opt(exception=exc).error("handing down to {} failed", self._node.name)
                self._refuse(batch, f"refused: handing down failed here: {exc!r}")

    def _next_batch(self) -> list[Piece]:
        """Return pieces of one path that go down in one request."""
        batch: list[Piece] = []
        size = 0
        while self._to_hand and len(batch) < LINES_MAX and size < BODY_BYTES:
            piece = self._to_hand[0]
            if piece.is_over:
                self._to_hand.popleft()
                continue
            if batch and piece.path != batch[0].path:
                break
            if batch and size + len(piece.body) > BODY_BYTES:
                break
            size += len(piece.body)
            batch.append(self._to_hand.popleft())
        return batch

    async def _hand_batch(self, batch: list[Piece]) -> None:
        path = await self._place.path_of(batch[0].path)
        body = b"\n".join([piece.body for piece in batch]) + b"\n"
        self.requests += 1
        said = await self._link.post(TASKS, body, path=path)
        lines = said.splitlines()
        if len(lines) != len(batch):
            raise LinkError(
                f"{self._node.config.url} answered {len(lines)} of {len(batch)} tasks", is_sick=True
            )
        self._node.health.answered()
        for piece, line in zip(batch, lines, strict=True):
            if not piece.is_over:
                self._handed_down(piece, _decode_line(line))
        self._go_on()

    def _handed_down(self, piece: Piece, said: _Line) -> None:
        """Act on what the child answered to one piece."""
        if said.status < _ERROR:
            self.handed += 1
            self._ask_for(piece)
            return
        reason = f"answered {said.status}: {said.detail}"
        if said.status == _CONFLICT and piece.id != piece.part_id():
            piece.send_as_part()
            self._to_hand.append(piece)
        elif said.status == _UNREADABLE:
            for item in piece.way.taken(piece, piece.left):
                self._node.keeping.unreadable(item, reason)
        elif said.status == _TOO_MANY or said.status >= _SERVER_ERROR:
            for item in piece.way.taken(piece, piece.left):
                self._node.unacked(item, Outcome.RETRY, reason)
        else:
            self._refuse([piece], f"refused: {reason}")

    # Up

    def _ask_for(self, piece: Piece) -> None:
        other = self._to_ask.get(piece.id)
        if other is not None and other is not piece:  # a row of a task that is at work here
            piece.send_as_part()
            self._to_hand.append(piece)
            return
        self._to_ask[piece.id] = piece

    async def _ask_new(self) -> None:
        """Ask for pieces that were handed down just now, until there are none."""
        while not self._node.health.is_down and not self._is_closed:
            since = time.monotonic() - _NEW_S
            new = self._choose(partial(_is_new, since))
            if not new:
                return
            await self._ask(new, _NEW_WAIT_S)

    async def _ask_old(self) -> None:
        """Ask for those that take long, and look whether what the child holds may have gone on."""
        while not self._node.health.is_down and not self._is_closed:
            old = self._choose(_was_told)
            if not old and not self._to_ask and not len(self._node.postponed):
                return
            wait_s = _OLD_WAIT_S if old else 0.0
            await self._ask(old, wait_s)
            if not old:
                await asyncio.sleep(_LOOK_S)

    def _choose(self, wanted: Callable[[Piece], bool]) -> list[Piece]:
        chosen: list[Piece] = []
        for piece in self._to_ask.values():
            if not piece.is_out and wanted(piece):
                chosen.append(piece)
                if len(chosen) == IDS_MAX:
                    break
        return chosen

    async def _ask(self, pieces: list[Piece], wait_s: float) -> None:
        for piece in pieces:
            piece.is_out = True
        try:
            await self._ask_and_settle(pieces, wait_s)
        except LinkError as exc:
            self._node.failed(str(exc), is_sick=exc.is_sick)
            await asyncio.sleep(max(0.05, self._node.health.connect_wait_s()))
        except SealError as exc:
            self._unproven(pieces, str(exc))
            await asyncio.sleep(_LOOK_S)
        except EngineError as exc:
            text = str(exc)
            self._refuse(pieces, text if text.startswith("refused") else f"refused: {text}")
            await asyncio.sleep(_LOOK_S)
        except Exception as exc:  # noqa: BLE001 - as in `_hand`
            logger.opt(exception=exc).error("asking {} failed", self._node.name)
            self._node.failed(f"its answer cannot be read: {exc!r}", is_sick=True)
            await asyncio.sleep(_LOOK_S)
        finally:
            for piece in pieces:
                piece.is_out = False

    async def _ask_and_settle(self, pieces: list[Piece], wait_s: float) -> None:
        question = Question({piece.id: piece.seen for piece in pieces}, wait_s)
        self.questions += 1
        path = await self._place.path_of("")
        said = await self._link.post(ASK, _encode(question), path=path, wait_s=wait_s)
        answer = _decode_answer(said)
        self._node.health.answered()
        by_id = {piece.id: piece for piece in pieces if not piece.is_over}
        for report in answer.tasks:
            piece = by_id.get(report.id)
            if piece is not None:
                self._told(piece, report)
        for name in answer.unknown:
            piece = by_id.get(name)
            if piece is not None:
                self._unknown(piece)
        self._note_delayed(answer.delayed)

    def _unknown(self, piece: Piece) -> None:
        """The child has no such task: hand it down, or once more, if it has forgotten it since."""
        self._to_ask.pop(piece.id, None)
        if piece.is_asked_first:
            piece.send_as_part()
        piece.seen = ""
        self._to_hand.append(piece)
        self._go_on()

    def _told(self, piece: Piece, report: Report) -> None:
        """Act on a report."""
        piece.seen = report.seen
        fate = fate_of(piece, report, self._node.name)
        if fate.done:
            piece.way.settled(piece, fate.done, is_absent=fate.is_absent)
        for place, reason in fate.failed:
            for item in piece.way.taken(piece, [place]):
                self._node.unacked(item, Outcome.FAILED, reason)
        if fate.held:
            self._hold(piece, fate.held, fate.reason)
        if piece.is_over:
            self._to_ask.pop(piece.id, None)

    def _hold(self, piece: Piece, places: Sequence[int], reason: str) -> None:
        """Leave targets to the delay queue that the child holds: it goes on with them by itself."""
        self._node.keeping.keep_below(piece.way.taken(piece, places), reason)

    def _note_delayed(self, delayed: int) -> None:
        """Look at what the child held when its delay queues have become shorter."""
        fell, self._delayed = delayed < self._delayed, delayed
        now = time.monotonic()
        if fell and len(self._node.postponed) and now - self._looked_at > _LOOK_S:
            self._looked_at = now
            self._node.keeping.look_again()

    # What goes wrong

    def _refuse(self, pieces: Sequence[Piece], reason: str) -> None:
        for piece in pieces:
            self._to_ask.pop(piece.id, None)
            if not piece.is_over:
                for item in piece.way.taken(piece, piece.left):
                    self._node.unacked(item, Outcome.REFUSED, reason)

    def _unproven(self, pieces: Sequence[Piece], reason: str) -> None:
        items = []
        for piece in pieces:
            self._to_ask.pop(piece.id, None)
            if not piece.is_over:
                items += piece.way.taken(piece, piece.left)
        self._node.proving.unproven(items, reason)


def _is_new(since: float, piece: Piece) -> bool:
    return piece.sent_at >= since or not piece.seen


def _was_told(piece: Piece) -> bool:
    return bool(piece.seen)

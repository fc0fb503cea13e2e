"""What is asked of one child: what became of the pieces that it took.

Each question names pieces, and waits at the child until one of them has something new to tell. New pieces are
asked for apart from those that take long, so that none waits behind these. Rows of the delay queue are asked
for apart again, without a wait: the child may have done what they are of. While it holds most of those
they are asked for slowly.
"""

from __future__ import annotations

import asyncio
import enum
import time
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from loguru import logger

from engine.base.background import FewAtOnce
from engine.errors import EngineError
from engine.tree.link import LinkError
from engine.tree.reading import answer_of
from engine.tree.seal import SealError
from engine.tree.words import ASK, IDS_MAX, VERSION, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.nodes.node import Node
    from engine.observe.counters import Stats
    from engine.tree.link import Link
    from engine.tree.piece import Piece
    from engine.tree.place import Place
    from engine.tree.words import Report

_AT_ONCE: Final = 4  #: questions at a time about what is new
_NEW_S: Final = 0.5  #: as long as a piece is new
_NEW_WAIT_S: Final = 0.5
_OLD_WAIT_S: Final = 2.0
_LOOK_S: Final = 1.0  #: between two looks at what the child holds
_HELD_PAUSE_S: Final = 0.5  #: between two questions about rows of which most are held

_DULL_FREE: Final = 3  #: reports in turn that settle nothing: a task begins, is at work, waits
_DULL_S: Final = 0.05  #: after the next one, twice that each time
_DULL_MAX_S: Final = 0.2  #: a task that is over is told of so much later, at the most
_DOUBLED_MAX: Final = 10

_encode = msgspec.json.encode


class Turn(enum.Enum):
    """Pieces that are asked for together."""

    NEW = enum.auto()  #: handed down just now, or not told of yet
    LATE = enum.auto()  #: of rows, not told of yet
    OLD = enum.auto()  #: that take long


class Acts(Protocol):
    """Acts on what comes back; see `engine.tree.settling`."""

    def told(self, piece: Piece, report: Report) -> None:
        """Act on a report."""

    def unknown(self, piece: Piece) -> None:
        """Act on a piece that the child has nothing of."""

    def refused(self, pieces: Sequence[Piece], reason: str) -> None:
        """Act on a child that refuses to answer."""

    def unproven(self, pieces: Sequence[Piece], reason: str) -> None:
        """Act on an answer that nothing shows to be the child's."""


class Questions:
    """Asks one child.

    Args:
        node: that is an engine.
        link: to it.
        place: this engine's.
        acts: told what came back.
        stats: counts questions.
    """

    def __init__(self, node: Node, link: Link, place: Place, acts: Acts, stats: Stats) -> None:
        self._node = node
        self._link = link
        self._place = place
        self._acts = acts
        self._pieces: dict[str, Piece] = {}  # by their ids
        self._lines: dict[Turn, dict[Piece, None]] = {line: {} for line in Turn}  # those not under way
        self._new = FewAtOnce(self._ask_new, _AT_ONCE)
        self._old = FewAtOnce(self._ask_old, 1)
        self._late = FewAtOnce(self._ask_late, 1)
        self._is_closed = False
        self._delayed = 0  # the child's rows, when it was asked last
        self._looked_at = 0.0
        self._stats = stats
        self.version = 0  #: of the protocol that the child speaks, as it said last; 0: it has not said yet
        self.on_first_version: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        return f"<Questions to {self._node.name} [{len(self._pieces)} pieces]>"

    def __len__(self) -> int:
        return len(self._pieces)

    def add(self, piece: Piece) -> bool:
        """Ask for a piece; False: another one with its id is asked for."""
        other = self._pieces.setdefault(piece.id, piece)
        if other is piece:
            self._line_up(piece)
        self.go_on()
        return other is piece

    def drop(self, piece: Piece) -> None:
        """Ask for a piece no more."""
        if self._pieces.get(piece.id) is piece:
            del self._pieces[piece.id]
            for line in self._lines.values():
                line.pop(piece, None)

    def _line_up(self, piece: Piece) -> None:
        """Have a piece asked for next, among those like it."""
        if not piece.is_out:
            self._lines[_line_of(piece, time.monotonic())][piece] = None

    def close(self) -> None:
        """Ask nothing more."""
        self._is_closed = True
        for work in (self._new, self._old, self._late):
            work.cancel()

    @property
    def _rests(self) -> bool:
        return self._is_closed or self._node.health.is_down

    def go_on(self) -> None:
        """Ask, if there is something to ask for."""
        if self._rests:
            return
        if self._lines[Turn.NEW]:
            self._new.wake()
        if self._lines[Turn.LATE]:
            self._late.wake()
        if self._lines[Turn.OLD] or len(self._node.postponed):
            self._old.wake()

    def note_version(self, version: int) -> None:
        """Note which version of the protocol the child speaks; a later one than this engine's is this one."""
        is_first, self.version = not self.version, max(1, min(version, VERSION))
        if is_first:
            self.on_first_version()

    async def _ask_new(self) -> None:
        """Ask for pieces that were handed down just now, until there are none."""
        while not self._rests:
            new = self._take(Turn.NEW)
            if not new:
                return
            await self._ask(new, _NEW_WAIT_S)

    async def _ask_late(self) -> None:
        """Ask for tasks of which rows are to be delivered, until there are none."""
        while not self._rests:
            late = self._take(Turn.LATE)
            if not late:
                return
            await self._ask(late, 0)
            held = sum(piece.is_over and piece.was_held for piece in late)
            if 2 * held > len(late):
                await asyncio.sleep(_HELD_PAUSE_S)

    async def _ask_old(self) -> None:
        """Ask for pieces that take long, and look whether what the child holds may have gone on."""
        while not self._rests:
            old = self._take(Turn.OLD)
            if not old and not len(self._node.postponed):
                return
            await self._ask(old, _OLD_WAIT_S if old else 0)
            if not old:
                await asyncio.sleep(_LOOK_S)

    def _take(self, line: Turn) -> list[Piece]:
        """Take as many pieces out of a line as one question may have, those first that wait longest."""
        waiting = self._lines[line]
        taken = list(islice(waiting, IDS_MAX))
        for piece in taken:
            del waiting[piece]
        return taken

    async def _ask(self, pieces: list[Piece], wait_s: float) -> None:
        for piece in pieces:
            piece.is_out = True
        try:
            began = time.monotonic()
            rest_s = await self._ask_and_tell(pieces, wait_s)
            if rest_s and time.monotonic() - began < rest_s:
                await asyncio.sleep(rest_s)
        except LinkError as exc:
            self._node.failed(str(exc), is_sick=exc.is_sick)
            await asyncio.sleep(max(0.05, self._node.health.connect_wait_s()))
        except SealError as exc:
            self._acts.unproven(pieces, str(exc))
            await asyncio.sleep(_LOOK_S)
        except EngineError as exc:
            text = str(exc)
            self._acts.refused(pieces, text if text.startswith("refused") else f"refused: {text}")
            await asyncio.sleep(_LOOK_S)
        except Exception as exc:  # noqa: BLE001 - purges must not wait for it without a word
            logger.opt(exception=exc).error("asking {} failed", self._node.name)
            self._node.failed(f"asking it failed here: {exc!r}", is_sick=True)
            await asyncio.sleep(_LOOK_S)
        finally:
            for piece in pieces:
                piece.is_out = False
                if self._pieces.get(piece.id) is piece:
                    self._line_up(piece)
            self.go_on()

    async def _ask_and_tell(self, pieces: list[Piece], wait_s: float) -> float:
        """Ask, and tell what came back; return how long to rest before the next question.

        A child that has no news keeps the question. One that tells again and again of pieces of which nothing
        is settled is asked with pauses that grow.
        """
        question = Question({piece.id: piece.seen for piece in pieces}, wait_s)
        self._stats.tree_questions += 1
        path = await self._place.path_of("")
        said = await self._link.post(ASK, _encode(question), path=path, wait_s=wait_s)
        answer = answer_of(said.body, self._node.config.url)
        self._node.health.answered()
        self.note_version(answer.version)
        by_id = {piece.id: piece for piece in pieces if not piece.is_over}
        rest_s = _LOOK_S if pieces else 0.0
        for report in answer.tasks:
            piece = by_id.get(report.id)
            if piece is not None:
                before, left = piece.seen, len(piece.left)
                self._acts.told(piece, report)
                if piece.is_over or len(piece.left) < left:
                    piece.dull_count, rest_s = 0, 0.0
                elif piece.seen != before:
                    piece.dull_count += 1
                    rest_s = min(rest_s, rest_of(piece.dull_count))
                if piece.is_over:
                    self.drop(piece)
        for name in answer.unknown:
            piece = by_id.get(name)
            if piece is not None:
                rest_s = 0.0
                self.drop(piece)
                self._acts.unknown(piece)
        self._note_delayed(answer.delayed)
        return rest_s

    def _note_delayed(self, delayed: int) -> None:
        """Look at what the child held when its delay queues have become shorter."""
        fell, self._delayed = delayed < self._delayed, delayed
        now = time.monotonic()
        if fell and len(self._node.postponed) and now - self._looked_at > _LOOK_S:
            self._looked_at = now
            self._node.keeping.look_again()


def rest_of(dull_count: int) -> float:
    """Return how long a child is not asked that has told so often of a piece, and settled nothing of it."""
    if dull_count <= _DULL_FREE:
        return 0.0
    return min(_DULL_MAX_S, _DULL_S * float(1 << min(_DOUBLED_MAX, dull_count - _DULL_FREE - 1)))


def _nothing() -> None:
    """Do nothing."""


def _line_of(piece: Piece, now: float) -> Turn:
    if not piece.seen:
        return Turn.LATE if piece.is_asked_first else Turn.NEW
    is_new = not piece.is_asked_first and now - piece.sent_at < _NEW_S
    return Turn.NEW if is_new else Turn.OLD

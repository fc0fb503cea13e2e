"""What comes back up of one child, acted on: targets that are done, failed, held, or go down once more.

Nothing counts but what a report says that the child has signed; see `questions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.nodes.holds import TRIED_AGAIN
from engine.tasks.by_region import of_task
from engine.tasks.words import Outcome, State, host_of
from engine.tree.fate import fate_of
from engine.tree.lost import Lost
from engine.tree.remarks import remark
from engine.tree.revoked import Revoked
from engine.tree.same import Same
from engine.tree.visits import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.nodes.node import Node
    from engine.nodes.queue import Item
    from engine.observe.counters import Stats
    from engine.tree.fate import Fate
    from engine.tree.piece import Piece
    from engine.tree.words import Report


class Hands(Protocol):
    """Hands pieces down; see `engine.tree.desk`."""

    def hand_again(self, piece: Piece) -> None:
        """Hand a piece down, unless nobody wants it any more."""


class Settling:
    """Acts for one node.

    Args:
        node: that is an engine.
        hands: hands down again what is not done.
        drop: has a piece asked for no more.
        stats: counts what a child has lost.
        has_second: rows of the node may be of second purges: it has parents, or a store is shared.
    """

    def __init__(
        self, node: Node, hands: Hands, drop: Callable[[Piece], None], stats: Stats, *, has_second: bool
    ) -> None:
        self._node = node
        self._hands = hands
        self._drop = drop
        self._has_second = has_second
        self._lost = Lost(node.name, stats, hands.hand_again)
        self._revoked = Revoked()
        self._same = Same()

    def __repr__(self) -> str:
        return f"<Settling of {self._node.name} [{self._same!r}, {self._revoked!r}]>"

    def unknown(self, piece: Piece) -> None:
        """The child has no such task: hand it down, or once more, if it has forgotten it since."""
        if piece.is_cancelled:
            piece.way.given_up(piece, piece.left)
            return
        if piece.is_last:
            self.fail(piece)
            return
        piece.seen = ""
        if piece.was_taken:
            self._lost.add(piece)
            return
        if piece.is_asked_first:
            piece.send_as_part()
            self._revoked.avoid(piece)
        self._hands.hand_again(piece)

    def hand_as_part(self, piece: Piece) -> None:
        """Hand a piece down under another id: what the child has under this one is not it."""
        self._drop(piece)
        if piece.is_last:
            self.fail(piece)
            return
        piece.send_as_part()
        self._revoked.avoid(piece)
        piece.was_taken = False
        self._hands.hand_again(piece)

    def fail(self, piece: Piece) -> None:
        """Fail rows that waited too long, and that the child has not done; they know why."""
        for item in piece.way.taken(piece, piece.left):
            self._node.keeping.unreadable(item, f"{self._node.name} has not done it")

    def avoid_revoked(self, piece: Piece) -> None:
        """See `Revoked.avoid`."""
        self._revoked.avoid(piece)

    def told(self, piece: Piece, report: Report) -> None:
        """Act on a report."""
        is_other = self._same.is_other(piece, report)
        if is_other and piece.is_part:  # its id is made of what it is
            reason = f"unproven: {self._node.name} tells of task {piece.id} with another body than it took"
            self.unproven([piece], reason)
            return
        if is_other or piece.is_of_another(report.age_s):
            self.hand_as_part(piece)
            return
        fate = fate_of(piece, report, self._node.name)
        if fate.done and self._has_second and piece.is_done_before(report.acked_ago_s):
            self.hand_as_part(piece)
            return
        is_revoked = report.state == State.CANCELLED and not report.at_work and not piece.is_cancelled
        if is_revoked and self._revoked.note(piece) and piece.is_asked_first:
            self.hand_as_part(piece)
            return
        piece.seen = report.seen
        remark(piece, report)
        if report.verify is not None and (fate.done or fate.failed):
            fold(piece, report, report.verify, self._node.name)
        if fate.done:
            piece.way.settled(piece, fate.done, is_absent=fate.is_absent)
        if piece.is_cancelled:
            others = [place for place, _ in fate.failed]
            piece.way.given_up(piece, [*others, *fate.held, *fate.untold])
        else:
            self._act(piece, report, fate)

    def _act(self, piece: Piece, report: Report, fate: Fate) -> None:
        """Act on what was not done."""
        if piece.is_last:
            if fate.failed or fate.held or fate.untold or report.at_work:
                self.fail(piece)
            return
        items = piece.way.taken(piece, [place for place, _ in fate.failed])
        for item, (_, reason) in zip(items, fate.failed, strict=True):
            self._node.unacked(item, Outcome.FAILED, reason)
        if fate.untold:
            self._ask_anew(piece, fate.untold, report)
        if fate.held:
            piece.was_held = True
            self._same.note_held(piece)
            if piece.share.task.owner is not None:  # of rows, whose tasks are told
                of_task(piece.share.task, self._node.name).reason = fate.reason
            self._node.keeping.keep_below(piece.way.taken(piece, fate.held), fate.reason)

    def _ask_anew(self, piece: Piece, places: Sequence[int], report: Report) -> None:
        """Have targets done by a task of their own, of which the task that they were of does not tell."""
        name = self._node.name
        if piece.is_part:  # it is one already
            reason = f"{name}: what became of it is not told, see task {report.id} there"
            for item in piece.way.taken(piece, places):
                self._node.unacked(item, Outcome.FAILED, reason)
        elif piece.is_asked_first:
            self.hand_as_part(piece)
        else:
            self._same.forget(piece)
            reason = f"held below: {name}: task {report.id} there does not tell what became of it"
            self._node.keeping.keep_below(piece.way.taken(piece, places), reason)

    def refused(self, pieces: Sequence[Piece], reason: str) -> None:
        """Keep pieces that the child refuses: an operator must act, and is told once for each host."""
        told: set[tuple[int, str]] = set()
        others: list[Item] = []
        for piece in pieces:
            self._drop(piece)
            for item in [] if piece.is_over else piece.way.taken(piece, piece.left):
                share, index, _ = item
                pair = (int(share.operation), host_of(share.task.targets[index]))
                if pair in told:
                    others.append(item)
                else:
                    told.add(pair)
                    self._node.unacked(item, Outcome.REFUSED, reason)
        if others:
            self._node.keeping.keep_below(others, f"{reason}; {TRIED_AGAIN}")

    def unproven(self, pieces: Sequence[Piece], reason: str) -> None:
        """Keep pieces of which nothing shows what became of them."""
        items = []
        for piece in pieces:
            self._drop(piece)
            if not piece.is_over:
                items += piece.way.taken(piece, piece.left)
        self._node.proving.unproven(items, reason)

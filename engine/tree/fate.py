"""What a report means for the targets of a piece. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.api.below import one_line
from engine.tasks.words import FINAL_STATES, State
from engine.tree.words import flags_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.tree.piece import Piece
    from engine.tree.words import Report


class Fate(NamedTuple):
    """Places of a piece, by what became of them; those of none of these are on their way."""

    done: Sequence[int] = ()
    is_absent: bool = False  #: no leaf had anything of the done ones
    failed: Sequence[tuple[int, str]] = ()  #: and why
    held: Sequence[int] = ()
    reason: str = ""  #: why they are
    untold: Sequence[int] = ()  #: their task is over, and nothing tells what became of them


def fate_of(piece: Piece, report: Report, node: str) -> Fate:
    """Return what became of the targets of *piece* that are left.

    A task that was cancelled in the child itself, and by no client of this engine, has failed nothing: what
    it did not do is still wanted.

    Args:
        piece: that was asked for.
        report: of it.
        node: the child's name here; leaves are called ``eu/edge-7``.

    Raises:
        ValueError: its bits are none.
    """
    left = piece.left
    is_absent = report.acked > 0 and report.absent >= report.acked
    is_same = piece.is_asked_first or report.targets == piece.count
    is_all_acked = is_same and report.acked == report.total > 0
    is_asked = report.verify is not None and piece.share.task.verify is not None
    if is_asked and is_all_acked and report.state not in FINAL_STATES:
        return Fate()  # it is looked at
    if is_all_acked and report.state == State.FAILED and piece.is_asked_first:
        return Fate(failed=[(place, _stale(piece, place, report, node)) for place in left])
    if is_all_acked or (is_same and report.state == State.DONE):
        return Fate(done=left, is_absent=is_absent)
    done, lost = _done_and_lost(piece, report)
    acked = [place for place in left if done[place]]
    if report.at_work:
        return Fate(done=acked)
    rest = [place for place in left if not done[place]]
    if report.state == State.CANCELLED:
        reason = f"held below: {node}: task {report.id} was cancelled there; it is handed down once more"
        return Fate(acked, is_absent, held=rest, reason=reason)
    failed = [place for place in rest if lost[place]]
    others = [place for place in rest if not lost[place]]
    reasons = {error.get("target", ""): _reason(error, node) for error in report.errors}
    why = f"{node}: it failed on a leaf, see task {report.id} there"
    told = [(place, reasons.get(piece.target_at(place), why)) for place in failed]
    if not report.delayed:
        return Fate(acked, is_absent, told, untold=others)
    reason = next(iter(reasons.values()), f"{node} waits for a leaf")
    return Fate(acked, is_absent, told, others, f"held below: {reason}")


def _done_and_lost(piece: Piece, report: Report) -> tuple[Sequence[int], Sequence[int]]:
    """Return for each place whether all leaves acked it, and whether it is lost, as far as bits tell it.

    Errors tell neither: they may be of an attempt that was not the last one, and are not all that happened.
    """
    count = piece.count
    if piece.is_asked_first or report.targets != count:  # its places are its own
        return bytearray(count), bytearray(count)
    return flags_of(report.done, count), flags_of(report.lost, count)


def _stale(piece: Piece, place: int, report: Report, node: str) -> str:
    """Return why a target failed that all leaves acked: visitors still got what it purged."""
    target = piece.target_at(place)
    told = next((error for error in report.errors if error.get("target") == target), None)
    return _reason(told, node) if told is not None else f"{node}: stale on a leaf, see the task there"


def _reason(error: dict[str, str], node: str) -> str:
    leaf, reason = one_line(error.get("node", "")), one_line(error.get("reason", ""))
    if leaf and reason.startswith((f"held below: {leaf}/", f"held below: {leaf}: ")):  # an engine below it
        return f"{node}/{reason.removeprefix('held below: ')}"
    return f"{node}/{leaf}: {reason}" if leaf else f"{node}: {reason}"

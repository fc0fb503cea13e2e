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


def fate_of(piece: Piece, report: Report, node: str) -> Fate:
    """Return what became of the targets of *piece* that are left.

    Args:
        piece: that was asked for.
        report: of it.
        node: the child's name here; leaves are called ``eu/edge-7``.

    Raises:
        ValueError: the report is of other targets.
    """
    left = piece.left
    is_absent = report.acked > 0 and report.absent >= report.acked
    is_all_acked = report.acked == report.total > 0
    is_asked = report.verify is not None and piece.share.task.verify is not None
    if is_asked and is_all_acked and report.state not in FINAL_STATES:
        return Fate()  # it is looked at
    if is_all_acked and report.state == State.FAILED and piece.is_asked_first:
        return Fate(failed=[(place, _stale(piece, place, report, node)) for place in left])
    if report.state == State.DONE or is_all_acked:
        return Fate(done=left, is_absent=is_absent)
    done, lost = _done_and_lost(piece, report)
    if report.at_work:
        return Fate(done=[place for place in left if done[place]], is_absent=False)
    failed: list[tuple[int, str]] = []
    held: list[int] = []
    reasons = {error.get("target", ""): _reason(error, node) for error in report.errors}
    is_held = report.delayed > 0 and report.state != State.CANCELLED
    for place in left:
        if done[place]:
            continue
        if lost[place] or not is_held:
            failed.append((place, reasons.get(piece.target_at(place)) or _why(report, node)))
        else:
            held.append(place)
    reason = next(iter(reasons.values()), f"{node} waits for a leaf")
    return Fate([place for place in left if done[place]], is_absent, failed, held, f"held below: {reason}")


def _done_and_lost(piece: Piece, report: Report) -> tuple[Sequence[int], Sequence[int]]:
    """Return for each place whether all leaves acked it, and whether it is lost."""
    count = piece.count
    if report.targets == count and not piece.is_asked_first and (report.done or report.lost):
        return flags_of(report.done, count), flags_of(report.lost, count)
    done, lost = bytearray(count), bytearray(count)
    if report.at_work or report.delayed:
        return done, lost
    failed = {error.get("target", "") for error in report.errors}
    is_all_told = len(report.errors) >= report.failed + report.cancelled
    for place in piece.left:
        is_lost = piece.target_at(place) in failed or not is_all_told
        (lost if is_lost else done)[place] = 1
    return done, lost


def _stale(piece: Piece, place: int, report: Report, node: str) -> str:
    """Return why a target failed that all leaves acked: visitors still got what it purged."""
    target = piece.target_at(place)
    told = next((error for error in report.errors if error.get("target") == target), None)
    return _reason(told, node) if told is not None else f"{node}: stale on a leaf, see the task there"


def _reason(error: dict[str, str], node: str) -> str:
    leaf, reason = one_line(error.get("node", "")), one_line(error.get("reason", ""))
    if leaf and reason.startswith(f"held below: {leaf}/"):  # of an engine below the child
        return f"{node}/{reason.removeprefix('held below: ')}"
    return f"{node}/{leaf}: {reason}" if leaf else f"{node}: {reason}"


def _why(report: Report, node: str) -> str:
    if report.state == State.CANCELLED:
        return f"{node}: it was cancelled there"
    return f"{node}: it failed on a leaf, and {len(report.errors)} errors are all that is told of the task"

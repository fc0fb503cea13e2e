"""The conclusions of nodes, and which of them is that of the whole. Pure.

It is the first in `ORDER`: what an edge got from a stale parent comes before the reason why the parent is
stale, which its sentence names too. A node of which nothing is known (`Told.is_open`) comes behind all of
which something is known to be wrong, so that it hides none of them.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Conclusion(StrEnum):
    """Why a visitor gets what he gets."""

    FRESH = "fresh"
    NEVER_PURGED = "never_purged"
    PENDING = "pending"
    DELAYED = "delayed"
    FAILED = "failed"
    REFUSED = "refused"
    UNPROVEN = "unproven"
    STALE_AFTER_PURGE = "stale_after_purge"
    REFILLED_FROM_STALE_PARENT = "refilled_from_stale_parent"
    VARIANT = "variant"
    NOT_CACHED = "not_cached"
    UNREACHABLE = "unreachable"


_C: Final = Conclusion
ORDER: Final = (
    *(_C.REFILLED_FROM_STALE_PARENT, _C.REFUSED, _C.UNPROVEN, _C.FAILED, _C.DELAYED, _C.PENDING),
    *(_C.STALE_AFTER_PURGE, _C.VARIANT, _C.NEVER_PURGED, _C.UNREACHABLE, _C.FRESH, _C.NOT_CACHED),
)
DONE: Final = "nothing is to be done"


class Told(NamedTuple):
    """The conclusion of one node, or of all, and its sentence."""

    conclusion: Conclusion
    sentence: str
    cause: str = ""  #: the part of the sentence that says why its visitors get what they get
    step: str = ""  #: the end of the sentence: the next command
    is_open: bool = False  #: no comparison tells: its content may be new, or not


def told_of(conclusion: Conclusion, what: str, cause: str, step: str, *, is_open: bool = False) -> Told:
    """Return a conclusion whose sentence has what was seen, why, and the next command."""
    return Told(conclusion, f"{what}: {cause}; {step}", cause, step, is_open)


def whole_of(told: Sequence[Told]) -> Told:
    """Return the conclusion of the whole; *told*: those of all nodes."""
    if not told:
        return Told(_C.NOT_CACHED, f"no node could have a copy of the page, as none is configured: {DONE}")
    first = min(told, key=_rank)
    return _all_fresh(told) if first.conclusion is _C.FRESH else first


def utc(moment: float) -> str:
    """Return a UNIX time as sentences have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _rank(told: Told) -> float:
    if told.conclusion is _C.UNPROVEN and told.is_open:
        return ORDER.index(_C.FRESH) - 0.5
    return ORDER.index(told.conclusion)


def _all_fresh(told: Sequence[Told]) -> Told:
    """Return the conclusion where all that have a copy are fresh: beside the origin, or by Age alone."""
    fresh = [one for one in told if one.conclusion is _C.FRESH]
    by_age = [one for one in fresh if one.is_open]
    count, seen = len(fresh), f"as seen at {utc(time.time())}"
    who = f"every node that has a copy ({count} of {len(told)})" if count < len(told) else "every node"
    if not by_age:
        return Told(_C.FRESH, f"{who} serves what the origin has, {seen}: {DONE}")
    what = "what it stored after its purge, by its Age"
    if len(by_age) < count:
        what = f"what the origin has, or ({len(by_age)} of them) {what}"
    return told_of(_C.FRESH, f"{who} serves {what}, {seen}", by_age[0].cause, by_age[0].step)

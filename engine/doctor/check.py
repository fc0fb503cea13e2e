"""What a check comes to."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

SALT: Final = "./inv salt --states engine."  #: and the state's name: how a host is brought into that state


class Verdict(enum.StrEnum):
    """Of a check."""

    OK = "ok"
    WARN = "warn"  #: works now; what comes, or a fault elsewhere, may end that
    FAIL = "fail"  #: purges are slow, refused or lost, or are about to be
    UNKNOWN = "not known"  #: could not be looked at


_ORDER: Final = (Verdict.OK, Verdict.UNKNOWN, Verdict.WARN, Verdict.FAIL)


class Check(NamedTuple):
    """One row of the report."""

    name: str
    verdict: Verdict
    value: str = ""
    limit: str = ""
    reason: str = ""  #: a sentence; empty where the value says it all
    remedy: str = ""  #: the command, Salt state or setting that mends it


def unknown(name: str, reason: str, *, limit: str = "", remedy: str = "") -> Check:
    """Return a check of what could not be looked at."""
    return Check(name, Verdict.UNKNOWN, "", limit, reason, remedy)


def by_share(used: float, limit: float, *, warn: float, fail: float) -> Verdict:
    """Return a verdict by how full something is; *warn* and *fail* are parts of *limit*."""
    if used >= fail * limit:
        return Verdict.FAIL
    return Verdict.WARN if used >= warn * limit else Verdict.OK


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst verdict; ok when there is none."""
    return max(verdicts, key=_ORDER.index, default=Verdict.OK)

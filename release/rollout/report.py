"""How a run ended, for one host and altogether."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from release.rollout.plan import HostPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from release.hosts.remote import Outcome


class Verdict(enum.StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"  #: and taken back, as far as it went
    PARTLY = "partly"  #: within the failure limit: the others are done
    INTERRUPTED = "interrupted"


class Fate(enum.StrEnum):
    """How a run ended for one host."""

    WAITING = "not begun"
    BEGUN = "begun"  #: interrupted before it was changed
    DONE = "done"
    ALREADY = "already there"
    FAILED = "failed"  #: on its old version
    BACK = "rolled back"
    STUCK = "not rolled back"  #: the way back failed too, or there is none
    UNKNOWN = "unknown"  #: it cannot be asked


@dataclass(slots=True)
class HostRun:
    """What was done on one host, and how that ended."""

    plan: HostPlan
    batch: int
    fate: Fate = Fate.WAITING
    steps: list[str] = field(default_factory=list)  #: that succeeded
    is_changed: bool = False  #: serves the new version, as far as is known
    reason: str = ""
    log: list[str] = field(default_factory=list)
    duration_s: float = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether the host gets no more steps."""
        return self.fate in {Fate.FAILED, Fate.BACK, Fate.STUCK, Fate.UNKNOWN}


@dataclass(slots=True)
class Report:
    """What a run did."""

    verdict: Verdict
    reason: str  #: why it is not done; empty when it is
    hosts: list[HostRun]
    duration_s: float


def add_left_out(report: Report, left_out: Sequence[Outcome]) -> Report:
    """Return the report with hosts that were meant but are not in the plan, as failed."""
    if not left_out:
        return report
    hosts = list(report.hosts)
    for outcome in left_out:
        plan = HostPlan(host=outcome.host, was="", to="", steps=[])
        fate = Fate.FAILED if outcome.is_answered else Fate.UNKNOWN
        hosts.append(HostRun(plan=plan, batch=0, fate=fate, reason=outcome.reason, log=outcome.log))
    names = ", ".join(outcome.host for outcome in left_out)
    verdict = Verdict.PARTLY if report.verdict is Verdict.DONE else report.verdict
    reason = "; ".join(filter(None, [report.reason, f"left out: {names}"]))
    return Report(verdict, reason, hosts, report.duration_s)

"""Carries a `release.rollout.plan.Plan` out, batch by batch, and takes it back when it goes wrong.

The caller hands in what a step does (`Steps`); when to go on, stop or turn back is decided here:

- A host that fails a step gets no more steps. In the first batch with work (the canary, when there are more)
  no host may fail; later ones may have ``failures_max`` failures altogether.
- A host with a shadow (`SHADOW`) is the gate of all: where it does not pass, nothing is reloaded on any host,
  however many may fail.
- After each batch all hosts changed so far are watched, so a release that goes bad after a minute is noticed.
- Past the limit, every host that was changed goes back, the last batch first. A host that fails within the
  limit goes back by itself. One that cannot be reached is tried all the same, and is reported as unknown if
  it stays away.
- `stop` is asked before each step. An interrupted run leaves everything as it is, to be resumed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from release.rollout.plan import RELOAD, SALT, SHADOW, UNPACK, WATCH
from release.rollout.report import Fate, HostRun, Report, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from release.hosts.remote import Outcome
    from release.rollout.plan import HostPlan, Plan


class Steps(Protocol):
    """Does steps on hosts; returns an outcome for each host and raises for none."""

    def run(self, step: str, hosts: Sequence[HostPlan]) -> dict[str, Outcome]:
        """Do one step: ``salt``, ``unpack``, ``shadow``, ``reload`` or ``watch``."""

    def take_back(self, hosts: Sequence[HostPlan]) -> dict[str, Outcome]:
        """Bring hosts back to the versions that they were on."""


class Rollout:
    """One run of *plan*.

    Args:
        plan: what to do.
        steps: does it.
        stop: gives a reason to stop, or an empty text; asked before each step.
    """

    def __init__(self, plan: Plan, steps: Steps, *, stop: Callable[[], str] = str) -> None:
        self._plan = plan
        self._steps = steps
        self._stop = stop
        self._batches = [
            [HostRun(plan=host, batch=number) for host in batch]
            for number, batch in enumerate(plan.batches, start=1)
        ]
        self.hosts = [host for batch in self._batches for host in batch]

    def run(self) -> Report:
        """Do the steps of all batches, take back what has to be, and return the report."""
        began = time.monotonic()
        for host in self.hosts:
            if not host.plan.steps:
                host.fate, host.reason = Fate.ALREADY, host.plan.note
        verdict, reason = self._run_batches()
        if verdict is Verdict.FAILED:
            self._take_back([host for host in self.hosts if host.is_changed])
        return Report(verdict, reason, self.hosts, time.monotonic() - began)

    def _run_batches(self) -> tuple[Verdict, str]:
        is_canary = len(self._plan.batches) > 1
        for batch in self._batches:
            work = [host for host in batch if host.plan.steps]
            if not work:
                continue
            if reason := self._run_batch(work):
                return Verdict.INTERRUPTED, reason
            if stopped := _not_passed(work):
                return Verdict.FAILED, stopped
            failed = [host for host in self.hosts if host.has_failed]
            allowed = 0 if is_canary else self._plan.failures_max
            if len(failed) > allowed:
                return Verdict.FAILED, _why_failed(failed, allowed, is_canary=is_canary)
            is_canary = False
            # Within the limit a bad host goes back alone.
            self._take_back([host for host in failed if host.is_changed])
        failed = [host for host in self.hosts if host.has_failed]
        if failed:
            return Verdict.PARTLY, _why_failed(failed, self._plan.failures_max, is_canary=False)
        return Verdict.DONE, ""

    def _run_batch(self, work: Sequence[HostRun]) -> str:
        """Do all steps of a batch; return why it was interrupted, if it was."""
        for step in (SALT, UNPACK, SHADOW, RELOAD):
            if step == RELOAD and _not_passed(work):
                return ""
            hosts = [host for host in work if step in host.plan.steps and not host.has_failed]
            if not hosts:
                continue
            if reason := self._stop():
                return reason
            self._do(step, hosts)
        changed = [host for host in self.hosts if host.is_changed and not host.has_failed]
        if changed:
            self._do(WATCH, changed)
        return ""

    def _do(self, step: str, hosts: Sequence[HostRun]) -> None:
        for host in hosts:
            host.fate = Fate.BEGUN if host.fate is Fate.WAITING else host.fate
        outcomes = self._steps.run(step, [host.plan for host in hosts])
        for host in hosts:
            outcome = outcomes[host.plan.host]
            host.duration_s += outcome.duration_s
            if outcome.ok:
                host.steps += [] if step in host.steps else [step]
                host.is_changed |= step == RELOAD
                host.fate = Fate.DONE if step in {RELOAD, WATCH} else host.fate
                continue
            host.reason, host.log = f"{step}: {outcome.reason}", outcome.log
            host.fate = Fate.FAILED if outcome.is_answered else Fate.UNKNOWN
            # A reload that nobody answered may have happened all the same.
            is_done = outcome.answer.get("ok") is True  # by the host, and a hook failed after it
            host.is_changed |= step == RELOAD and (is_done or not outcome.is_answered)

    def _take_back(self, hosts: Sequence[HostRun]) -> None:
        """Bring changed hosts back, the last batch first."""
        for number in sorted({host.batch for host in hosts}, reverse=True):
            batch = [host for host in reversed(hosts) if host.batch == number]
            outcomes = self._steps.take_back([host.plan for host in batch])
            for host in batch:
                outcome = outcomes[host.plan.host]
                host.duration_s += outcome.duration_s
                if outcome.ok:
                    host.fate, host.is_changed = Fate.BACK, False
                else:
                    host.fate = Fate.STUCK if outcome.is_answered else Fate.UNKNOWN
                    host.reason = "; ".join(filter(None, [host.reason, f"way back: {outcome.reason}"]))
                    host.log = host.log or outcome.log


def _not_passed(work: Sequence[HostRun]) -> str:
    """Say which host was to be the gate of all, and did not pass."""
    stopped = [host.plan.host for host in work if SHADOW in host.plan.steps and SHADOW not in host.steps]
    return f"{stopped[0]} failed, where the versions are compared; no engine was changed" if stopped else ""


def _why_failed(failed: Sequence[HostRun], allowed: int, *, is_canary: bool) -> str:
    names = ", ".join(host.plan.host for host in failed)
    if is_canary:
        return f"the canary failed: {names}"
    limit = f", {allowed} may" if allowed else ""
    return f"{len(failed)} {'host' if len(failed) == 1 else 'hosts'} failed{limit}: {names}"

"""Runs a plan on hosts: lock, hooks, batches, tidying up, histories, exit code.

This machine's history gets a line when the run begins and one when it ends; what each host did is in the
host's own. A run that is interrupted once gives its lock back; one that is stopped at once
or killed leaves it, and the next run on this machine takes it over.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from release.calling import call
from release.errors import ReleaseError
from release.hosts import journal
from release.hosts.lock import HostsLock, take_over
from release.hosts.target import journal_of
from release.rollout import exits
from release.rollout.batches import Rollout
from release.rollout.hooks import HookError, Hooks
from release.rollout.interrupts import Interrupts
from release.rollout.plan import SALT
from release.rollout.report import Fate, Report, Verdict, add_left_out
from release.rollout.steps import Cargo, HostSteps
from release.states.step import salt_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from release.hosts.journal import Journal
    from release.hosts.remote import Fleet, Outcome
    from release.rollout.display import Display
    from release.rollout.plan import Plan
    from release.settings import Settings


class Runner:
    """Runs one plan.

    Args:
        fleet: the hosts.
        settings: of the run.
        display: shows it.
        plan: what to do.
        cargo: what is unpacked.
        listen: see `release.rollout.steps.HostSteps`.
    """

    def __init__(
        self,
        fleet: Fleet,
        settings: Settings,
        display: Display,
        *,
        plan: Plan,
        cargo: Cargo | None = None,
        listen: str = "",
    ) -> None:
        self._fleet = fleet
        self._settings = settings
        self._display = display
        self._plan = plan
        self._names = [host.host for host in plan.hosts]
        self._run = journal.new_run(plan.action, version=plan.version, root=fleet.root, hosts=self._names)
        self._hooks = Hooks(settings.hooks, self._run, timeout_s=settings.step_timeout_s)
        self._journal = journal_of(settings)
        cargo = cargo or Cargo()
        salt = None
        if any(SALT in host.steps for host in plan.hosts):
            artefact = next(iter(cargo.files.values()))
            salt = salt_step(fleet.hosts, plan.version, artefact, settings, token=self._run.token)
        steps = HostSteps(
            fleet,
            self._run,
            settings,
            cargo=cargo,
            hooks=self._hooks,
            display=display,
            listen=listen,
            salt=salt,
        )
        self._lock = HostsLock(fleet, self._run, self._names, ttl_s=settings.lock_ttl_s, say=display.say)
        self._interrupts = Interrupts(display.say)
        self._rollout = Rollout(plan, steps, stop=self._why_stop)

    def run(self, left_out: Sequence[Outcome] = ()) -> int:
        """Run the plan, show the report, return the exit code.

        Args:
            left_out: hosts that are not in the plan although they were meant; they count as failed.

        Raises:
            LockedError: somebody else is at work; nothing was changed.
            ReleaseError: this machine cannot write down what it does; nothing was changed.
        """
        explain_past(self._journal, self._fleet, self._display)
        began = time.monotonic()
        with self._interrupts:
            take_over(self._fleet, self._journal, self._names, self._display.say)
            self._journal.begin(self._run)
            try:
                with self._lock:
                    self._write(phase="begin")
                    report = self._roll()
            except KeyboardInterrupt:  # the lock stays, and so does the note of this run
                report = Report(
                    Verdict.INTERRUPTED, "stopped at once", self._rollout.hosts, time.monotonic() - began
                )
            except ReleaseError:
                self._journal.end(self._run.deploy_id)
                raise
            else:
                if not self._lock.still_locked:  # else the next run needs the token
                    self._journal.end(self._run.deploy_id)
            return self._finish(add_left_out(report, left_out))

    def _roll(self) -> Report:
        """Run the rollout with the hooks around it; hosts are tidied up when they are unlocked."""
        action = self._plan.action
        is_hooked = action in {"deploy", "rollback"}  # the others are one step, with hooks of its own
        try:
            if is_hooked:
                self._hooks.call(f"pre-{action}", self._names)
        except HookError as exc:
            return Report(Verdict.FAILED, str(exc), self._rollout.hosts, 0.0)
        with self._display.working():
            report = self._rollout.run()
        if report.verdict is not Verdict.DONE:
            return report
        if action == "deploy":
            request = {"keep": self._settings.keep_count, "automatic": True}
            self._lock.last = ("prune", {**request, "who": self._run.who, "deploy_id": self._run.deploy_id})
        try:
            if is_hooked:
                self._hooks.call(f"post-{action}", self._names)
        except HookError as exc:  # it is there, and somebody has to look at it
            return Report(Verdict.PARTLY, str(exc), report.hosts, report.duration_s)
        return report

    def _why_stop(self) -> str:
        if self._lock.lost:
            return f"the lock is somebody else's now: {self._lock.lost}"
        return f"by {self._interrupts.asked}" if self._interrupts.asked else ""

    def _finish(self, report: Report) -> int:
        self._write(
            phase="end",
            verdict=str(report.verdict),
            ok=report.verdict is Verdict.DONE,
            error=report.reason,
            duration_s=round(report.duration_s, 3),
            fates={host.plan.host: str(host.fate) for host in report.hosts},
        )
        self._display.report(report, action=self._plan.action, deploy_id=self._run.deploy_id)
        if report.verdict is Verdict.INTERRUPTED:
            self._display.say(
                f"nothing is taken back; the same command goes on, {call('rollback')} goes back"
            )
            return exits.LOCKED if self._lock.lost else exits.INTERRUPTED
        return exits.DONE if report.verdict is Verdict.DONE else exits.FAILED

    def _write(self, **entry: Any) -> None:
        run = self._run
        about = {
            "deploy_id": run.deploy_id,
            "who": run.who,
            "action": run.action,
            "version": run.version,
            "root": run.root,
            "hosts": run.hosts,
        }
        with contextlib.ExitStack() as stack:
            if entry.get("phase") == "end":  # the hosts' histories have it too, and the result must be shown
                stack.enter_context(contextlib.suppress(ReleaseError))
            self._journal.append(**about, **entry)


def explain_past(memory: Journal, fleet: Fleet, display: Display) -> None:
    """Say whether the last run of this machine on these hosts was cut short, and which hosts were done."""
    hosts = set(fleet.names)
    runs = [
        entry
        for entry in memory.read()
        if entry.get("root") == fleet.root and hosts & set(entry.get("hosts") or [])
    ]
    last: dict[str, Any] = runs[-1] if runs else {}
    if last.get("phase") != "end" or last.get("verdict") != Verdict.INTERRUPTED:
        return  # one that was killed is told of when its lock is taken over
    fates: dict[str, str] = last.get("fates") or {}
    done = [name for name, fate in fates.items() if fate in {Fate.DONE, Fate.ALREADY}]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(last.get("at") or 0)))
    display.say(
        f"{last.get('action')} {last.get('version')} ({last.get('deploy_id')}, by {last.get('who')}) was "
        f"interrupted at {when}; done by then: {', '.join(done) or 'no host'}"
    )

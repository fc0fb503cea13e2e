"""Moves between releases that are unpacked: rollback and reload. They need no repository.

On a rollback every host goes back to the version before, as its own history knows it, or to a given one. A
host that cannot be reached, or has nothing to go back to, does not keep the others where they are; it counts
as failed. A reload needs every host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from release.build.version import normal
from release.calling import call
from release.hosts.target import apply, open_fleet
from release.rollout import exits, gates
from release.rollout.plan import move_plan, parse_batches
from release.rollout.review import confirm, show_plan
from release.rollout.runner import Runner

if TYPE_CHECKING:
    from release.hosts.remote import Fleet, Outcome
    from release.hosts.target import Wanted
    from release.rollout.display import Display
    from release.rollout.plan import HostState
    from release.settings import Settings

BATCHES: Final = "100%"  #: the way back is taken by all at once


def rollback(wanted: Wanted, settings: Settings, display: Display) -> int:
    """Bring hosts back; return the exit code.

    Raises:
        ReleaseError: something was wrong before anything was changed; see `release.rollout.exits.code_of`.
    """
    settings = apply(wanted, settings)
    batches = wanted.batches or BATCHES
    parse_batches(batches)
    with open_fleet(wanted, settings, display.event) as fleet:
        states, failed = gates.ask(fleet)
        gates.check_locks(fleet, states, settings)
        for line in gates.by_sudo(states):
            display.say(line)
        targets, refused = _targets(fleet, states, wanted.release, display) if states else ({}, [])
        left_out = [*failed, *refused]
        reasons = [f"{outcome.host}: {outcome.reason}" for outcome in left_out]
        if not targets:
            gates.refuse(reasons)
        plan = move_plan(
            "rollback", fleet.hosts, states, targets, batches=batches, failures_max=len(fleet.hosts)
        )
        if wanted.is_dry:
            return show_plan(plan, reasons, display)
        if not confirm(wanted, plan, display):
            return exits.USAGE
        return Runner(fleet, settings, display, plan=plan, listen=wanted.listen).run(left_out)


def reload(wanted: Wanted, settings: Settings, display: Display) -> int:
    """Reload hosts to an unpacked version, or to the one they are on, for their configuration.

    Returns:
        The exit code.

    Raises:
        ReleaseError: something was wrong before anything was changed; see `release.rollout.exits.code_of`.
    """
    settings = apply(wanted, settings)
    parse_batches(settings.batches)
    with open_fleet(wanted, settings, display.event) as fleet:
        states, failed = gates.ask(fleet)
        gates.need_all(failed)
        gates.check_locks(fleet, states, settings)
        for line in gates.by_sudo(states) + gates.other_workers(states, wanted, settings):
            display.say(line)
        version = normal(wanted.release, "--release") if wanted.release else ""
        targets = {name: version or state.running or state.current for name, state in states.items()}
        reasons = gates.check(states, {}, min_free_bytes=0) + gates.check_options(states, wanted, settings)
        for name, state in states.items():
            if targets[name] not in state.releases:
                known = ", ".join(state.releases) or "none"
                what = targets[name] or "no version"
                reasons.append(f"{name}: {what} is not unpacked there, {known} is; see {call('unpack')}")
        _tell_yanked(states, targets, display)
        plan = move_plan(
            "reload",
            fleet.hosts,
            states,
            targets,
            batches=settings.batches,
            failures_max=settings.failures_max,
        )
        if wanted.is_dry:
            return show_plan(plan, reasons, display)
        gates.refuse(reasons)
        if not confirm(wanted, plan, display):
            return exits.USAGE
        return Runner(fleet, settings, display, plan=plan, listen=wanted.listen).run()


def _targets(
    fleet: Fleet, states: dict[str, HostState], to: str, display: Display
) -> tuple[dict[str, str], list[Outcome]]:
    """Return which host goes back to which version, and the outcomes of those that cannot."""
    if to:
        version = normal(to, "--to")
        outcomes = fleet.run("verify", {"version": version}, hosts=states)
        targets = {name: version for name, outcome in outcomes.items() if outcome.ok}
    else:
        outcomes = fleet.run("previous", hosts=states, timeout_s=gates.FACTS_TIMEOUT_S)
        targets = {
            name: str(outcome.answer.get("version")) for name, outcome in outcomes.items() if outcome.ok
        }
    for name, outcome in outcomes.items():
        for text in outcome.answer.get("passed") or []:
            display.say(f"{name}: {text}; it is passed over")
    _tell_yanked(states, targets, display)
    return targets, [outcome for outcome in outcomes.values() if not outcome.ok]


def _tell_yanked(states: dict[str, HostState], targets: dict[str, str], display: Display) -> None:
    for name, version in targets.items():
        if why := states[name].yanked.get(version):
            display.say(f"{name}: {version} was yanked: {why}; take another version soon")

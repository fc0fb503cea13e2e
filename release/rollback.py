"""A rollback: every host goes back to the version before, as its own history knows it, or to a given one.

It needs no repository: what it goes back to is unpacked on the hosts. A host that cannot be reached, or that
has nothing to go back to, does not keep the others where they are; it counts as failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from release import exits, gates
from release import plan as plans
from release.conduct import Conductor
from release.deploy import confirm, show_plan
from release.target import apply, open_fleet
from release.version import normal

if TYPE_CHECKING:
    from release.plan import HostState
    from release.remote import Fleet, Outcome
    from release.screen import Screen
    from release.settings import Settings
    from release.target import Wanted

BATCHES: Final = "100%"  #: the way back is taken by all at once


def rollback(wanted: Wanted, settings: Settings, screen: Screen) -> int:
    """Bring hosts back; return the exit code.

    Raises:
        ReleaseError: something was wrong before anything was changed; see `release.exits.code_of`.
    """
    settings = apply(wanted, settings)
    batches = wanted.batches or BATCHES
    plans.parse_batches(batches)
    with open_fleet(wanted, settings, screen) as fleet:
        states, failed = gates.ask(fleet)
        targets, refused = _targets(fleet, states, wanted.release) if states else ({}, [])
        left_out = [*failed, *refused]
        reasons = [f"{outcome.host}: {outcome.reason}" for outcome in left_out]
        if not targets:
            gates.refuse(reasons)
        plan = plans.rollback_plan(
            fleet.hosts, states, targets, batches=batches, failures_max=len(fleet.hosts)
        )
        if wanted.is_dry:
            return show_plan(plan, reasons, screen)
        if not confirm(wanted, plan, screen):
            return exits.USAGE
        conductor = Conductor(fleet, settings, screen, plan=plan, listen=wanted.listen)
        return conductor.carry_out(left_out)


def _targets(fleet: Fleet, states: dict[str, HostState], to: str) -> tuple[dict[str, str], list[Outcome]]:
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
    return targets, [outcome for outcome in outcomes.values() if not outcome.ok]

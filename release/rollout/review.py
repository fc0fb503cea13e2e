"""The last look before anything is changed: the plan, the reasons against it, and the question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from release.rollout import exits
from release.rollout.plan import plan_document, plan_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from release.hosts.target import Wanted
    from release.rollout.display import Display
    from release.rollout.plan import Plan


def show_plan(plan: Plan, reasons: Sequence[str], display: Display) -> int:
    """Print the plan and what stands against it; return the exit code."""
    if display.is_json:
        display.result(plan_document(plan) | {"refused": reasons})
    else:
        display.lines(plan_lines(plan))
        display.lines([f"  refused: {reason}" for reason in reasons], is_bad=True)
    return exits.GATE if reasons else exits.DONE


def confirm(wanted: Wanted, plan: Plan, display: Display) -> bool:
    """Ask whoever sits at a terminal; a script, ``--yes`` and this machine are not asked."""
    if wanted.is_sure or wanted.is_local or not display.can_ask:
        return True
    for line in plan_lines(plan):
        display.say(line)
    if display.ask("go on?"):
        return True
    display.say("nothing was changed")
    return False

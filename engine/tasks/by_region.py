"""What a task knows of what is below its nodes, where these are engines. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.tasks.lower import Lower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.tasks.plan import Note, Skipped
    from engine.tasks.task import Task


def of_task(task: Task, node: str) -> Lower:
    """Return what a task knows of a node, which is kept with it from then on."""
    if task.lower is None:
        task.lower = {}
    lower = task.lower.get(node)
    if lower is None:
        lower = task.lower[node] = Lower()
    return lower


def nodes_of(task: Task, node: str) -> Sequence[str]:
    """Return which nodes of an engine a task is for; empty: all."""
    if task.plan is not None and task.plan.is_narrow:
        return next((step.below for step in task.plan.steps if step.node == node), ())
    known = None if task.lower is None else task.lower.get(node)
    return () if known is None else known.nodes


def stored_of(task: Task) -> dict[str, Lower]:
    """Return what the store keeps of a task."""
    kept = {node: msgspec.structs.replace(lower, reason="") for node, lower in (task.lower or {}).items()}
    if task.plan is not None and task.plan.is_narrow:
        for step in task.plan.steps:
            if step.below:
                kept[step.node] = msgspec.structs.replace(kept.get(step.node, Lower()), nodes=step.below)
    return kept


def skipped_of(task: Task) -> list[Skipped]:
    """Return the nodes that cannot do a task, those below its own, too."""
    own = () if task.plan is None else task.plan.skipped
    return [*own, *(one for lower in (task.lower or {}).values() for one in lower.skipped)]


def notes_of(task: Task) -> list[Note]:
    """Return what nodes do otherwise than a task asks, those below its own, too."""
    own = () if task.plan is None else task.plan.notes
    return [*own, *(one for lower in (task.lower or {}).values() for one in lower.notes)]

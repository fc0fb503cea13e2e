"""The nodes of a task, and which of them wait for which.

Plain data, made by the intake from the configuration.
"""

from __future__ import annotations

import msgspec

from engine.tasks.words import Action, Operation, operation_of


class Step(msgspec.Struct, frozen=True):
    """One node of a plan."""

    node: str  #: its name
    layer: str
    operations: frozenset[Operation]  #: what its cache can do
    parents: tuple[int, ...]  #: indexes of the steps it waits for
    is_parent: bool  #: whether another step waits for it


class Skipped(msgspec.Struct, frozen=True):
    """A node that a task would go to, if its cache could do what the task asks."""

    name: str
    reason: str


class Note(msgspec.Struct, frozen=True):
    """What nodes do otherwise than the task asks."""

    nodes: tuple[str, ...]
    note: str


class Plan(msgspec.Struct, frozen=True):
    """Nodes of a task, parents before children; shown in its document: those left out, and notes."""

    steps: tuple[Step, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def has_remarks(self) -> bool:
        """Whether there is more to say of a task than its numbers."""
        return bool(self.skipped or self.notes)

    def operation_at(self, step: Step, action: str, kind: str, *, soft: bool) -> Operation:
        """Return what *step* is sent. A soft purge is hard at parents and where the cache has none.

        A parent keeps the stale object of a soft purge and hands it to its edges as fresh, so only
        the last layer may be soft.
        """
        if soft and not step.is_parent:
            softened = operation_of(action, kind, soft=True)
            if softened in step.operations:
                return softened
        return operation_of(action, kind, soft=False)


def subtask_count(plan: Plan, targets: int, action: str, *, prefetch: bool) -> int:
    """Return how many subtasks a task of this plan has."""
    return targets * len(plan.steps) * (2 if prefetch and action == Action.PURGE else 1)

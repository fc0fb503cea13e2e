"""The nodes of a task, and which of them wait for which.

Plain data, made by the intake from the configuration. A plan is stored once for all tasks that were accepted
for it: a task of the journal goes on by the plan it was accepted for, whatever is configured by then.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from engine.errors import StoreError
from engine.tasks.words import Action, Operation

GONE: Final = "gone"  #: what a step lacks whose node is not configured
LAYER: Final = ":"  #: in front of the name of a layer, among names of nodes
GROUP: Final = "@"  #: in front of the name of a group, there
_KEY_BYTES: Final = 12


class Step(msgspec.Struct, frozen=True):
    """One node of a plan."""

    node: str  #: its name
    layer: str
    operation: Operation  #: what it is sent for each target
    parents: tuple[int, ...]  #: indexes of the steps it waits for
    is_parent: bool  #: whether another step waits for it
    driver: str = ""  #: of its cache
    lacks: str = ""  #: why the node as it is configured now cannot be sent that; empty: it can
    below: tuple[str, ...] = ()
    """Of a node that is an engine: which of its nodes; empty: all of them. Names of layers have a `LAYER` in
    front, those of groups a `GROUP`: nodes of these alone, and of them those that are named beside."""


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
    key: bytes = b""  #: what the journal calls it; empty: it is not stored
    text: bytes = b""  #: as it is stored
    is_stored: bool = False  #: it was read from a store: some of its nodes may lack something by now
    is_narrow: bool = False  #: for some of the nodes below one of its nodes, see `Step.below`


class _StoredStep(msgspec.Struct, array_like=True, frozen=True):
    node: str
    layer: str
    driver: str
    operation: int
    parents: tuple[int, ...]
    below: tuple[str, ...] = ()  #: left out where there is none, as by the version before


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    """A plan as it is stored. Fields are only added."""

    steps: list[_StoredStep]
    skipped: list[tuple[str, str]]
    notes: list[tuple[tuple[str, ...], str]]


_decode: Final = msgspec.msgpack.Decoder(_Stored).decode


def storable(plan: Plan) -> Plan:
    """Return *plan* with its text and key: the same for the same plan, in every process."""
    stored = (
        [_stored_step(one) for one in plan.steps],
        [(one.name, one.reason) for one in plan.skipped],
        [(one.nodes, one.note) for one in plan.notes],
    )
    text = msgspec.msgpack.encode(stored)
    key = hashlib.blake2b(text, digest_size=_KEY_BYTES).digest()
    is_narrow = any(step.below for step in plan.steps)
    return msgspec.structs.replace(plan, key=key, text=text, is_narrow=is_narrow)


def _stored_step(step: Step) -> tuple[object, ...]:
    """Return what a `_StoredStep` is read from."""
    stored = (step.node, step.layer, step.driver, int(step.operation), step.parents)
    return (*stored, step.below) if step.below else stored


def read_plan(key: bytes, text: bytes) -> Plan:
    """Return a stored plan.

    Raises:
        StoreError: *text* is none.
    """
    try:
        stored = _decode(text)
        parents = {place for one in stored.steps for place in one.parents}
        steps = tuple(
            Step(
                one.node,
                one.layer,
                Operation(one.operation),
                one.parents,
                place in parents,
                one.driver,
                below=one.below,
            )
            for place, one in enumerate(stored.steps)
        )
    except (msgspec.DecodeError, ValueError) as exc:
        raise StoreError(f"a plan cannot be read: {exc}") from exc
    return Plan(
        steps,
        tuple(Skipped(*one) for one in stored.skipped),
        tuple(Note(*one) for one in stored.notes),
        key,
        text,
        is_stored=True,
        is_narrow=any(step.below for step in steps),
    )


def subtask_count(plan: Plan, targets: int, action: str, *, prefetch: bool) -> int:
    """Return how many subtasks a task of this plan has."""
    return targets * len(plan.steps) * (2 if prefetch and action == Action.PURGE else 1)

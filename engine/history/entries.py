"""A task as an answer of the history shows it. Pure.

Of a task of which every subtask was acked the plan tells the nodes; of any other the state bytes of its
shares, with what late delivery made of them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from engine.errors import StoreError
from engine.tasks.plan import read_plan
from engine.tasks.records import By
from engine.tasks.settled import Part, state_of_number
from engine.tasks.words import (
    ACKED,
    BLOCKED,
    CANCELLED,
    DELAYED,
    FAILED,
    FINAL_STATES,
    Operation,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from engine.history.covering import Match
    from engine.tasks.plan import Step
    from engine.tasks.settled import Change, SettledTask

TARGETS_SHOWN: Final = 100
_WORDS: Final = {ACKED: "acked", FAILED: "failed", CANCELLED: "cancelled", DELAYED: "delayed"}
_ON_ITS_WAY: Final = "sent"

_ANSWERED: Final = frozenset({ACKED, FAILED, CANCELLED})

Subtask = tuple[str, int, str]
"""Of a task: node, operation, target."""


class HistoryError(msgspec.Struct):
    """Why a subtask failed, or was late."""

    node: str
    target: str
    reason: str


class HistoryNode(msgspec.Struct):
    """What one node made of a task; in subtasks."""

    name: str
    layer: str
    operation: str
    total: int
    acked: int
    failed: int
    delayed: int
    cancelled: int
    outcome: Annotated[
        str,
        Meta(description="of the matched target: acked, failed, delayed, cancelled, sent; else the worst"),
    ]


class HistoryTask(msgspec.Struct):
    """A task of the history."""

    task_id: str
    action: str
    kind: str
    soft: bool
    prefetch: bool
    state: str
    by: By
    target_count: int
    targets: Annotated[list[str], Meta(description="the first 100")]
    match: Annotated[str | None, Meta(description="how it covers the target: the kind of its targets")]
    matched: Annotated[str | None, Meta(description="the one of its targets that covers it")]
    sure: Annotated[bool, Meta(description="false: a pattern that could not be matched here may cover it")]
    created_at: float
    updated_at: float
    total: int
    counter: int
    failed: int
    delayed: int
    cancelled: int
    absent: int
    nodes: list[HistoryNode]
    errors: list[HistoryError]


def is_final(change: Change) -> bool:
    """Tell whether a change is the last of its task."""
    return state_of_number(change.state) in FINAL_STATES


def final_state(settled: State, changes: Sequence[Change]) -> State:
    """Return the state that a task has by now.

    The first final change counts: a document that is final stays so. Of two engines that change one at the
    same time, the second one's change is told to the history, and not made.
    """
    if settled in FINAL_STATES or not changes:
        return settled
    last = next(filter(is_final, changes), changes[-1])
    return state_of_number(last.state)


def parts_of(
    task: SettledTask,
    plans: Mapping[bytes, bytes],
    changes: Sequence[Change] = (),
    waiting: Callable[[str, Sequence[Subtask]], set[Subtask]] | None = None,
) -> list[Part]:
    """Return the shares of a task as they are by now; none when nobody knows any more.

    Args:
        task: as it was when it was stored.
        plans: key → text.
        changes: what became of it later.
        waiting: tells what of a partial task waits still, by its id; None: it is in memory, and its states
            are of now.
    """
    if task.odd is None:
        return _parts_of_plan(task, plans, ACKED)
    if not task.odd.parts and task.state not in FINAL_STATES:  # it has not begun
        return _parts_of_plan(task, plans, BLOCKED)
    if task.state in FINAL_STATES or waiting is None:
        return task.odd.parts
    state = final_state(task.state, changes)
    left: set[Subtask] = set()
    if state not in FINAL_STATES:
        left = waiting(task.id, _unanswered(task, task.odd.parts))
    failed = {(one.node, one.operation, one.target) for change in changes for one in change.failures}
    otherwise = CANCELLED if state is State.CANCELLED else ACKED
    return [_changed(part, task.targets, left, failed, otherwise) for part in task.odd.parts]


def _unanswered(task: SettledTask, parts: Sequence[Part]) -> list[Subtask]:
    return [
        (part.node, part.operation, target)
        for part in parts
        for state, target in zip(part.states, task.targets, strict=False)
        if state not in _ANSWERED
    ]


def _changed(
    part: Part, targets: Sequence[str], left: set[Subtask], failed: set[Subtask], otherwise: int
) -> Part:
    states = bytearray(part.states)
    for place, target in enumerate(targets):
        if states[place] in _ANSWERED:
            continue
        key = (part.node, part.operation, target)
        states[place] = DELAYED if key in left else FAILED if key in failed else otherwise
    return Part(part.node, part.layer, part.operation, bytes(states))


def _parts_of_plan(task: SettledTask, plans: Mapping[bytes, bytes], state: int) -> list[Part]:
    shape = task.shape
    steps = _steps(shape.plan, plans.get(shape.plan, b""))
    states = bytes([state]) * len(task.targets)
    parts = [Part(step.node, step.layer, int(step.operation), states) for step in steps]
    if shape.prefetch and shape.action == "purge":
        parts += [Part(step.node, step.layer, int(Operation.PREFETCH), states) for step in steps]
    return parts


def entry(
    task: SettledTask, parts: Sequence[Part], match: Match | None, changes: Sequence[Change]
) -> HistoryTask:
    """Return a task as it is shown."""
    shape = task.shape
    place = -1 if match is None else task.targets.index(match.target)
    nodes = [_node(part, place) for part in parts]
    errors = [HistoryError(*error) for error in _errors(task, changes)]
    return HistoryTask(
        task_id=task.id,
        action=shape.action,
        kind=shape.kind,
        soft=shape.soft,
        prefetch=shape.prefetch,
        state=final_state(task.state, changes).value,
        by=By(*shape.by),
        target_count=len(task.targets),
        targets=task.targets[:TARGETS_SHOWN],
        match=None if match is None else match.kind,
        matched=None if match is None else match.target,
        sure=match is None or match.is_sure,
        created_at=task.created_at,
        updated_at=max([task.settled_at, *(change.at for change in changes)]),
        total=sum(node.total for node in nodes),
        counter=sum(node.acked for node in nodes),
        failed=sum(node.failed for node in nodes),
        delayed=sum(node.delayed for node in nodes),
        cancelled=sum(node.cancelled for node in nodes),
        absent=task.absent,
        nodes=nodes,
        errors=errors,
    )


def _errors(task: SettledTask, changes: Sequence[Change]) -> Iterable[tuple[str, str, str]]:
    """Return node, target and reason of errors, each once: of what failed late not why it had waited."""
    if final_state(task.state, changes) is State.DONE:
        return ()  # they told why it was late, or took several attempts
    late = [(one.node, one.target, one.reason) for change in changes for one in change.failures]
    failed = {error[:2] for error in late}
    before = () if task.odd is None else task.odd.errors
    return dict.fromkeys([*(error for error in before if error[:2] not in failed), *late])


def _node(part: Part, place: int) -> HistoryNode:
    states = part.states
    acked, failed, delayed, cancelled = (states.count(state) for state in (ACKED, FAILED, DELAYED, CANCELLED))
    node = HistoryNode(
        part.node,
        part.layer,
        Operation(part.operation).name.lower(),
        len(states),
        acked,
        failed,
        delayed,
        cancelled,
        _ON_ITS_WAY,
    )
    if 0 <= place < len(states):
        node.outcome = _WORDS.get(states[place], _ON_ITS_WAY)
    elif place < 0:
        node.outcome = _outcome(node)
    return node


def _outcome(node: HistoryNode) -> str:
    """Return the word for a whole share: the worst of its subtasks."""
    if node.failed:
        return "failed"
    if node.cancelled:
        return "cancelled"
    if node.delayed:
        return "delayed"
    return "acked" if node.acked == node.total else _ON_ITS_WAY


def nodes_of_plan(key: bytes, plans: Mapping[bytes, bytes]) -> frozenset[str]:
    """Return the nodes of a plan; none when it is lost."""
    return frozenset(step.node for step in _steps(key, plans.get(key, b"")))


@functools.lru_cache(256)
def _steps(key: bytes, text: bytes) -> Sequence[Step]:
    try:
        return read_plan(key, text).steps
    except StoreError:
        return ()

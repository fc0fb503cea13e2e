"""Where the subtasks of a task in memory are, node by node, and what they wait for."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from engine.api.overview import shown_state
from engine.nodes.health import NodeState
from engine.tasks.words import BLOCKED, DELAYED, QUEUED, RETRYING, SENT, Operation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engine.nodes.node import Node
    from engine.tasks.task import Share, Task

_EXAMPLES_MAX: Final = 3  #: targets of a share that are shown for each state
GONE: Final = ("gone", "it is not configured", 0.0)
_STATES: Final = {
    BLOCKED: "blocked",
    QUEUED: "queued",
    SENT: "sent",
    RETRYING: "retrying",
    DELAYED: "delayed",
}


class DebugTarget(msgspec.Struct):
    """One subtask that is not done."""

    target: str
    state: Annotated[str, msgspec.Meta(description="blocked, queued, sent, retrying or delayed")]
    attempts: Annotated[int, msgspec.Meta(description="that went wrong; after 5 it is a row")]
    waits_for: Annotated[str, msgspec.Meta(description="parents, or why the node is not sent it")]
    next_try_s: Annotated[float, msgspec.Meta(description="until it may be sent; 0: now, or not known")]


class DebugSubtasks(msgspec.Struct):
    """The subtasks of a task on one node, for one operation."""

    node: str
    layer: str
    operation: str
    node_state: Annotated[str, msgspec.Meta(description="gone: it is not configured")]
    node_reason: str
    total: int
    acked: int
    failed: int
    cancelled: int
    blocked: Annotated[int, msgspec.Meta(description="wait for their parents")]
    queued: Annotated[int, msgspec.Meta(description="wait in memory for the node")]
    sent: Annotated[int, msgspec.Meta(description="on the wire")]
    retrying: Annotated[int, msgspec.Meta(description="wait for the next of their quick attempts")]
    delayed: Annotated[int, msgspec.Meta(description="rows of the delay queue")]
    node_waiting: Annotated[int, msgspec.Meta(description="requests of all tasks that wait for the node")]
    node_in_flight: int
    oldest_sent_s: Annotated[float, msgspec.Meta(description="of the node's purges; 0: none is on the wire")]
    why: Annotated[str, msgspec.Meta(description="what those wait for that are no rows")]
    targets: Annotated[list[DebugTarget], msgspec.Meta(description="the first of each state")]


def subtasks_of(task: Task, nodes: Mapping[str, Node]) -> list[DebugSubtasks]:
    """Return what a task in memory has on each node."""
    return [_of(share, nodes.get(share.node.name)) for share in task.shares]


def _of(share: Share, node: Node | None) -> DebugSubtasks:
    state, reason, _ = GONE if node is None else shown_state(node)
    states = share.states
    oldest_s = 0.0
    if node is not None and node.in_flight:
        oldest_s = max(0.0, time.monotonic() - node.channels.oldest_purge_sent_at())
    counted = DebugSubtasks(
        share.node.name,
        share.node.layer,
        Operation(share.operation).name.lower(),
        state,
        reason,
        len(states),
        share.acked_count,
        share.failed_count,
        share.cancelled_count,
        states.count(BLOCKED),
        states.count(QUEUED),
        states.count(SENT),
        states.count(RETRYING),
        share.delayed_count,
        0 if node is None else node.waiting_count,
        0 if node is None else node.in_flight,
        round(oldest_s, 3),
        "",
        list(_targets(share, node)),
    )
    counted.why = "; ".join(_why(share, node, counted))
    return counted


def _why(share: Share, node: Node | None, counted: DebugSubtasks) -> Iterator[str]:
    name = share.node.name
    if counted.blocked:
        parents = ", ".join(f"{parent.node.name} ({_left(parent)} to come)" for parent in share.parents)
        yield f"{name}: {_do(counted.blocked, 'wait')} for {parents or 'their parents'}"
    if counted.queued:
        held_back = "" if node is None or node.health.takes_new else f", which is {counted.node_state}"
        yield (
            f"{name}{held_back}: {_do(counted.queued, 'wait')} in memory, of {counted.node_waiting} of all "
            f"tasks; {counted.node_in_flight} are on the wire"
        )
    if counted.sent:
        for_s = f", the oldest of its purges for {counted.oldest_sent_s:g} s" if counted.oldest_sent_s else ""
        yield f"{name}: {_do(counted.sent, 'wait')} for an answer{for_s}"
    if counted.retrying:
        yield f"{name}: {_do(counted.retrying, 'wait')} for another attempt, a second at the most"


def _do(count: int, verb: str) -> str:
    return f"1 subtask {verb}s" if count == 1 else f"{count} subtasks {verb}"


def _left(share: Share) -> int:
    return len(share.states) - share.acked_count - share.failed_count - share.cancelled_count


def _targets(share: Share, node: Node | None) -> Iterator[DebugTarget]:
    for number, word in _STATES.items():
        places = (index for index, state in enumerate(share.states) if state == number)
        for index in islice(places, _EXAMPLES_MAX):
            target = share.task.targets[index]
            waits_for, next_s = _waits(share, index, node, number)
            attempts = (share.attempts or {}).get(index, 0)
            yield DebugTarget(target, word, attempts, waits_for, round(max(0.0, next_s), 3))


def _waits(share: Share, index: int, node: Node | None, state: int) -> tuple[str, float]:
    """Return what one subtask waits for, and for how long at least."""
    operation, target = share.operation, share.task.targets[index]
    if state == BLOCKED:
        waiting = [
            parent.node.name
            for parent in share.parents
            if index < len(parent.states) and parent.states[index] in _STATES
        ]
        return ", ".join(dict.fromkeys(waiting)), 0.0
    if node is None:
        return "its node is not configured", 0.0
    if state not in {QUEUED, DELAYED}:
        return "", 0.0
    reason = node.holds.reason_for(operation, target)
    if not reason and node.state is not NodeState.READY:
        reason = shown_state(node)[1] or f"the node is {node.state.value}"
    if not reason and node.postponed.cannot(operation, target):
        reason = "the node cannot do that"
    return reason, node.postponed.wait_s(operation, target)

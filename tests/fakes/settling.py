"""Tasks that are about to settle, for the history."""

from __future__ import annotations

import json
from typing import Any

from engine.tasks.plan import Plan, Step, storable
from engine.tasks.records import By
from engine.tasks.task import Share, Task
from engine.tasks.words import ACKED, Operation, State, operation_of
from tests.fakes.shares import NotingNode

STARTED_AT = 1_764_000_000.0


def plan_of(*nodes: str, operation: Operation = Operation.PURGE_URL) -> Plan:
    """Return a plan of these nodes, of the layer edge."""
    return storable(Plan(tuple(Step(name, "edge", operation, (), False, "varnish") for name in nodes)))


def settling(
    name: str,
    *targets: str,
    kind: str = "url",
    state: State = State.DONE,
    at: float = STARTED_AT,
    plan: Plan | None = None,
    states: dict[str, bytes] | None = None,
    **attributes: Any,
) -> Task:
    """Return a task that is to be stored.

    Args:
        name: its id.
        targets: of it.
        kind: of its targets.
        state: that it has by then.
        at: when it was created; it settles a second later.
        plan: None: of the node edge-1.
        states: node → the states of its subtasks; None: all acked.
        attributes: of the task.
    """
    task = Task(
        id=name,
        action="purge",
        kind=kind,
        targets=list(targets),
        soft=False,
        prefetch=False,
        callback=None,
        due_s=60,
        body=b"{}",
        digest=b"",
        created_at=at,
    )
    operation = operation_of("purge", kind, soft=False)
    task.plan = plan or plan_of("edge-1", operation=operation)
    task.state = state
    task.updated_at = at + 1
    shares = []
    for step in task.plan.steps:
        share = Share(task, NotingNode(step.node, step.layer), operation, len(targets))
        share.states[:] = (states or {}).get(step.node, bytes([ACKED]) * len(targets))
        shares.append(share)
    task.shares = shares
    task.by = By(attributes.get("token", ""), "127.0.0.1", "http")
    for key, value in attributes.items():
        setattr(task, key, value)
    return task


def documents_of(tasks: list[Task]) -> dict[str, bytes]:
    """Return documents of tasks, as short as a store takes them."""
    return {
        task.id: json.dumps(
            {
                "task_id": task.id,
                "state": task.state.value,
                "layers": [
                    {"name": "edge", "total": 2, "counter": 1, "failed": 0, "delayed": 1, "cancelled": 0}
                ],
                "counter": 1,
                "failed": 0,
                "delayed": 1,
                "errors": [],
                "created_at": task.created_at,
                "updated_at": task.updated_at,
                "due_at": task.due_at,
            }
        ).encode()
        for task in tasks
    }

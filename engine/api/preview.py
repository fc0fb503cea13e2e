"""``POST /v1/engine/task?dry_run=1``: what a task would do. Nothing is stored, and no node is asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from engine.api.overview import shown_state
from engine.base.turns import SLICE_S
from engine.tasks.plan import Note, Skipped  # noqa: TC001 - msgspec resolves the annotations
from engine.tasks.task import Task
from engine.tasks.words import Action, Kind, Operation, host_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.intake.auth import Token
    from engine.intake.validate import Validator
    from engine.nodes.node import Node
    from engine.tasks.plan import Step

HOSTS_SHOWN: Final = 100
_OF_PAGES: Final = "not known: how often visitors ask for single pages, no cache tells the engine"
_AT_MOST: Final = (
    "at most, if the purge takes all: requests_per_s times hit_ratio of the [[node]] tables, added up"
)
_NAMED_MAX: Final = 5


class PreviewNode(msgspec.Struct):
    """What one node would be sent."""

    name: str
    layer: str
    driver: str
    operation: Annotated[str, Meta(description="of each target, such as `PURGE_URL`")]
    subtasks: Annotated[int, Meta(description="its own prefetches included")]
    objects: Annotated[
        int | None,
        Meta(description="that may go at most, each with its Vary variants; null: nobody can tell"),
    ]
    parents: Annotated[list[str], Meta(description="that have to ack before")]
    state: Annotated[str, Meta(description="as `GET /v1/engine/nodes` has it")]
    reason: Annotated[str, Meta(description="why its subtasks would wait; empty: they would not")]


class Refill(msgspec.Struct):
    """What comes back to the origin when visitors ask again."""

    requests_per_s: Annotated[
        float | None,
        Meta(
            description="that the nodes answer out of their caches now, at most, by `requests_per_s` and "
            "`hit_ratio` of their tables; null: not known, see `reason`"
        ),
    ]
    reason: str
    origin_fetches: Annotated[
        int | None,
        Meta(
            description="at most, each for each Vary variant, by nodes without parents: targets times these "
            "nodes; null: nobody can tell how many objects go"
        ),
    ]
    prefetches: Annotated[int, Meta(description="that the task itself sends through the nodes")]


class Preview(msgspec.Struct):
    """What a task would do."""

    dry_run: bool
    action: str
    kind: str
    target_count: int
    total: Annotated[int, Meta(description="subtasks")]
    hosts: Annotated[
        list[str],
        Meta(description="that it covers, the first of them", extra_json_schema={"maxItems": HOSTS_SHOWN}),
    ]
    host_count: int
    nodes: list[PreviewNode]
    skipped: Annotated[list[Skipped], Meta(description="nodes that cannot do it")]
    notes: Annotated[list[Note], Meta(description="what nodes do otherwise than was asked")]
    refill: Refill
    confirm: Annotated[str, Meta(description='why it takes `"confirm": true`; empty: it does not')]


class PreviewTask:
    """Makes previews.

    Args:
        validator: checks bodies, plans tasks, and knows which of them have to be confirmed.
        nodes: name → node.
    """

    def __init__(self, validator: Validator, nodes: Mapping[str, Node]) -> None:
        self._validator = validator
        self._nodes = nodes

    async def preview(self, body: bytes, token: Token) -> Preview:
        """Return what the task of *body* would do, if this client handed it in now.

        Raises:
            RequestError: it would be refused, for another reason than that it has to be confirmed.
        """
        token.take()
        return self._of(await self.task(body, token))

    async def task(self, body: bytes, token: Token) -> Task:
        """Return the task that *body* would be, planned.

        Raises:
            RequestError: as `preview` does.
        """
        made = self._validator.begin(body, token.hosts.allows, is_confirmed=True)
        if isinstance(made, Task):
            return made
        while not made.work(SLICE_S):  # noqa: ASYNC110 - not waiting: other clients have their turn
            await asyncio.sleep(0)
        return made.task()

    def _of(self, task: Task) -> Preview:
        assert task.plan is not None
        steps = task.plan.steps
        hosts = list(dict.fromkeys(map(host_of, task.targets)))
        return Preview(
            dry_run=True,
            action=task.action,
            kind=task.kind,
            target_count=len(task.targets),
            total=task.total,
            hosts=hosts[:HOSTS_SHOWN],
            host_count=len(hosts),
            nodes=[self._node(task, step, frozenset(hosts)) for step in steps],
            skipped=list(task.plan.skipped),
            notes=list(task.plan.notes),
            refill=self._refill(task, steps),
            confirm=self._validator.confirming.reason(task),
        )

    def _node(self, task: Task, step: Step, hosts: frozenset[str]) -> PreviewNode:
        node = self._nodes[step.node]
        state, reason, _ = shown_state(node)
        held = [
            hold.reason
            for (operation, host), hold in node.holds.pairs.items()
            if operation == step.operation and host in hosts and hold.pauses
        ]
        assert task.plan is not None
        return PreviewNode(
            name=step.node,
            layer=step.layer,
            driver=step.driver,
            operation=Operation(step.operation).name,
            subtasks=task.total // len(task.plan.steps),
            objects=_objects(task),
            parents=[task.plan.steps[place].node for place in step.parents],
            state=state,
            reason=held[0] if held else reason if state not in {"ready", "refusing"} else "",
        )

    def _refill(self, task: Task, steps: tuple[Step, ...]) -> Refill:
        objects = _objects(task)
        is_purge = task.action == Action.PURGE
        rate, reason = self._hits(task, steps) if is_purge else (0.0, "nothing is dropped")
        first = sum(1 for step in steps if not self._nodes[step.node].config.parents)
        return Refill(
            requests_per_s=rate,
            reason=reason,
            origin_fetches=None if objects is None else len(task.targets) * first,
            prefetches=len(task.targets) * len(steps) if task.prefetch or not is_purge else 0,
        )

    def _hits(self, task: Task, steps: tuple[Step, ...]) -> tuple[float | None, str]:
        """Return the requests a second that would be hits no more, or None, and what that goes by."""
        if task.kind == Kind.URL:
            return None, _OF_PAGES
        tables = [self._nodes[step.node].config for step in steps]
        silent = [table.name for table in tables if not table.requests_per_s or not table.hit_ratio]
        if silent:
            shown = ", ".join(silent[:_NAMED_MAX]) + (", …" if len(silent) > _NAMED_MAX else "")
            return None, f"not known: no requests_per_s and hit_ratio in the [[node]] table of {shown}"
        return round(sum(table.requests_per_s * table.hit_ratio for table in tables), 3), _AT_MOST


def _objects(task: Task) -> int | None:
    """Return how many objects may go from a node at most; None: nobody can tell."""
    if task.action != Action.PURGE:
        return 0
    return len(task.targets) if task.kind == Kind.URL else None

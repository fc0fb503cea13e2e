"""Delay queues with as many rows as they may have (``delay_rows_max``).

Nothing that was accepted is dropped: an operator is told, and tasks that would only add rows to full queues
are refused with 503. Where the node can purge a whole host its rows become host-wide ones (`host_rows`), and
tasks are taken until there is a tenth more than the limit all the same. What other tasks leave for a full
node is kept, so the limit may be passed. No row of a prefetch is replaced: tasks that only prefetch are
refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from engine.errors import BacklogFullError
from engine.nodes.ability import host_wide_for
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.config.tables import NodeConfig
    from engine.nodes.health import Health
    from engine.nodes.holds import Holds
    from engine.tasks.plan import Plan, Step
    from engine.tasks.task import Task

_RETRY_AFTER_S: Final = 60.0
_MORE_SHARE: Final = 10
_TOLD_SHARE: Final = 100
_LOW: Final = 0.9  #: a queue is full until so much of the limit is left


class KeepingNode(Protocol):
    """What is asked of a node: whether it would take a subtask, or its delay queue."""

    config: NodeConfig
    health: Health
    holds: Holds


class FullQueues:
    """Knows the full queues of this process.

    Args:
        nodes: the configured ones, by name.
        rows_max: rows of one node; see `rows_max_here`.
        on_alert: told when a queue is full, and when it is not any more: key, level, message.
    """

    def __init__(
        self, nodes: Mapping[str, KeepingNode], rows_max: int, on_alert: Callable[[str, str, str], None]
    ) -> None:
        self.names: set[str] = set()  #: of their nodes; changed here only
        self.low = int(_LOW * rows_max)  #: a queue is full until it has fewer rows
        self._most = rows_max + rows_max // _MORE_SHARE  # where rows become host-wide ones
        self.on_full: Callable[[str], None] = _ignore
        """Told of a node with a full queue, and again when it has grown."""
        self._depths: dict[str, int] = {}  # of full queues
        self._told_at: dict[str, int] = {}  # depths at which that is told again
        self._nodes = nodes
        self._rows_max = rows_max
        self._on_alert = on_alert

    def note(self, name: str, depth: int) -> None:
        """Take note of how many rows a node has."""
        if depth >= self._rows_max or name in self.names:
            self._depths[name] = depth
        if depth >= self._rows_max and depth >= self._told_at.get(name, 0):
            self._told_at[name] = depth + max(1, self._rows_max // _TOLD_SHARE)
            self.on_full(name)
        if depth >= self._rows_max and name not in self.names:
            self.names.add(name)
            self._on_alert(f"delay:{name}", "error", self._text(name, depth))
        elif name in self.names and depth < self.low:
            self.names.discard(name)
            self._told_at.pop(name, None)
            self._on_alert(f"delay:{name}", "resolved", f"the delay queue of {name} is not full any more")

    def _text(self, name: str, depth: int) -> str:
        node = self._nodes.get(name)
        replaced = ""
        if node is not None and host_wide_for(node.config, Operation.PURGE_URL) is not None:
            replaced = f"they are replaced by purges of whole hosts where that helps; from {self._most} on "
        return (
            f"the delay queue of {name} is full: {depth} rows (delay_rows_max: {self._rows_max} here); "
            f"{replaced}tasks for which it is the only node are answered 503 until the node takes what it has"
        )

    def check(self, task: Task) -> None:
        """Refuse a task that would only add rows to full queues.

        Raises:
            BacklogFullError: it would.
        """
        plan = task.plan
        if plan is None or not all(step.node in self.names for step in plan.steps):
            return
        for step in plan.steps:
            node = self._nodes[step.node]
            is_held = any(node.holds.is_held(step.operation, target) for target in task.targets)
            is_refused = any(node.holds.is_refused(step.operation, target) for target in task.targets)
            if not node.health.keeps_rows and not is_held:
                return
            if not is_refused and self._can_join(node.config, step):
                return
        raise self._error(plan)

    def _can_join(self, node: NodeConfig, step: Step) -> bool:
        """Tell whether what a step adds to a full queue may become host-wide rows, with room for those."""
        has_room = self._depths.get(step.node, 0) < self._most
        return has_room and host_wide_for(node, step.operation) is not None

    def _error(self, plan: Plan) -> BacklogFullError:
        return BacklogFullError(f"the delay queue of {plan.steps[0].node}", retry_after_s=_RETRY_AFTER_S)


def rows_max_here(rows_max: int, workers: int) -> int:
    """Return how many of the rows of one node may be this worker's, where each has a store of its own.

    Tasks are spread evenly by their ids, so each takes an equal part.
    """
    return max(1, rows_max // workers)


def _ignore(_name: str) -> None:
    """Tell nobody."""

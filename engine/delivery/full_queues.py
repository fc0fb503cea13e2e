"""Delay queues with as many rows as they may have (``delay_rows_max``).

Nothing that was accepted is dropped: an operator is told, and tasks that would only add rows to full queues
are refused with 503. What other tasks leave for such a node is kept, so the limit may be passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from engine.errors import BacklogFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.nodes.health import Health
    from engine.nodes.holds import Holds
    from engine.tasks.task import Task

_RETRY_AFTER_S: Final = 60.0
_LOW: Final = 0.9  #: a queue is full until so much of the limit is left


class KeepingNode(Protocol):
    """What is asked of a node: whether it would take a subtask, or its delay queue."""

    health: Health
    holds: Holds


class FullQueues:
    """Knows the full queues of this process.

    Args:
        nodes: the configured ones, by name.
        rows_max: rows of one node.
        on_alert: told when a queue is full, and when it is not any more: key, level, message.
    """

    def __init__(
        self, nodes: Mapping[str, KeepingNode], rows_max: int, on_alert: Callable[[str, str, str], None]
    ) -> None:
        self.names: set[str] = set()  #: of their nodes; changed here only
        self._nodes = nodes
        self._rows_max = rows_max
        self._on_alert = on_alert

    def note(self, name: str, depth: int) -> None:
        """Take note of how many rows a node has."""
        if depth >= self._rows_max and name not in self.names:
            self.names.add(name)
            text = (
                f"the delay queue of {name} is full: {depth} rows (delay_rows_max {self._rows_max}); tasks "
                "for which it is the only node are answered 503 until the node takes what it has"
            )
            self._on_alert(f"delay:{name}", "error", text)
        elif name in self.names and depth < _LOW * self._rows_max:
            self.names.discard(name)
            self._on_alert(f"delay:{name}", "resolved", f"the delay queue of {name} is not full any more")

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
            if not node.health.keeps_rows and not is_held:
                return
        raise BacklogFullError(f"the delay queue of {plan.steps[0].node}", retry_after_s=_RETRY_AFTER_S)

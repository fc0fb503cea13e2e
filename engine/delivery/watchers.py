"""Who waits until nothing of a task is on its way any more: clients that are answered only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.tasks.task import Task


class Watchers:
    """Whom to call, by the id of their task."""

    def __init__(self) -> None:
        self._by_task: dict[str, list[Callable[[], None]]] = {}

    def __repr__(self) -> str:
        return f"<Watchers [{len(self._by_task)} tasks]>"

    def add(self, task_id: str, on_over: Callable[[], None]) -> None:
        """Have *on_over* called once, when all of a task is settled or waits in delay queues."""
        self._by_task.setdefault(task_id, []).append(on_over)

    def tell(self, task: Task) -> None:
        """Call those of a task, of which nothing is on its way any more. Most tasks have none: 0.1 µs."""
        if self._by_task:
            for on_over in self._by_task.pop(task.id, ()):
                on_over()

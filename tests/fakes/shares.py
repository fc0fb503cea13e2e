"""Shares and requests of nodes that only note what they are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.tasks.task import Share, Task
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.nodes.queue import Item


@dataclass
class NotingNode:
    """Notes which targets it is to send, and which to forget."""

    name: str = "edge-1"
    layer: str = "edge"
    added: list[tuple[Share, list[int]]] = field(default_factory=list)
    backlog: list[tuple[Share, list[int]]] = field(default_factory=list)
    forgotten: list[tuple[Share, list[int]]] = field(default_factory=list)
    postponed: list[str] = field(default_factory=list)
    takes_poison: bool = True  #: False: whatever is postponed is poison

    def add(self, share: Share, indexes: Sequence[int], /) -> None:
        self.added.append((share, list(indexes)))

    def add_backlog(self, share: Share, indexes: Sequence[int], /) -> None:
        self.backlog.append((share, list(indexes)))

    def forget(self, share: Share, indexes: Sequence[int], /) -> None:
        if indexes:
            self.forgotten.append((share, list(indexes)))

    def postpone(self, operation: Operation, target: str, /) -> bool:
        self.postponed.append(target)
        return self.takes_poison


def items_of(*targets: str, operation: Operation = Operation.PURGE_URL) -> list[Item]:
    """Return a request for each target, all of one share."""
    task = Task.internal(list(targets), owner=None, task_id="t")
    share = Share(task, NotingNode(), operation, len(targets))
    return [(share, index, None) for index in range(len(targets))]

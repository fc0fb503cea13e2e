"""Requests that may be what ends a node's connections: each first one of a connection without an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engine.nodes.queue import Item
    from engine.tasks.words import Operation

_SUSPECTS_MAX: Final = 1024


class Suspects:
    """How often a request went out first and alone, and its connection ended without an answer."""

    def __init__(self) -> None:
        self.counts: dict[tuple[Operation, str], int] = {}  #: of each suspect; changed here only

    def __repr__(self) -> str:
        return f"<Suspects [{len(self.counts)} requests]>"

    def count(self, item: Item) -> int:
        """Suspect a request once more; return how often that was."""
        key = _key_of(item)
        if len(self.counts) >= _SUSPECTS_MAX:
            self.counts.clear()
        self.counts[key] = count = self.counts.get(key, 0) + 1
        return count

    def clear(self, items: list[Item]) -> None:
        """Forget requests that were answered, or given up."""
        for item in items:
            self.counts.pop(_key_of(item), None)


def _key_of(item: Item) -> tuple[Operation, str]:
    share, index, _ = item
    return share.operation, share.task.targets[index]

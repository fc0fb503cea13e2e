"""What a delivery asks about host-wide rows; `host_rows` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.nodes.node import Node
    from engine.saver.saver import Saver
    from engine.tasks.records import ParkedRow


class HostWide(Protocol):
    """Puts what host-wide rows stand for in their place, where their purge is not done."""

    def stop(self) -> None:
        """End: the savers stop soon."""

    async def part_refused(self, node: Node) -> None:
        """Part those that a node refuses, or cannot do."""

    async def part_failed(self, node: Node, saver: Saver, rows: list[ParkedRow]) -> None:
        """Part those that a node will not do, whatever is tried."""

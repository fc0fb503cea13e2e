"""What a node cannot do of what tasks were accepted for: its cache is another by now. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.nodes import drivers
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from engine.config.tables import NodeConfig


def incapable_of(node: NodeConfig) -> frozenset[int]:
    """Return the operations that *node* can do nothing of the kind of."""
    return frozenset(int(one) for one in Operation if drivers.sent_for(node, one) is None)


def incapable_reason(node: NodeConfig, operation: int) -> str:
    """Return why subtasks wait whose operation *node* cannot do."""
    what = Operation(operation).name.lower().replace("_", " by ", 1)
    return (
        f"incapable: {node.driver}, as {node.name} is configured now, cannot {what}; it is sent when the "
        "node can"
    )

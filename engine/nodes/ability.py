"""What a node cannot do of what tasks were accepted for: its cache is another by now. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.nodes import drivers
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from engine.config.tables import NodeConfig


_HOST_WIDE: Final = {
    Operation.PURGE_URL: Operation.PURGE_HOST,
    Operation.PURGE_PREFIX: Operation.PURGE_HOST,
    Operation.SOFT_URL: Operation.SOFT_HOST,
    Operation.SOFT_PREFIX: Operation.SOFT_HOST,
}
HOST_WIDE: Final = frozenset({Operation.PURGE_HOST, Operation.SOFT_HOST})


def host_wide_for(node: NodeConfig, operation: int) -> Operation | None:
    """Return the purge of a whole host that *node* can do instead of one by URL or prefix; None: it cannot.

    A soft purge becomes a hard one only where the node does it as a hard one anyway.
    """
    wide = _HOST_WIDE.get(Operation(operation))
    if wide is None:
        return None
    able = drivers.capabilities(node)
    is_hard_anyway = operation not in able and drivers.sent_for(node, wide) is not None
    return wide if wide in able or is_hard_anyway else None


def misses_patterns(node: NodeConfig) -> bool:
    """Tell whether *node* can purge a host, and none that is a pattern (`is_of_pattern`)."""
    return not HOST_WIDE.isdisjoint(drivers.capabilities(node)) and not drivers.takes_host_patterns(node)


def is_of_pattern(operation: int, target: str) -> bool:
    """Tell whether a purge is of all hosts below a name."""
    return operation in HOST_WIDE and target.startswith("*")


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

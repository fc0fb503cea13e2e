"""What each node did for a task: its part of the document, in memory and stored. Pure.

The numbers of a layer's nodes add up to those of the layer, at every moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from engine.tasks.document_types import LayerDocument, NodeDocument
from engine.tasks.words import State

if TYPE_CHECKING:
    from engine.tasks.records import Late
    from engine.tasks.task import Task

_CANCELLED: Final = State.CANCELLED  # looked up once: see `nodes.health`
_OF_LAYER: Final = (("acked", "counter"), ("failed", "failed"), ("cancelled", "cancelled"))


_N = TypeVar("_N", bound=NodeDocument)
_BLANK: Final[dict[str, Any]] = msgspec.to_builtins(NodeDocument("", "", 0))


def parts_of(task: Task, make: type[_N]) -> tuple[list[LayerDocument], list[_N]]:
    """Return the layers of a task in their order, and its nodes, parents first.

    Before it is expanded only the totals are known. Of a cancelled task all that has no answer counts as
    cancelled, what is still on the wire too. Both come of one pass: every task pays for it.
    """
    layers: dict[str, LayerDocument] = {}
    nodes: list[_N] = []
    if task.plan is None:
        return [], nodes  # a task of the journal that cannot be planned any more
    steps = task.plan.steps
    if not task.shares:
        each = task.total // len(steps)
        for step in steps:
            layers.setdefault(step.layer, LayerDocument(step.layer, 0, 0, 0, 0)).total += each
            nodes.append(make(step.node, step.layer, each))
        return list(layers.values()), nodes
    is_cancelled = task.state is _CANCELLED
    for share in task.shares:
        node = share.node
        total, acked, failed, delayed = (
            len(share.states),
            share.acked_count,
            share.failed_count,
            share.delayed_count,
        )
        cancelled = total - acked - failed - delayed if is_cancelled else share.cancelled_count
        name = node.layer
        layer = layers.get(name)
        if layer is None:
            layers[name] = LayerDocument(name, total, acked, failed, delayed, cancelled)
        else:
            layer.total += total
            layer.counter += acked
            layer.failed += failed
            layer.delayed += delayed
            layer.cancelled += cancelled
        absent = share.absent_count and min(share.absent_count, acked)  # one sent again may be absent twice
        acked_at = share.acked_at or None if acked else None
        # By position: by keyword msgspec takes four times as long.
        nodes.append(make(node.name, name, total, acked, absent, failed, delayed, cancelled, 0, acked_at))
    if len(nodes) > len(steps):
        nodes = _merged(nodes)  # prefetches have shares of their own
    if task.verify is not None:
        for document in nodes:
            seen = task.verify.nodes.get(document.name)
            if seen is not None:
                document.stale, document.verified_at = seen.stale, seen.verified_at or None
                document.verified_digest = seen.digest
    return list(layers.values()), nodes


def _merged(shares: list[_N]) -> list[_N]:
    nodes: dict[str, _N] = {}
    for share in shares:
        node = nodes.setdefault(share.name, share)
        if node is not share:
            node.total += share.total
            node.acked += share.acked
            node.absent += share.absent
            node.failed += share.failed
            node.delayed += share.delayed
            node.cancelled += share.cancelled
            node.acked_at = max(node.acked_at or 0.0, share.acked_at or 0.0) or None
    return list(nodes.values())


# Stored documents: plain dicts, so that a field another version added survives a change here.


def find_node(stored: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return what a stored document has of a node; nothing of one that an earlier version wrote."""
    return next((node for node in stored.get("nodes", ()) if node["name"] == name), None)


def late_of_node(node: dict[str, Any], late: Late) -> None:
    """Fold what late delivery did into a node of a stored document, in place."""
    over = late.acked + late.failed - node.get("delayed", 0)
    node["delayed"] = max(0, -over)
    node["failed"] = node.get("failed", 0) + late.failed
    if late.acked:
        node["acked"] = node.get("acked", 0) + late.acked
        node["acked_at"] = max(late.at, node.get("acked_at") or 0.0)
        node["absent"] = min(node.get("absent", 0) + late.absent, node["acked"])
    if over > 0 and node.get("cancelled"):
        node["cancelled"] -= min(over, node["cancelled"])  # answered all the same


def cancel_nodes(stored: dict[str, Any]) -> None:
    """Cancel what the nodes of a stored document have no answer for, in place."""
    for node in stored.get("nodes", ()):
        node["cancelled"] = max(0, node["total"] - node.get("acked", 0) - node.get("failed", 0))
        node["delayed"] = 0


def shown(nodes: list[dict[str, Any]], layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the nodes of a stored document as clients see them.

    The version before counts late delivery by layer alone: what a layer is ahead of its nodes is theirs.
    """
    filled = [_BLANK | node for node in nodes]
    for layer in layers if any(node["delayed"] for node in filled) else ():
        mine = [node for node in filled if node["layer"] == layer["name"]]
        for key, of_layer in _OF_LAYER:
            ahead = layer.get(of_layer, 0) - sum(node[key] for node in mine)
            for node in mine:
                moved = max(0, min(ahead, node["delayed"]))
                node[key] += moved
                node["delayed"] -= moved
                ahead -= moved
    return filled

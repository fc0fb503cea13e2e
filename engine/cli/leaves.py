"""What is below nodes that are engines, as commands show it."""

from __future__ import annotations

from engine.cli.cells import clean, shown

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from engine.client.bodies import Document

LEAF_COLUMNS: Final = (
    *("name", "layer", "driver", "state", "delayed", "oldest_delayed_s", "reason", "learned_at", "current"),
)
REGION_COLUMNS: Final = ("node", "leaves", "delayed", "oldest_delayed_s", "worst", "learned_at", "release")
TASK_REGION_COLUMNS: Final = (
    *("name", "state", "leaves", "total", "acked", "failed", "delayed", "cancelled", "acked_at", "error"),
)  #: of a task, at one region
_ORDER: Final = ("ready", "catching_up", "refusing", "unproven", "sick", "down", "paused", "gone", "unknown")


def told(leaves: Document) -> str:
    """Return the leaves of one node in words: ``98 ready, 2 down``; with it when nobody tells any more."""
    states = leaves.get("states")
    counts = states if isinstance(states, dict) else {}
    order = sorted(counts, key=lambda state: _ORDER.index(state) if state in _ORDER else len(_ORDER))
    words = ", ".join(f"{counts[state]} {clean(state)}" for state in order)
    if not leaves.get("learned_at"):
        return "not known yet"
    return (words or "none") if leaves.get("current") else f"{words or 'none'} (last known)"


def regions_of(nodes: Sequence[Document]) -> list[Document]:
    """Return a row for each node that is an engine."""
    return [{"node": node.get("name"), **_row(node["leaves"])} for node in nodes if node.get("leaves")]


def _row(leaves: Document) -> Document:
    worst = leaves.get("worst") or {}
    why = leaves.get("error") or worst.get("reason") or worst.get("state")
    named = f"{worst.get('name')}: {why}" if worst and not leaves.get("error") else why
    return {**leaves, "leaves": told(leaves), "worst": named}


def reason_of(node: Document) -> str:
    """Return what is wrong below a node, in one line; empty: nothing is, or it is no engine."""
    leaves = node.get("leaves")
    if not isinstance(leaves, dict):
        return ""
    worst = leaves.get("worst")
    if not leaves.get("current") and leaves.get("learned_at"):
        return f"{told(leaves)}, of {shown('learned_at', leaves['learned_at'])}"
    if not worst:
        return ""
    return f"{told(leaves)}; {worst.get('name')}: {worst.get('reason') or worst.get('state')}"

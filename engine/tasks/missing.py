"""Rows of stored tasks that are in no delay queue any more: what they were for fails. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from engine.tasks.records import Late
from engine.tasks.stored_documents import apply_late

if TYPE_CHECKING:
    from collections.abc import Mapping


def fail_missing(
    stored: dict[str, Any], rows: Mapping[str, int], layers: Mapping[str, str], reason: str, at: float
) -> int:
    """Fail what a stored document counts as delayed and no row is there for, in place; return how many.

    By node, where the document says what each of them has; else by layer.

    Args:
        stored: a document that is not final.
        rows: node → rows of the task that are there.
        layers: node → its layer, of those that are known.
        reason: as its errors say it.
        at: UNIX time.
    """
    delayed: int = sum(layer["delayed"] for layer in stored["layers"])
    missing = left = max(0, delayed - sum(rows.values()))
    there = Counter[str]()
    for name, count in rows.items():
        there[layers.get(name, "")] += count
    late: list[Late] = []

    def fail(short: int, layer: str, node: str) -> int:
        failed = max(0, min(left, short))
        if failed:
            error = {"node": node, "target": "", "reason": f"{failed} subtasks: {reason}"}
            late.append(Late(stored["task_id"], layer, 0, failed, error, at, node=node))
        return failed

    by_node = Counter[str]()
    for node in stored.get("nodes", ()):
        failed = fail(node.get("delayed", 0) - rows.get(node["name"], 0), node["layer"], node["name"])
        by_node[node["layer"]] += failed
        left -= failed
    for layer in stored["layers"]:
        name = layer["name"]
        left -= fail(layer["delayed"] - by_node[name] - there[name], name, "")
    for one in late:
        apply_late(stored, one)
    return missing

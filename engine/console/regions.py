"""Regions as the page shows them: what is wrong below a node that is an engine is wrong with it. Pure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.api.below import LeafStatus
    from engine.console.picture import Document

LEAVES_MAX: Final = 100  #: of a region, that are shown one by one
_UNWELL: Final = "sick"
"""Of a region that answers, with leaves that are not ready: ``down`` is one that does not."""


async def folded(nodes: Sequence[Document], leaves: Sequence[LeafStatus]) -> list[Document]:
    """Return the nodes, those that are engines with what is told of their leaves; a turn of the loop each.

    Args:
        nodes: the documents of ``GET /v1/engine/nodes``.
        leaves: of all of them.
    """
    by_region: dict[str, list[LeafStatus]] = {}
    for leaf in leaves:
        by_region.setdefault(leaf.region, []).append(leaf)
    shown: list[Document] = []
    for node in nodes:
        if node.get("leaves"):
            await asyncio.sleep(0)
            shown.append(_folded(node, by_region.get(node["name"], ())))
        else:
            shown.append(node)
    return shown


def _folded(node: Document, leaves: Sequence[LeafStatus]) -> Document:
    told = node["leaves"]
    shown = {key: value for key, value in node.items() if key != "leaves"}
    worst, counts = told["worst"], _counts(told["states"])
    if not told["learned_at"]:
        shown["notes"] = [*node["notes"], f"nothing is known of the caches below it: {told['error']}"]
        return shown
    if node["state"] == "ready" and worst is not None:
        shown["state"], shown["since"] = _UNWELL, told["unwell_since"]
        shown["reason"] = f"{counts}; {worst['name']}: {worst['reason'] or worst['state']}"
    what = "caches below it" if told["current"] else "caches below it, as it told last"
    shown["notes"] = [*node["notes"], f"{what}: {counts or 'none'}", *_rows(leaves)]
    return shown


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(states.items()))


def _rows(leaves: Sequence[LeafStatus]) -> list[str]:
    own = sorted(leaves, key=_unwell_first)
    rows = list(map(_row, own[:LEAVES_MAX]))
    if len(own) > LEAVES_MAX:
        rows.append(f"and {len(own) - LEAVES_MAX} more: purgeline nodes --leaves")
    return rows


def _row(leaf: LeafStatus) -> str:
    waits = f", {leaf.delayed} wait" if leaf.delayed else ""
    reason = f": {leaf.reason}" if leaf.reason else ""
    return f"{leaf.name}: {leaf.state.replace('_', ' ')}{waits}{reason}"


def _unwell_first(leaf: LeafStatus) -> tuple[bool, Any]:
    return leaf.state == "ready", leaf.name

"""Rows of nodes that are engines: what is known of their tasks, which rows do not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.tasks.by_region import nodes_of
from engine.tasks.lower import Lower
from engine.tasks.plan import GROUP, LAYER

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from engine.saver.reader import StoreReader
    from engine.store.store import Store
    from engine.tasks.region import RegionMap

_decode = msgspec.json.decode


class HandedRows:
    """Looks at their tasks.

    Args:
        regions: those in memory.
        reader: reads the stores, which have the others.
    """

    def __init__(self, regions: RegionMap, reader: StoreReader) -> None:
        self._regions = regions
        self._reader = reader

    def __repr__(self) -> str:
        return f"<HandedRows [{len(self._regions)} tasks in memory]>"

    async def known(self, store: Store, node: str, task_ids: Collection[str]) -> dict[str, Lower]:
        """Return what is known of tasks below a node: which of its nodes they are for, what it was handed.

        Args:
            store: that has the rows.
            node: that is an engine.
            task_ids: of the rows. One of which nothing is known is left out: it may be for all of its nodes.

        Raises:
            StoreError: the store cannot be read.
        """
        known: dict[str, Lower] = {}
        unread: list[str] = []
        for task_id in task_ids:
            task = self._regions.get(task_id)
            if task is None or task.plan is None:
                unread.append(task_id)
                continue
            of_node = (task.lower or {}).get(node, Lower())
            known[task_id] = Lower(nodes_of(task, node), dict(of_node.digests))
        return known | (await self._reader.read(_stored, store, node, unread) if unread else {})


class _Stored(msgspec.Struct):
    lower: dict[str, Lower] = {}


def _stored(store: Store, node: str, task_ids: Sequence[str]) -> dict[str, Lower]:
    known: dict[str, Lower] = {}
    for task_id in task_ids:
        text = store.document(task_id)
        lower = None if text is None else _decode(text, type=_Stored).lower.get(node)
        if lower is not None:
            known[task_id] = Lower(lower.nodes, lower.digests)
    return known


def joined(known: Sequence[Lower | None]) -> Lower:
    """Return what is known of rows of some tasks that are sent as one; for a node that any of them is for."""
    only = known[0] if len(known) == 1 else None
    if only is not None:
        return Lower(only.nodes, dict(only.digests))
    nodes: set[str] = set()
    for lower in known:
        if lower is None or not lower.nodes:
            return Lower()  # one of them is for all nodes
        if any(name.startswith((LAYER, GROUP)) for name in lower.nodes):
            return Lower()  # nodes of layers, or groups, beside nodes that are named: no question has both
        nodes.update(lower.nodes)
    return Lower(tuple(sorted(nodes)))

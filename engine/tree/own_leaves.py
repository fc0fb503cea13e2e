"""The nodes below this engine, for the engine above it: all in one list, under names as seen from here."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from engine.api.below import MARK
from engine.base.slices import slices
from engine.tree.leaves import leaves_of
from engine.tree.words import Leaf, Leaves

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from engine.tree.census import Census

_FRESH_S: Final = 2.0  #: for which an answer is given again, to other workers and other engines


class OwnLeaves:
    """Tells them.

    Args:
        nodes: the documents of ``GET /v1/engine/nodes``, of all workers as one.
        censuses: what is below nodes that are engines, by their names.
    """

    def __init__(
        self,
        nodes: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]],
        censuses: Mapping[str, Census],
    ) -> None:
        self._nodes = nodes
        self._censuses = censuses
        self._told = Leaves("")
        self._told_at = float("-inf")
        self._looks = asyncio.Lock()

    async def tell(self, seen: str) -> Leaves | None:
        """Return the leaves; None: they are those of *seen*."""
        async with self._looks:
            if time.monotonic() - self._told_at > _FRESH_S:
                self._told = await self._all(await self._nodes())
                self._told_at = time.monotonic()
        return None if self._told.seen == seen and seen else self._told

    async def _all(self, nodes: Sequence[Mapping[str, Any]]) -> Leaves:
        layers = [node["layer"] for node in nodes]
        groups = [group for node in nodes for group in node.get("groups", ())]
        untold: list[str] = []
        for name, census in self._censuses.items():
            told = census.names
            layers += [name + MARK + one for one in told.layers]
            groups += [name + MARK + one for one in told.groups]
            if not told.is_told:
                untold.append(name)
        rows: list[Leaf] = []
        async for some in slices(nodes):
            rows += self._rows(some)
        return leaves_of(rows, layers, groups, untold)

    def _rows(self, nodes: Sequence[Mapping[str, Any]]) -> Iterable[Leaf]:
        for node in nodes:
            census = self._censuses.get(node["name"])
            groups = node.get("groups", [])  # another worker may be of the version before
            below = census.seen_from_above(groups) if census is not None else []
            yield from below
            if not below or node["state"] != "ready":
                yield Leaf(
                    node["name"],
                    node["state"],
                    node["layer"],
                    node["driver"],
                    node["reason"],
                    node["delayed"],
                    node["oldest_delayed_s"],
                    groups=groups,
                )

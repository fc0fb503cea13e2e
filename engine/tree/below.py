"""Questions that clients ask of nodes that are engines, passed on to these; see `engine.api.below`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from engine.api.below import LeafStatus, LeavesStatus, Order, Said, one_line
from engine.errors import EngineError
from engine.tasks.handed_ids import own_id
from engine.tasks.words import Action, Operation
from engine.tree.link import detail_of
from engine.tree.words import PATH, WITHIN

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from aiohttp import web

    from engine.tree.census import Census
    from engine.tree.link import Link
    from engine.tree.place import Place

WITHIN_S: Final = 20.0  #: that a client's question is waited for
_LESS: Final = 0.8  #: of what the engine above waits, so that it hears of who did not answer
_LEAST_S: Final = 0.2
_TOGETHER_MAX: Final = 64
_REFUSED: Final = 400


class Below:
    """Asks.

    Args:
        links: to the nodes, by their names.
        censuses: what is known of their leaves, by the same.
        place: this engine's.
    """

    def __init__(self, links: Mapping[str, Link], censuses: Mapping[str, Census], place: Place) -> None:
        self._links = links
        self._censuses = censuses
        self._place = place
        self._turns = asyncio.Semaphore(_TOGETHER_MAX)

    def __repr__(self) -> str:
        return f"<Below [{len(self._links)} regions]>"

    @property
    def regions(self) -> Collection[str]:
        """The nodes that are engines."""
        return self._links.keys()

    def status(self, node: str) -> LeavesStatus | None:
        """Return what is known of a node's leaves; None: it is no engine."""
        census = self._censuses.get(node)
        return None if census is None else census.status()

    async def leaves(self) -> list[LeafStatus]:
        """Return all leaves that are known; of thousands not in one turn of the loop."""
        return [row for census in self._censuses.values() for row in await census.rows()]

    def task_id(self, task_id: str, action: str) -> str:
        """Return what the nodes call a task that was handed down whole."""
        is_prefetch = action == Action.PREFETCH.value
        return own_id(task_id, Operation.PREFETCH if is_prefetch else Operation.PURGE_URL)

    async def ask(
        self,
        nodes: Sequence[str],
        where: str,
        request: web.Request,
        order: Order,
    ) -> list[Said]:
        """Ask nodes at once, and return what each says."""
        within_s = within_of(request.headers.get(WITHIN, ""))
        try:
            path = await self._place.path_of(request.headers.get(PATH, ""))
        except EngineError as exc:
            return [Said(node, error=one_line(str(exc))) for node in nodes]

        async def ask(node: str) -> Said:
            try:
                async with asyncio.timeout(within_s), self._turns:
                    status, said = await self._links[node].ask(
                        order.method, where, order.body, path=path, within_s=within_s, by=order.by
                    )
            except TimeoutError:
                return Said(node, error=f"no answer within {within_s:.1f} s")
            except EngineError as exc:
                return Said(node, error=one_line(str(exc)))
            if status >= _REFUSED:
                return Said(node, status, said, f"answered {status}: {one_line(detail_of(said))}")
            return Said(node, status, said)

        return list(await asyncio.gather(*map(ask, nodes)))


def within_of(told: str) -> float:
    """Return the seconds for questions to the nodes.

    Args:
        told: those that the engine above waits; empty: none asks.
    """
    try:
        above_s = float(told) if told else WITHIN_S / _LESS
    except ValueError:
        above_s = WITHIN_S / _LESS
    if not above_s >= 0:  # not a number either
        above_s = 0.0
    return min(WITHIN_S, max(_LEAST_S, above_s * _LESS))

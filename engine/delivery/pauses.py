"""Nodes that operators paused: what is for them waits in their delay queues until they are resumed.

The store keeps who paused which node, so a pause outlives every process. An embedded store is told by each
worker, in each of its files. A shared store is looked at again and again: whichever engine was asked, all of
them pause the node, a second later at most. What was resumed is kept as well, as a node of which nothing is
written was lost by the store: it stays as it is.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.background import Background
from engine.errors import StoreError
from engine.nodes import pausing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.delivery.reasons import Reasons
    from engine.nodes.node import Node
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.tasks.records import Pause

_WRITE_LIMIT_S: Final = 10.0
_TICK_S: Final = 0.001
_PAGE_ROWS: Final = 2000
_TOLD_ROWS: Final = 100_000  #: whose tasks are told of a pause


class Pauses:
    """Knows which nodes are paused, and has the nodes act on it.

    Args:
        nodes: the configured ones, by name.
        savers: write who paused what; *reader* reads it.
        on_alert: told what an operator should know: key, level, message, and facts by name.
        reasons: tells tasks why their rows wait.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        savers: SaverPool,
        reader: StoreReader,
        on_alert: Callable[..., None],
        reasons: Reasons,
    ) -> None:
        self._nodes = nodes
        self._savers = savers
        self._reader = reader
        self._on_alert = on_alert
        self._reasons = reasons
        self._background = Background()
        self._known: dict[str, Pause] = {}
        self._newest: dict[str, float] = {}  # node → when the last change of it was asked for, UNIX time
        self._looking = asyncio.Lock()  # what is read is not older than what is known

    def __repr__(self) -> str:
        return f"<Pauses [{sum(pause.is_paused for pause in self._known.values())} nodes]>"

    def is_paused(self, name: str) -> bool:
        """Tell whether a node is paused, also one that is not configured."""
        pause = self._known.get(name)
        return pause is not None and pause.is_paused

    async def refresh(self) -> None:
        """Do as the store says.

        Raises:
            StoreError: the store cannot be read.
        """
        async with self._looking:
            await self._refresh()

    def next_at(self, name: str) -> float:
        """Return the time of a change that is asked for now, UNIX time: the newest, whatever a clock says."""
        return max(round(time.time(), 3), round(self._newest.get(name, 0.0) + _TICK_S, 3))

    async def change(self, pause: Pause) -> Pause:
        """Pause a node, or resume it; return what counts: who paused it first and when, or a newer change.

        Workers are told of changes in any order, so the time of each decides.

        Raises:
            StoreError: the store cannot be read or written.
        """
        async with self._looking:
            await self._refresh()
            known = self._known.get(pause.node)
            if known is not None and pause.at < self._newest[pause.node]:
                return known
            if known is not None and known.is_paused and pause.is_paused:
                self._newest[pause.node] = pause.at
                return known
            for saver in self._savers.savers:  # one after the other: the first decides, see `_refresh`
                saver.pause([pause])
                await saver.flushed(_WRITE_LIMIT_S)
            self._apply(pause)
            if pause.is_paused:
                self._background.start(self._tell(pause.node))
            return pause

    async def _tell(self, name: str) -> None:
        """Have the tasks whose rows waited before for another reason say that the node is paused."""
        left = _TOLD_ROWS
        for saver in self._savers.savers:
            place = 0
            while left > 0 and self.is_paused(name) and name in self._nodes:
                try:
                    rows, place = await self._reader.read(
                        saver.store.parked_page,
                        name,
                        place,
                        _PAGE_ROWS,
                        False,
                    )
                except StoreError as exc:
                    logger.debug("tasks are not told that {} is paused: {}", name, exc)
                    return
                self._reasons.tell_all(rows, self._nodes[name].health.away_reason)
                left -= len(rows)
                if not place:
                    break

    async def _refresh(self) -> None:
        found: dict[str, Pause] = {}
        for saver in self._savers.savers:
            found = await self._reader.read(saver.store.pauses) | found
        lost = [pause for name, pause in self._known.items() if name not in found]
        if lost:  # the store was emptied
            for saver in self._savers.savers:
                saver.pause(lost)
        for pause in found.values():
            self._apply(pause)

    def _apply(self, pause: Pause) -> None:
        known = self._known.get(pause.node)
        self._known[pause.node] = pause
        self._newest[pause.node] = max(pause.at, self._newest.get(pause.node, 0.0))
        node = self._nodes.get(pause.node)
        was_paused = known is not None and known.is_paused
        if node is None or pause == known or not (was_paused or pause.is_paused):
            return
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(pause.at))
        if pause.is_paused:
            reason = f"paused by {pause.by} since {at}"
            facts = {"event": "node.paused", "node": node.name, "layer": node.layer}
            self._on_alert(f"node:{node.name}", "warning", f"{node.name} is {reason}", **facts)
            pausing.pause(node, reason, pause.at)
        else:
            logger.info("{} was resumed by {}", node.name, pause.by)
            pausing.resume(node)

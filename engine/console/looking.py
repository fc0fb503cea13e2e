"""One look at an engine, of all its workers, for the page."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from engine.console.picture import Picture
from engine.console.regions import folded
from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from engine.api.below import LeafStatus
    from engine.console.picture import Document
    from engine.workers.latest import LatestAnswers

LOOK_S: Final = 2.0  #: and the feed's pause: under the six seconds that a page waits for a stream
_CLUSTER_EVERY_S: Final = 5.0  #: a cluster's part asks Redis


class Shown(Protocol):
    """What an engine is and does; see `engine.api.overview.Overview`."""

    async def all_stats(self, ask: Callable[[str], Awaitable[list[bytes]]] | None = None, /) -> Document:
        """Return the statistics of all workers."""

    async def all_nodes(
        self, ask: Callable[[str], Awaitable[list[bytes]]] | None = None, /
    ) -> list[Document]:
        """Return the nodes of all workers."""

    async def cluster_document(self) -> Document:
        """Return the cluster."""


class Look:
    """Makes pictures. Its parts are read at once; what takes longer than a look may goes on beside it.

    Args:
        overview: tells what this engine is and does.
        not_ready_reason: tells why it takes no tasks; empty: it does.
        latest: asks the other workers; None: there are none.
        limit_s: a look takes no longer.
        leaves: tells of those below nodes that are engines.
    """

    def __init__(
        self,
        overview: Shown,
        not_ready_reason: Callable[[], str],
        latest: LatestAnswers | None = None,
        *,
        limit_s: float = LOOK_S,
        leaves: Callable[[], Awaitable[Sequence[LeafStatus]]] | None = None,
    ) -> None:
        self._leaves = leaves
        self._overview = overview
        self._not_ready_reason = not_ready_reason
        self._latest = latest
        self._limit_s = limit_s
        self._cluster: Document = {}
        self._cluster_at = 0.0
        self._reading: dict[str, asyncio.Task[Any]] = {}  # by the field of a picture

    async def __call__(self, before: Picture | None) -> Picture:
        """Return a picture; what cannot be read in time is as it was *before*, and `trouble` says so."""
        if before is None and self._latest is not None:
            self._latest.forget()
        picture = Picture(time.time(), None, {}, self._cluster, self._not_ready_reason())
        if before is not None:
            picture.nodes, picture.stats = before.nodes, before.stats
        self._begin()
        try:
            await asyncio.wait(self._reading.values(), timeout=self._limit_s)
        except asyncio.CancelledError:
            for reading in self._reading.values():
                reading.cancel()
            self._reading.clear()
            raise
        picture.trouble = "; ".join(dict.fromkeys([*self._take(picture), *self._silent()]))
        self._cluster = picture.cluster
        return picture

    def _begin(self) -> None:
        """Start to read what is not being read."""
        ask = None if self._latest is None else self._latest.ask_all
        start = asyncio.get_running_loop().create_task
        if "stats" not in self._reading:
            self._reading["stats"] = start(_read(self._overview.all_stats(ask)))
        if "nodes" not in self._reading:
            self._reading["nodes"] = start(self._nodes(ask))
        is_due = time.monotonic() - self._cluster_at >= _CLUSTER_EVERY_S or not self._cluster
        if is_due and "cluster" not in self._reading:
            self._cluster_at = time.monotonic()
            self._reading["cluster"] = start(_read(self._overview.cluster_document()))

    async def _nodes(self, ask: Callable[[str], Awaitable[list[bytes]]] | None) -> list[Document]:
        """Return the nodes as the page shows them."""
        nodes = await self._overview.all_nodes(ask)
        return nodes if self._leaves is None else await folded(nodes, await self._leaves())

    def _take(self, picture: Picture) -> list[str]:
        """Put into a picture what has been read; return what is wrong with the rest."""
        troubles = []
        for name, reading in list(self._reading.items()):
            if not reading.done():
                troubles.append(f"{name} cannot be read at the moment")
                continue
            del self._reading[name]
            try:
                setattr(picture, name, reading.result())
            except EngineError as exc:
                troubles.append(str(exc))
        return troubles

    def _silent(self) -> list[str]:
        slots = [] if self._latest is None else self._latest.silent
        return [f"worker {slot} of this engine does not answer: its part is an older one" for slot in slots]


async def _read(part: Awaitable[Any]) -> Any:
    return await part

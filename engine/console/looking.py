"""One look at an engine, of all its workers, for the page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from engine.console.picture import Picture
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.api.overview import Overview
    from engine.api.readiness import Readiness
    from engine.console.picture import Document

_CLUSTER_EVERY_S: Final = 5.0  #: a cluster's part asks Redis


class Look:
    """Makes pictures.

    Args:
        overview: tells what this engine is and does.
        readiness: tells whether it takes tasks.
    """

    def __init__(self, overview: Overview, readiness: Readiness) -> None:
        self._overview = overview
        self._readiness = readiness
        self._cluster: Document = {}
        self._cluster_at = 0.0

    async def __call__(self, before: Picture | None) -> Picture:
        """Return a picture; what cannot be read is as it was *before*."""
        picture = Picture(time.time(), [], {}, self._cluster, self._readiness.not_ready_reason())
        if before is not None:
            picture.nodes, picture.stats = before.nodes, before.stats
        try:
            picture.stats = await self._overview.all_stats()
            picture.nodes = await self._overview.all_nodes()
            if time.monotonic() - self._cluster_at >= _CLUSTER_EVERY_S or not self._cluster:
                self._cluster_at = time.monotonic()
                picture.cluster = self._cluster = await self._overview.cluster_document()
        except EngineError as exc:
            picture.trouble = str(exc)
        return picture

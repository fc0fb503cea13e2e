"""Keeping an eye on the replicas of Redis: what a failover would lose is told when it changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from engine.errors import StoreError
from engine.store.redis.replicas import losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.cluster.threads import Threads
    from engine.store.redis.replicas import Replicas

_EVERY_S: Final = 0.8  #: more often than a look is fresh: writes need none of their own then


class ReplicationWatch:
    """Looks at the replicas as long as writes wait for them, and tells what a failover would lose.

    Args:
        replicas: of the store.
        threads: where it is asked.
        on_alert: told what an operator should know: key, level, message.
    """

    def __init__(
        self, replicas: Replicas, threads: Threads, on_alert: Callable[[str, str, str], None]
    ) -> None:
        self._replicas = replicas
        self._threads = threads
        self._on_alert = on_alert
        self._told: list[str] = []

    async def run(self) -> None:
        """Look until cancelled."""
        while self._replicas.wait:
            try:
                look = await self._threads.call(self._replicas.look)
                self._tell(losses(look, self._replicas.wait))
            except StoreError as exc:
                logger.debug("the replicas cannot be counted: {}", exc)
            except Exception:  # noqa: BLE001 - the next look may be better
                logger.exception("looking at the replicas failed")
            await asyncio.sleep(_EVERY_S)

    def _tell(self, texts: list[str]) -> None:
        if texts:
            self._on_alert("replicas", "warning", " ".join(texts))
        elif self._told:
            self._on_alert("replicas", "resolved", "a failover loses nothing that was answered 202")
        self._told = texts

    def facts(self) -> dict[str, Any]:
        """Return what ``GET /v1/engine/cluster`` says of replicas, as of the last look."""
        look = self._replicas.last
        counts = [] if look is None else [master.known for master in look.masters.values()]
        return {
            "wait_replicas": self._replicas.wait,
            "replicas": min(counts, default=None),
            "warnings": self._told,
        }

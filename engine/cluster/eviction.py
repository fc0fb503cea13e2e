"""Keeping an eye on whether Redis evicts keys, at all times: a CONFIG SET, or a failover, may have it begin.

Of what was evicted the tasks do not know: they would wait for ever. So the leader looks, when keys were
evicted and when it begins to lead, for stored tasks whose rows are not there, see `MissingRows`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from engine.errors import StoreError
from engine.store.redis.checks import eviction

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.cluster.membership import Membership
    from engine.cluster.threads import Threads
    from engine.notify.stored import StoredCallbacks
    from engine.store.redis.missing_rows import MissingRows
    from engine.store.redis.store import RedisStore

_EVERY_S: Final = 5.0
_ROWS_EVERY_S: Final = 1.0
_REST: Final = 20.0  #: so long is the pause after a look for rows, in times of that
_KEY: Final = "store:eviction"


class EvictionWatch:
    """Asks the masters again and again whether they may evict, and have.

    Args:
        store: of this engine.
        threads: where it is asked.
        on_alert: told what an operator should know: key, level, message.
    """

    def __init__(
        self, store: RedisStore, threads: Threads, on_alert: Callable[[str, str, str], None]
    ) -> None:
        self.times_evicted = 0  #: so often were there more evicted keys than before
        self.warnings: list[str] = []
        self.used_memory: int | None = None  #: of all masters, in bytes
        self._link = store.link
        self._threads = threads
        self._on_alert = on_alert
        self._counts: dict[str, int] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self._look()
            except StoreError as exc:
                logger.debug("Redis cannot be asked whether it evicts: {}", exc)
            except Exception:  # noqa: BLE001 - the next look may be better
                logger.exception("looking whether Redis evicts failed")
            await asyncio.sleep(_EVERY_S)

    async def _look(self) -> None:
        seen = await self._threads.call(eviction, self._link)
        self.used_memory = seen.used_memory
        new = sum(max(0, count - self._counts.get(server, 0)) for server, count in seen.counts.items())
        self._counts.update(seen.counts)
        texts: list[str] = []
        if seen.policies:
            texts.append(
                f"Redis may evict keys (maxmemory-policy {', '.join(seen.policies)}): with its memory full "
                "it drops tasks and delay queues, silently. Set maxmemory-policy noeviction; tasks are then "
                "answered 503"
            )
        if new:
            self.times_evicted += 1
            text = f"Redis has evicted {new} keys: tasks may be gone, and purges that waited in its queues"
            self._on_alert("store:evicted", "error", text)
        if texts:
            self._on_alert(_KEY, "warning", " ".join(texts))
        elif self.warnings:
            self._on_alert(_KEY, "resolved", "Redis evicts no keys any more (maxmemory-policy noeviction)")
        self.warnings = texts


class RowsWatch:
    """Has what stored tasks wait for in vain fail, while this engine leads.

    Args:
        rows: the store's side.
        eviction: tells when keys were evicted.
        membership: tells which engine leads.
        threads: where it is called.
        on_alert: told what an operator should know: key, level, message.
        callbacks: delivers those of tasks that end.
        on_settled: given the documents of those that end.
    """

    def __init__(
        self,
        rows: MissingRows,
        eviction: EvictionWatch,
        membership: Membership,
        threads: Threads,
        *,
        on_alert: Callable[[str, str, str], None],
        callbacks: StoredCallbacks,
        on_settled: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        self._rows = rows
        self._eviction = eviction
        self._membership = membership
        self._threads = threads
        self._on_alert = on_alert
        self._callbacks = callbacks
        self._on_settled = on_settled
        self._loop = asyncio.get_running_loop()
        self._since = (0, 0)  # what the last look came after: number of the leader, evictions
        self._unread: set[int] = set()  # regions to look at

    async def run(self) -> None:
        """Look when there is a reason, until cancelled."""
        while True:
            await asyncio.sleep(_ROWS_EVERY_S)
            if not self._membership.leads():
                continue
            reason = (self._membership.view.fence, self._eviction.times_evicted)
            if reason != self._since:
                self._since, self._unread = reason, set(self._rows.regions)
            began_at = self._loop.time()
            try:
                await self._look()
            except Exception:  # noqa: BLE001 - without it tasks would wait for ever
                logger.exception("looking for rows that are missing failed")
            await asyncio.sleep(_REST * (self._loop.time() - began_at))

    async def _look(self) -> None:
        count = 0
        for region in sorted(self._unread):
            membership = self._membership
            if not membership.leads():
                return
            configured = membership.configured()
            try:
                found = await self._threads.call(
                    self._rows.look, region, configured, now=membership.now(), fence=self._since[0]
                )
            except StoreError as exc:  # it is looked at again
                logger.debug("region {} has to wait: {}", region, exc)
                continue
            self._unread.discard(region)
            self._callbacks.written(0, found.callbacks)
            self._on_settled(found.settled)
            count += found.subtasks
        if count:
            text = f"{count} subtasks that waited in Redis have failed: their rows are not there any more"
            self._on_alert("store:rows", "error", text)

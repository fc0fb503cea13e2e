"""Taking over what another engine left in the shared journal, and what this one does not know that it has.

An entry changes hands in one step, with the stubs of its tasks; from then on results of the engine before
are refused, should it still be there. Its tasks begin where their last progress says; of one that was
cancelled there nothing is sent.

An entry of our own that we do not know of comes from a commit whose answer was lost: its clients were told
503, and may have gone. It is worked all the same: nothing that is stored is left lying.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from loguru import logger

from engine.errors import StoreError
from engine.store.redis.records import journal_key, written_at
from engine.tasks.progress import is_cancelled, read_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from engine.cluster.threads import Threads
    from engine.delivery.journal_rows import JournalRows
    from engine.notify.stored import StoredCallbacks
    from engine.saver.saver import Saver
    from engine.store.redis.members import Members
    from engine.store.redis.records import Taken
    from engine.tasks.records import Accepted, JournalKey, Progress
    from engine.tasks.region import RegionMap

_KNOWN_S: Final = 1.0  #: after a commit the loop has surely been told of its entries
_SAVING_S: Final = 0.02
_SAVING_LIMIT: Final = 500


class Rows(Protocol):
    """Where the tasks of a journal entry go on; see `engine.recovery.rows`."""

    def replay_row(
        self,
        key: JournalKey,
        records: list[Accepted],
        progress: dict[str, Progress] | None = None,
        *,
        plans: Mapping[bytes, bytes] | None = None,
        cancelled: Collection[str] = (),
        age_s: float | None = None,
    ) -> int:
        """Begin with the tasks of a row that are not in memory; return how many that were."""


class Takeover:
    """Takes entries over, and begins with their tasks.

    Args:
        members: the store's side.
        threads: where it is called.
        rows: where the tasks go on.
        journal_rows: know which entries are at work.
        regions: the tasks in memory.
        saver: the engine's only one, with a shared store.
        callbacks: delivers the callbacks that an entry holds.
        now: UNIX time by the store's clock, which entries bear.
    """

    def __init__(
        self,
        members: Members,
        threads: Threads,
        *,
        rows: Rows,
        journal_rows: JournalRows,
        regions: RegionMap,
        saver: Saver,
        callbacks: StoredCallbacks,
        now: Callable[[], float],
    ) -> None:
        self._members = members
        self._threads = threads
        self._rows = rows
        self._journal_rows = journal_rows
        self._regions = regions
        self._saver = saver
        self._callbacks = callbacks
        self._now = now

    async def take_from(self, consumer: str, region: int) -> None:
        """Take everything that a consumer has in a region.

        Raises:
            StoreError: the store cannot be read or written.
        """
        count = 0
        while ids := await self._threads.call(self._first_ids, consumer, region):
            entries = await self._threads.call(self._members.take, consumer, region, ids)
            for taken in entries:
                count += await self._begin(taken)
            if not entries:
                break
        if count:
            logger.info("{} unfinished tasks of {} taken over in region {}", count, consumer, region)

    def _first_ids(self, consumer: str, region: int) -> list[str]:
        return next(iter(self._members.entries_of(consumer, region)), [])

    async def find_lost(self) -> None:
        """Begin with entries of our own that nothing here knows of.

        Raises:
            StoreError: the store cannot be read or written.
        """
        me = self._members.store.consumer
        idle_ms = int((self._saver.commit_s + _KNOWN_S) * 1000)  # what the commit under way writes is younger
        pending = await self._threads.call(self._members.pending)
        known = self._known_keys()
        for region, count in pending.get(me, {}).items():
            if count <= sum(key.startswith(f"{region}:") for key in known):
                continue
            try:
                await self._find_lost_in(region, idle_ms)
            except StoreError as exc:  # the others need not wait for this one
                logger.debug("region {} has to wait: {}", region, exc)

    async def _find_lost_in(self, region: int, idle_ms: int) -> None:
        me = self._members.store.consumer
        for ids in await self._threads.call(self._idle_ids, me, region, idle_ms):
            known = self._known_keys()
            lost = [entry for entry in ids if journal_key(region, entry) not in known]
            if not lost:
                continue
            for taken in await self._threads.call(self._members.take, me, region, lost):
                logger.warning("journal entry {} was written but not answered; taken up", taken.entry.id)
                await self._begin(taken)

    def _known_keys(self) -> set[str]:
        """Return the journal entries that this engine knows it has: with tasks, with callbacks, and over."""
        at_work = {str(key) for key in self._journal_rows.at_work()}
        return self._callbacks.keys() | at_work | {str(key) for key in self._saver.keys_going()}

    def _idle_ids(self, consumer: str, region: int, idle_ms: int) -> list[list[str]]:
        return list(self._members.entries_of(consumer, region, idle_ms=idle_ms))

    async def _begin(self, taken: Taken) -> int:
        """Begin with what an entry holds; return how many tasks that were."""
        key = journal_key(taken.region, taken.entry.id)
        if taken.entry.callback is not None:
            self._callbacks.written(0, [taken.entry.callback])
            return 0
        if not await self._not_being_saved([record.id for record in taken.records]):
            return 0  # it stays as it is, and `find_lost` comes back to it
        progress = {
            task_id: reached
            for task_id, text in taken.progress.items()
            if (reached := read_progress(text)) is not None
        }
        cancelled = {task_id for task_id, text in taken.progress.items() if is_cancelled(text)}
        count = self._rows.replay_row(
            key,
            taken.records,
            progress,
            plans=taken.plans,
            cancelled=cancelled,
            age_s=self._now() - written_at(taken.entry.id),
        )
        if not count and not self._journal_rows.has(key):
            self._saver.settle_journal(key)
        return count

    async def _not_being_saved(self, ids: list[str]) -> bool:
        """Wait until no client's task of one of these ids is being saved; False: that takes too long."""
        for _ in range(_SAVING_LIMIT):
            tasks = [self._regions.get(task_id) for task_id in ids]
            if not any(task is not None and not task.is_committed for task in tasks):
                return True
            await asyncio.sleep(_SAVING_S)
        return False

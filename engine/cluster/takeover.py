"""Taking over what another engine left in the shared journal, and what this one does not know that it has.

An entry changes hands in one step, with the stubs of its tasks; from then on results of the engine before
are refused, should it still be there. Its tasks begin where their last progress says.

An entry of our own that we do not know of comes from a commit whose answer was lost: its clients were told
503, and may have gone. It is worked all the same: nothing that is stored is left lying.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from engine.store.redis.records import journal_key
from engine.tasks.progress import read_progress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.process.lifecycle import Engine
    from engine.store.redis.members import Members, Taken

_KNOWN_S: Final = 1.0  #: after a commit the loop has surely been told of its entries
_SAVING_S: Final = 0.02
_SAVING_LIMIT: Final = 500


class Takeover:
    """Takes entries over, and their tasks up.

    Args:
        engine: that works them.
        members: the store's side.
        call: runs blocking functions.
    """

    def __init__(self, engine: Engine, members: Members, call: Callable[..., Awaitable[Any]]) -> None:
        self._engine = engine
        self._members = members
        self._call = call

    async def take_from(self, consumer: str, region: int) -> None:
        """Take everything that a consumer has in a region.

        Raises:
            StoreError: the store cannot be read or written.
        """
        count = 0
        while ids := await self._call(self._first_ids, consumer, region):
            taken = await self._call(self._members.take, consumer, region, ids)
            for one in taken:
                count += await self._take_up(one)
            if not taken:
                break
        if count:
            logger.info("{} unfinished tasks of {} taken over in region {}", count, consumer, region)

    def _first_ids(self, consumer: str, region: int) -> list[str]:
        return next(iter(self._members.entries_of(consumer, region)), [])

    async def find_lost(self) -> None:
        """Take up entries of our own that nothing here knows of."""
        me = self._members.store.consumer
        [saver] = self._engine.savers.savers
        idle_ms = int((saver.commit_s + _KNOWN_S) * 1000)  # what the commit under way has written is younger
        pending = await self._call(self._members.pending)
        known = self._engine.journal_keys()
        for region, count in pending.get(me, {}).items():
            if count <= sum(key.startswith(f"{region}:") for key in known):
                continue
            for ids in await self._call(self._idle_ids, me, region, idle_ms):
                known = self._engine.journal_keys()
                lost = [entry for entry in ids if journal_key(region, entry) not in known]
                if not lost:
                    continue
                for one in await self._call(self._members.take, me, region, lost):
                    logger.warning("journal entry {} was written but not answered; taken up", one.entry.id)
                    await self._take_up(one)

    def _idle_ids(self, consumer: str, region: int, idle_ms: int) -> list[list[str]]:
        return list(self._members.entries_of(consumer, region, idle_ms=idle_ms))

    async def _take_up(self, taken: Taken) -> int:
        """Begin with what an entry holds; return how many tasks that were."""
        engine = self._engine
        key = journal_key(taken.region, taken.entry.id)
        if taken.entry.callback is not None:
            engine.callbacks_written(0, [taken.entry.callback])
            return 0
        if not await self._not_being_saved([record.id for record in taken.records]):
            return 0  # it stays as it is, and `find_lost` comes back to it
        progress = {
            task_id: found
            for task_id, text in taken.progress.items()
            if (found := read_progress(text)) is not None
        }
        count = engine.takeup.replay_row(key, taken.records, progress)
        if not count and not engine.dispatch.has_journal(key):
            engine.savers.savers[0].settle_journal(key)
        return count

    async def _not_being_saved(self, ids: list[str]) -> bool:
        """Wait until no client's task of one of these ids is being saved; False: that takes too long."""
        for _ in range(_SAVING_LIMIT):
            tasks = [self._engine.regions.get(task_id) for task_id in ids]
            if not any(task is not None and not task.is_committed for task in tasks):
                return True
            await asyncio.sleep(_SAVING_S)
        return False

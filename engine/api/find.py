"""Finding one task: in memory, in the store, and with the other workers of this engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.errors import RequestError, StoreError
from engine.intake.task_body import ID
from engine.tasks import documents, stored_documents
from engine.tasks.handed_ids import is_of
from engine.tasks.told import Told, callback_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from engine.intake.auth import Token
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.tasks.region import RegionMap
    from engine.tasks.task import Task
    from engine.workers.peers import Peers

_REPLAY_LIMIT_S: Final = 10.0


class FindTask:
    """Finds tasks by their ids. A *private* document has what the store keeps besides: digest, token.

    Args:
        regions: the tasks in memory.
        savers: which saver, and so which store file, has a task.
        reader: reads the stores.
        peers: the other workers, where a task is in the store of one of them.
        replayed: set while nothing is left in the store that a worker before this one has accepted.
        retention_days: how long settled tasks are kept.
        told_of: tells what has become of the last report of a task, when its callback is not over here.
    """

    def __init__(
        self,
        regions: RegionMap,
        savers: SaverPool,
        reader: StoreReader,
        *,
        peers: Peers | None,
        replayed: asyncio.Event,
        retention_days: float,
        told_of: Callable[[str], Told | None],
    ) -> None:
        self._regions = regions
        self._savers = savers
        self._reader = reader
        self._peers = peers
        self._replayed = replayed
        self._retention_days = retention_days
        self._told_of = told_of

    async def document(self, task_id: str, token: Token) -> dict[str, Any]:
        """Return a task's public document, whichever worker has it.

        Raises:
            RequestError: 404, no such task, or none that *token* may see.
            StoreError: the store cannot be read, or the worker that has it does not answer.
        """
        return stored_documents.public(await self._seen(task_id, token))

    async def with_callback(self, task_id: str, token: Token) -> dict[str, Any]:
        """Return `document`, and with it what became of the task's callback, if it asked for one."""
        seen = await self._seen(task_id, token)
        document = stored_documents.public(seen)
        callback = callback_of(seen)
        if callback is not None:
            document["callback"] = callback
        return document

    async def _seen(self, task_id: str, token: Token) -> dict[str, Any]:
        """Return the private document of a task that *token* may see; raises as `document`."""
        document = await self.private(task_id) if ID.fullmatch(task_id) else None
        if document is None or not token.may_see(document.get("token", "")):
            raise self.no_task(task_id)
        return document

    async def private(self, task_id: str) -> dict[str, Any] | None:
        """Return a task's private document, whichever worker has it; None: there is no such task.

        Raises:
            StoreError: the store cannot be read, or the worker that has it does not answer.
        """
        peers = self._peers
        is_mine = peers is None or peers.is_mine(task_id)
        document = await self.here(task_id) if is_mine else None
        if document is None and peers is not None:
            document = await peers.find(task_id, is_sure=True)
            if document is None and is_mine:  # it may have come here meanwhile, or be on its way
                await self._wait_replayed()
                document = await self.here(task_id)
        return document

    async def here(self, task_id: str) -> dict[str, Any] | None:
        """Return a task's private document if this worker has it.

        What a worker before this one left is waited for, once that one has gone.

        Raises:
            StoreError: the store cannot be read, or what was left is not replayed in time.
        """
        while True:
            task = self.in_memory(task_id)
            if task is not None:
                return self._told(private_document(task), task)
            before = self._told_of(task_id)
            text = await self._reader.read(self._savers.of(task_id).store.document, task_id)
            if text is not None:
                document = self._told(msgspec.json.decode(text))
                if before is not None and "callback" in document:  # what became of it was written meanwhile
                    document.setdefault("told", msgspec.to_builtins(before))
                return document
            if self._replayed.is_set() or (self._peers is not None and self._peers.has_predecessor()):
                return None
            await self._wait_replayed()

    def _told(self, document: dict[str, Any], task: Task | None = None) -> dict[str, Any]:
        """Return a private document with what is known here of its callback."""
        if "callback" not in document:
            return document
        told = self._told_of(document["task_id"])
        if told is None and task is not None and task.reported is not None and task.told is None:
            told = Told(task.reported, "pending", 0)  # it is being written
        if told is not None:
            document["told"] = msgspec.to_builtins(told)
        return document

    async def parts(self, stems: Collection[str]) -> list[str]:
        """Return the ids of parts of tasks that this worker works on, or of which its store has rows.

        Args:
            stems: of those tasks, see `engine.tasks.handed_ids`.

        Raises:
            StoreError: the store cannot be read, or what was left is not replayed in time.
        """
        if not self._replayed.is_set() and not (self._peers is not None and self._peers.has_predecessor()):
            await self._wait_replayed()
        found = {task.id for task in self._regions.tasks() if is_of(task.id, stems)}
        for saver in self._savers.savers:
            found.update(await self._reader.read(saver.store.parts_parked, list(stems)))
        return list(found)

    def in_memory(self, task_id: str) -> Task | None:
        """Return a task at work here, if it is stored."""
        task = self._regions.get(task_id)
        return task if task is not None and task.is_committed else None

    def no_task(self, task_id: str) -> RequestError:
        """Return the 404 for a task that is nowhere, or that the client may not see."""
        days = self._retention_days
        return RequestError(404, f"there is no task {task_id!r}; settled ones are kept {days:g} days")

    async def _wait_replayed(self) -> None:
        """Wait until nothing is left that another worker accepted.

        Raises:
            StoreError: that takes long; the client should ask again.
        """
        try:
            await asyncio.wait_for(self._replayed.wait(), _REPLAY_LIMIT_S)
        except TimeoutError:
            raise StoreError("what another worker left is not taken up yet") from None


def private_document(task: Task) -> dict[str, Any]:
    """Return the private document of a task in memory."""
    return msgspec.to_builtins(documents.stored_document(task))  # type: ignore[no-any-return]

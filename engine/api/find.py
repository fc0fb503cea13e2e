"""Finding one task: in memory, in the store, and with the other workers of this engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.errors import RequestError, StoreError
from engine.intake.task_body import ID
from engine.tasks import documents, stored_documents

if TYPE_CHECKING:
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
    ) -> None:
        self._regions = regions
        self._savers = savers
        self._reader = reader
        self._peers = peers
        self._replayed = replayed
        self._retention_days = retention_days

    async def document(self, task_id: str, token: Token) -> dict[str, Any]:
        """Return a task's public document, whichever worker has it.

        Raises:
            RequestError: 404, no such task, or none that *token* may see.
            StoreError: the store cannot be read, or the worker that has it does not answer.
        """
        document = await self.private(task_id) if ID.fullmatch(task_id) else None
        if document is None or not token.may_see(document.get("token", "")):
            raise self.no_task(task_id)
        return stored_documents.public(document)

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
                return private_document(task)
            text = await self._reader.read(self._savers.of(task_id).store.document, task_id)
            if text is not None:
                return msgspec.json.decode(text)  # type: ignore[no-any-return]
            if self._replayed.is_set() or (self._peers is not None and self._peers.has_predecessor()):
                return None
            await self._wait_replayed()

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

"""Cancelling what an engine above handed down: tasks with all of their parts, wherever they are here.

Which parts there are only this engine knows: they were handed down by any engine of the place above, and
before and after its restarts.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from loguru import logger

from engine.base.background import Background
from engine.errors import RequestError, StoreError
from engine.tasks.by_target import DOOR
from engine.tasks.handed_ids import stem_of
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from engine.api.find import FindTask
    from engine.intake.auth import Token
    from engine.workers.peers import Peers

_OTHERS_S: Final = 2.0  #: after which rows are looked for once more that other engines have left meanwhile


class Elsewhere(Protocol):
    """The other engines of a shared store."""

    async def cancel_parts(self, stems: Collection[str]) -> None:
        """Tell all to cancel the parts of some tasks that they work on."""


class CancelHanded:
    """Cancels what was handed down.

    Args:
        find: finds tasks and their parts.
        cancel_here: cancels one that this worker, or a shared store, has.
        peers: the other workers, where tasks are in the stores of them.
        elsewhere: tells other engines, where several share a store.
    """

    def __init__(
        self,
        find: FindTask,
        cancel_here: Callable[[str, Token], Awaitable[dict[str, Any]]],
        *,
        peers: Peers | None,
        elsewhere: Elsewhere | None,
    ) -> None:
        self._find = find
        self._cancel_here = cancel_here
        self._peers = peers
        self._elsewhere = elsewhere
        self._background = Background()

    async def cancel(self, names: Sequence[str], token: Token) -> int:
        """Cancel tasks and all of their parts; return how many had something left.

        Args:
            names: their ids; those of parts may be among them.
            token: of the client: it cancels what it may see.

        Raises:
            StoreError: a store fails, or a worker that may have some of them does not answer.
        """
        count = await self.here(names, token)
        if self._peers is not None:
            path = worker_path("handed", token=token.name)
            for reply in await self._peers.ask_slots("DELETE", path, msgspec.json.encode(list(names))):
                count += msgspec.json.decode(reply.body).get("cancelled", 0)
        if self._elsewhere is not None:
            await self._elsewhere.cancel_parts([stem_of(name) for name in names])
            self._background.start(self._once_more(names, token))
        return count

    async def here(self, names: Sequence[str], token: Token) -> int:
        """See `cancel`, for what this worker has."""
        wanted = [*names, *await self._find.parts({stem_of(name) for name in names})]
        count = 0
        for name in dict.fromkeys(wanted):
            if not await self._was_handed(name):
                continue
            try:
                await self._cancel_here(name, token)
            except RequestError:
                continue  # it is not here, or nothing is left of it
            count += 1
        return count

    async def _was_handed(self, name: str) -> bool:
        """Tell whether a task came from above: a client here may have one of the same id."""
        task = self._find.in_memory(name)
        if task is not None:
            return task.by.door == DOOR
        document = await self._find.here(name)
        return document is not None and document.get("by", {}).get("door") == DOOR

    async def _once_more(self, names: Sequence[str], token: Token) -> None:
        """Cancel parts that other engines worked on, and left rows of before they heard of it."""
        await asyncio.sleep(_OTHERS_S)
        try:
            await self.here(names, token)
        except StoreError as exc:
            logger.warning("parts of cancelled tasks may still be on their way: {}", exc)

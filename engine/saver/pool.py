"""All savers of an engine; a task's saver is told by its id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.tasks.shards import shard_of

if TYPE_CHECKING:
    from engine.errors import StoreError
    from engine.saver.saver import Saver


class SaverPool:
    """The savers. One task's records always go to the same one, in order."""

    def __init__(self, savers: list[Saver]) -> None:
        self.savers = savers

    def __len__(self) -> int:
        """Return how many records wait to be written."""
        return sum(map(len, self.savers))

    def of(self, task_id: str) -> Saver:
        """Return the saver of a task."""
        if len(self.savers) == 1:
            return self.savers[0]
        return self.savers[shard_of(task_id, len(self.savers))]

    async def flushed(self, limit_s: float | None = None) -> None:
        """Wait until every saver has written all that it had been handed before.

        Raises:
            StoreError: see `Saver.flushed`.
        """
        await asyncio.gather(*(saver.flushed(limit_s) for saver in self.savers))

    @property
    def error(self) -> StoreError | None:
        """The error of a store that fails at the moment, or None."""
        return next((saver.error for saver in self.savers if saver.error is not None), None)

    @property
    def is_partial(self) -> bool:
        """Whether tasks are still saved, though not all of them."""
        return all(saver.error is None or saver.is_partial for saver in self.savers)

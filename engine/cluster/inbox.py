"""Messages between engines: *look*, because one of them leaves; *cancel ID*, because a client asks for it.

Who hears the latter cancels what it has of that task: the task itself, or rows that it is about to deliver.
*parts STEM…* has parts cancelled that an engine above handed down, of all tasks that are named.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.backoff import backoff_s
from engine.errors import StoreError
from engine.tasks.handed_ids import is_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.cluster.threads import Threads
    from engine.cluster.watch import Watch
    from engine.delivery.dispatch import Dispatch
    from engine.delivery.queues import DelayQueues
    from engine.store.redis.members import Members
    from engine.tasks.region import RegionMap
    from engine.tasks.task import Task

_WAIT_MAX_S: Final = 1.0
_AGAIN_S: Final = 1.0


class Inbox:
    """Hears what other engines say, and says something to them.

    Args:
        members: the store's side.
        threads: where it is called.
        watch: takes over what an engine that leaves has left.
        dispatch: cancels tasks.
        regions: the tasks in memory.
        queues: told of cancelled tasks of which this engine may be delivering rows.
        timeout_s: ``store.timeout_s``; a wait for a message must end well before it.
    """

    def __init__(
        self,
        members: Members,
        threads: Threads,
        watch: Watch,
        *,
        dispatch: Dispatch,
        regions: RegionMap,
        queues: DelayQueues,
        timeout_s: float,
    ) -> None:
        self._members = members
        self._threads = threads
        self._watch = watch
        self._dispatch = dispatch
        self._regions = regions
        self._queues = queues
        self._wait_s = min(_WAIT_MAX_S, timeout_s / 2)

    async def listen(self) -> None:
        """Hear messages until cancelled."""
        while True:
            try:
                await self._hear(await self._threads.call(self._members.receive, self._wait_s))
            except StoreError:
                await asyncio.sleep(backoff_s(0, first_s=_AGAIN_S, max_s=_AGAIN_S))
            except Exception:  # noqa: BLE001 - the next message must be heard
                logger.exception("a message of another engine failed")
                await asyncio.sleep(_AGAIN_S)

    async def _hear(self, message: str) -> None:
        if message == "look":
            await self._watch.look()
        elif message.startswith("cancel "):
            task_id = message.partition(" ")[2]
            task = self._regions.get(task_id)
            self._queues.cancelled(task_id)
            if task is not None:
                self._cancel(task)
        elif message.startswith("parts "):
            stems = frozenset(message.split(" ")[1:])
            for task in [task for task in self._regions.tasks() if is_of(task.id, stems)]:
                self._queues.cancelled(task.id)
                self._cancel(task)

    def _cancel(self, task: Task) -> None:
        if task.is_committed and not task.is_handed:
            self._dispatch.cancel(task)

    async def ask_to_cancel(self, consumer: str, task_id: str) -> None:
        """Ask an engine to cancel what it has of a task.

        Raises:
            StoreError: the store cannot be written.
        """
        await self._threads.call(self._members.send, consumer, f"cancel {task_id}")

    async def ask_to_cancel_parts(self, consumer: str, stems: Iterable[str]) -> None:
        """Ask an engine to cancel what it has of the parts of some tasks; raises as `ask_to_cancel`."""
        await self._threads.call(self._members.send, consumer, " ".join(["parts", *stems]))

"""Going on with what the store holds: at a start, and after the worker before this one has gone.

A start takes everything up before it accepts. During a hot reload the new worker accepts while the old
one still finishes, on the same store; it leaves the old one's journal rows and delay queues alone until
the old one has exited (`adopt`), and then takes up what that did not finish. Its own rows are told from
the old one's by their numbers (`Saver.has_row`) and by the tasks it has in memory. When it is the new one
that dies, the old one, if it serves on, takes up what that left in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.errors import RequestError
from engine.intake.validate import decode
from engine.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.delivery.dispatch import Dispatch
    from engine.delivery.queues import DelayQueues
    from engine.intake.admission import Admission
    from engine.intake.validate import Validator
    from engine.saver.reader import StoreReader
    from engine.saver.saver import Saver
    from engine.tasks.records import Accepted, Callback, JournalKey
    from engine.tasks.region import RegionMap

Progress = dict[tuple[str, int], bytes]
"""Node and operation → a byte per target, 1 when it was acked; see `progress`."""

_WRITE_LIMIT_S: Final = 30.0
_YIELD_ROWS: Final = 50  #: journal rows between two turns of the loop: clients are served meanwhile


class TakeUp:
    """Takes up stored work.

    Args:
        on_callbacks: given a saver's number and its undelivered callbacks.
        is_shared: other workers of this slot may have the store open too.
        is_waiting: there is a predecessor, so everything is left to `adopt`.
    """

    def __init__(
        self,
        regions: RegionMap,
        dispatch: Dispatch,
        delay: DelayQueues,
        validator: Validator,
        accept: Admission,
        *,
        reader: StoreReader,
        on_callbacks: Callable[[int, list[Callback]], None],
        is_shared: bool,
        is_waiting: bool,
    ) -> None:
        self._regions = regions
        self._dispatch = dispatch
        self._delay = delay
        self._reader = reader
        self._validator = validator
        self._accept = accept
        self._on_callbacks = on_callbacks
        self.done = asyncio.Event()  #: nothing of an earlier process is left to be taken up
        self._is_shared = is_shared
        self._is_waiting = is_waiting
        delay.is_held = is_waiting

    async def at_start(self) -> None:
        """Take up everything, or with a predecessor only keep nodes that have rows from being ready.

        Raises:
            StoreError: the store cannot be read or written.
        """
        if self._is_waiting:
            for saver in self._dispatch.savers.savers:
                for name in await self._reader.read(saver.store.depths):
                    if name in self._dispatch.nodes:
                        self._dispatch.nodes[name].start_probe()
            return
        await self._all()

    async def adopt(self) -> None:
        """The other worker of this slot has gone: take up what it left. Safe to call again.

        Raises:
            StoreError: the store cannot be read or written.
        """
        if self._is_shared:
            self.done.clear()
            await self._all()

    async def _all(self) -> None:
        """Delay queues, callbacks, journal.

        In that order: rows of tasks that are worked again from the start are dropped before those can
        add new ones, and a node with rows is not ready before they are delivered.
        """
        for number, saver in enumerate(self._dispatch.savers.savers):
            await self._drop_orphans(saver)
            behind = await self._reader.read(saver.store.nodes_behind)
            await self._delay.load(await self._reader.read(saver.store.depths), behind)
            self._on_callbacks(number, await self._reader.read(saver.store.pending_callbacks))
        self._delay.is_held = False
        for name in self._delay.names():
            await self._rows_of(name)
        taken = 0
        for saver in self._dispatch.savers.savers:
            taken += await self._journal_of(saver)
        self.done.set()
        if taken:
            logger.info("{} unfinished tasks taken up", taken)

    async def _drop_orphans(self, saver: Saver) -> None:
        found = await self._reader.read(saver.store.orphans)
        left = [task_id for task_id in found if self._regions.get(task_id) is None]
        if not left:
            return
        saver.drop_orphans(left)
        await saver.flushed(_WRITE_LIMIT_S)

    async def _rows_of(self, name: str) -> None:
        node = self._dispatch.nodes.get(name)
        if node is not None:
            node.start_probe()
            self._delay.deliver_if_returned(node)
            return
        count = self._delay.depth(name)
        logger.warning("{} is not configured any more; its {} delayed subtasks fail", name, count)
        await self._delay.drop_unknown(name)

    async def _journal_of(self, saver: Saver) -> int:
        taken = 0
        rows = await self._reader.read(lambda: list(saver.store.journal()))
        for place, (key, records) in enumerate(rows, 1):
            if saver.has_row(key):
                continue
            replayed = self.replay_row(key, records)
            if not replayed:
                saver.settle_journal(key)
            else:
                saver.add_row(key)
            taken += replayed
            if self._is_shared and place % _YIELD_ROWS == 0:
                await asyncio.sleep(0)
        return taken

    def replay_row(
        self, key: JournalKey, records: list[Accepted], progress: dict[str, Progress] | None = None
    ) -> int:
        """Take the tasks of a journal row up that are not in memory; return how many that were.

        Args:
            key: the row's.
            records: those of its tasks that have not settled.
            progress: task id → how far an engine before this one had come.
        """
        replayed = 0
        for record in records:
            asking = self._accept.release_asking(record.id)
            there = self._regions.get(record.id)
            if there is not None and there.is_lost:
                self._dispatch.drop(there)  # it had been taken from here, and comes back
            elif there is not None:
                continue  # a client handed it in again, and its own row is there too
            self._replay(record, key, (progress or {}).get(record.id))
            if asking is not None:
                self._accept.answer_asking(asking)
            replayed += 1
        return replayed

    def _replay(self, record: Accepted, key: JournalKey, progress: Progress | None) -> None:
        try:
            task = self._validator.replay(record.id, record.body, record.created_at, record.due_s)
        except RequestError as exc:
            task = Task.internal([], owner=None, task_id=record.id)
            task.created_at, task.due_s, task.due_at = record.created_at, record.due_s, record.created_at
            task.digest, task.token = record.digest, record.token
            with contextlib.suppress(RequestError):
                task.callback = decode(record.body).callback
            self._regions.add(task)
            self._dispatch.adopt_failed(task, key, f"cannot go on after a restart: {exc}")
            return
        task.digest, task.token = record.digest, record.token
        task.progress = progress
        self._regions.add(task)
        self._dispatch.live += task.total
        self._dispatch.submit(task, key, left_s=task.due_at - time.time())

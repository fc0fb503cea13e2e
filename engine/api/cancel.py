"""Cancelling a task, wherever it is at work: here, in the store, with another worker or another engine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
from loguru import logger

from engine.api.cancel_handed import CancelHanded
from engine.base.background import Background
from engine.errors import NotCancelledError, RequestError, StoreError
from engine.intake.task_body import ID
from engine.tasks import documents, stored_documents
from engine.tasks.progress import is_cancelled
from engine.tasks.words import FINAL_STATES, State
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from engine.api.find import FindTask
    from engine.cluster.cluster import Cluster
    from engine.delivery.dispatch import Dispatch
    from engine.delivery.queues import DelayQueues
    from engine.intake.auth import Token
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.tasks.task import Task
    from engine.workers.peers import Peers

WRITE_LIMIT_S: Final = 5.0
_OTHER_ENGINE_LIMIT_S: Final = 5.0
_TAKEOVER_MAX_S: Final = 10.0  #: of a takeover a client's request waits no longer
_ASK_AGAIN_S: Final = 1.0
_POLL_S: Final = 0.05
_OK: Final = 200


class CancelElsewhere:
    """Has tasks cancelled by the engines that work on them, with a store that those share.

    Args:
        cluster: asks them.
        reader: tells which one has a task.
        takeover_s: so long after its last sign of life the others take over what an engine had.
    """

    def __init__(self, cluster: Cluster, reader: StoreReader, takeover_s: float) -> None:
        self._cluster = cluster
        self._reader = reader
        self._limit_s = _OTHER_ENGINE_LIMIT_S + min(takeover_s, _TAKEOVER_MAX_S)

    async def cancel(self, task_id: str) -> bool:
        """Let the engine that works on a task cancel it, and store that; False when none works on it.

        One that takes the task over meanwhile is asked too, and again until it has begun with the task.

        Raises:
            StoreError: the store cannot be read or written; `NotCancelledError`: no engine does it in time.
        """
        asked, ask_at = "", 0.0
        now = asyncio.get_running_loop().time
        until = now() + self._limit_s
        while live := await self._reader.read(self._cluster.members.store.live, task_id):
            if is_cancelled(live.progress):
                return True  # what is on the wire is answered, or not, in its own time
            if live.consumer != asked or now() >= ask_at:
                await self._cluster.inbox.ask_to_cancel(live.consumer, task_id)
                asked, ask_at = live.consumer, now() + _ASK_AGAIN_S
            if now() > until:
                raise NotCancelledError(f"the engine {live.consumer} that works on it does not answer")
            await asyncio.sleep(_POLL_S)
        return bool(asked)

    async def forget_rows(self, task_id: str) -> None:
        """Tell all engines that a task is cancelled in the store: one may be about to deliver rows of it."""
        try:
            for consumer in self._cluster.others():
                await self._cluster.inbox.ask_to_cancel(consumer, task_id)
        except StoreError as exc:
            logger.warning("rows of the cancelled task {} may still be on their way: {}", task_id, exc)

    async def cancel_parts(self, stems: Collection[str]) -> None:
        """Tell all engines to cancel the parts of some tasks that they work on.

        Raises:
            StoreError: the store cannot be written.
        """
        for consumer in self._cluster.others():
            await self._cluster.inbox.ask_to_cancel_parts(consumer, stems)


class CancelTask:
    """Cancels what has no answer of a task.

    Args:
        find: finds the task.
        dispatch: cancels a task in memory.
        savers: cancel a task that is in the store only.
        delay: counts its rows again afterwards.
        peers: the other workers, where a task is in the store of one of them.
        elsewhere: asks other engines, where several share a store.
        write_limit_s: the store must write within that time.
    """

    def __init__(
        self,
        find: FindTask,
        dispatch: Dispatch,
        savers: SaverPool,
        delay: DelayQueues,
        *,
        peers: Peers | None,
        elsewhere: CancelElsewhere | None,
        write_limit_s: float,
    ) -> None:
        self._find = find
        self._dispatch = dispatch
        self._savers = savers
        self._delay = delay
        self._peers = peers
        self._elsewhere = elsewhere
        self._write_limit_s = write_limit_s
        self._background = Background()
        self.on_cancelled: Callable[[dict[str, Any]], None] = _tell_nobody  #: told of stored tasks
        self.handed = CancelHanded(find, self.cancel_here, peers=peers, elsewhere=elsewhere)

    async def cancel(self, task_id: str, token: Token) -> dict[str, Any]:
        """Cancel what has no answer of a task, and return its document: nothing of it is sent again.

        Raises:
            RequestError: 404 no such task that *token* may see, 409 it has settled.
            StoreError: the store fails, or the worker that has it does not answer.
        """
        if not ID.fullmatch(task_id):
            raise self._find.no_task(task_id)
        peers = self._peers
        if peers is not None and (self._find.in_memory(task_id) is None or not peers.is_mine(task_id)):
            path = worker_path("task", task_id, token=token.name)
            reply = await peers.ask_owner("DELETE", path, task_id)
            if reply is not None:
                answer = msgspec.json.decode(reply.body)
                if reply.status == _OK:
                    return answer  # type: ignore[no-any-return]
                raise RequestError(reply.status, answer["detail"])
            if not peers.is_mine(task_id):
                raise self._find.no_task(task_id)
        return await self.cancel_here(task_id, token)

    async def cancel_here(self, task_id: str, token: Token) -> dict[str, Any]:
        """See `cancel`, for what this worker has."""
        task = self._find.in_memory(task_id)
        if task is not None and task.is_handed:
            await self._written(task_id)
            task = None
        if task is not None and token.may_see(task.token):
            return await self._cancel_in_memory(task)
        return await self._cancel_stored(task_id, token)

    async def _cancel_in_memory(self, task: Task) -> dict[str, Any]:
        if task.state in FINAL_STATES or not self._dispatch.cancel(task):
            raise _nothing_left(task.id, task.state)
        document = msgspec.to_builtins(documents.document(task))
        self._savers.of(task.id).after_all(self._start_recount)
        await self._written(task.id)
        return document  # type: ignore[no-any-return]

    async def _cancel_stored(self, task_id: str, token: Token) -> dict[str, Any]:
        find = self._find
        stored = await find.here(task_id)
        if stored is None or not token.may_see(stored.get("token", "")):
            raise find.no_task(task_id)
        if stored_documents.is_final(stored):
            raise _nothing_left(task_id, stored["state"])
        if self._elsewhere is not None and await self._elsewhere.cancel(task_id):
            stored = await find.here(task_id) or stored
            if stored["state"] == State.CANCELLED:
                return stored_documents.public(stored)
        if stored["state"] != State.PARTIAL and not (self._elsewhere is not None and stored["delayed"]):
            raise _nothing_left(task_id, stored["state"])
        saver = self._savers.of(task_id)
        saver.cancel_stored(task_id, time.time())
        self._delay.cancelled(task_id)
        saver.after_all(self._start_recount)
        await self._written(task_id)  # a GET straight after this answer must see it
        if self._elsewhere is not None:
            await self._elsewhere.forget_rows(task_id)
        self.on_cancelled(stored)
        return stored_documents.public(await find.here(task_id) or stored)

    async def _written(self, task_id: str) -> None:
        """Wait until everything queued so far for a task's store is on disk.

        Raises:
            StoreError: the store cannot be written at the moment.
        """
        await self._savers.of(task_id).flushed(self._write_limit_s)

    def _start_recount(self) -> None:
        self._background.start(self._recount())

    async def _recount(self) -> None:
        """The store deleted rows of delay queues without counting them."""
        with contextlib.suppress(StoreError):
            for name in self._delay.names():
                await self._delay.recount(name)


def _tell_nobody(_stored: dict[str, Any]) -> None:
    """Nobody below this engine has some of the task."""


def _nothing_left(task_id: str, state: str) -> RequestError:
    return RequestError(409, f"task {task_id!r} is {state}; nothing is left to cancel")

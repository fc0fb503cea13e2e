"""Tasks that other workers of this engine may have: handed to the worker of their slot, or asked for.

During a hot reload a slot has two workers, and a task that names its id may be in the other one. So this
worker asks before it saves such a task; a worker that has just gone leaves its tasks in the store, and the
new task waits until those are replayed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from engine.base.background import Background
from engine.errors import EngineError, StoreError
from engine.intake.replies import Reply
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.tasks.records import By
    from engine.tasks.task import Task
    from engine.workers.peers import Peers

_REPLAY_LIMIT_S: Final = 10.0
_PASSED_ON: Final = ("Retry-After", "WWW-Authenticate")


class Forwarding:
    """What intake asks of the other workers. Only ids that clients chose are asked for.

    Args:
        peers: the other workers.
        replayed: set while nothing of an earlier process is left in the store.
        refuse: makes the reply of an error.
        on_new: given a task that no other worker has.
        on_known: given a task that another worker has, and that worker's private document of it.
        on_unsure: given a task that another worker may have, and why that cannot be told.
    """

    def __init__(
        self,
        peers: Peers,
        replayed: asyncio.Event,
        *,
        refuse: Callable[[EngineError, By], Reply],
        on_new: Callable[[Task], None],
        on_known: Callable[[Task, dict[str, Any]], None],
        on_unsure: Callable[[Task, EngineError], None],
    ) -> None:
        self._peers = peers
        self._replayed = replayed
        self._refuse = refuse
        self._on_new = on_new
        self._on_known = on_known
        self._on_unsure = on_unsure
        self._asking: dict[str, Task] = {}
        self._background = Background()

    def __repr__(self) -> str:
        return f"<Forwarding [{len(self._asking)} tasks asked for]>"

    def is_elsewhere(self, task: Task) -> bool:
        """Tell whether a task belongs to another worker."""
        return bool(task.digest) and not self._peers.is_mine(task.id)

    def may_be_known(self, task: Task) -> bool:
        """Tell whether another worker of this slot may have a task with this id."""
        return bool(task.digest) and (bool(self._peers.others_of(task.id)) or not self._replayed.is_set())

    def forward(self, task: Task, body: bytes, answer: Callable[[Reply], None]) -> None:
        """Hand a task to the worker that its id belongs to, and that worker's reply to *answer*.

        Args:
            task: of a client whose token has been checked.
            body: the client's JSON.
            answer: called once.
        """
        by = task.by
        more = {"retries": task.retries, "traceparent": task.traceparent, "path": by.path or ""}
        said = {name: value for name, value in more.items() if value}
        path = worker_path("task", token=by.token, address=by.address, door=by.door, **said)
        self._background.start(self._forward(task.id, path, body, by, answer))

    async def _forward(
        self, task_id: str, path: str, body: bytes, by: By, answer: Callable[[Reply], None]
    ) -> None:
        try:
            reply = await self._peers.ask_owner("POST", path, task_id, body)
        except StoreError as exc:
            answer(self._refuse(exc, by))
            return
        if reply is None:
            answer(self._refuse(StoreError("the worker that this id belongs to is being replaced"), by))
            return
        extra = {name: reply.headers[name] for name in _PASSED_ON if name in reply.headers}
        answer(Reply(reply.status, reply.body, reply.headers["Content-Type"].partition(";")[0], extra))

    def ask(self, task: Task) -> None:
        """See whether another worker has a task of this id, before *task* is saved here."""
        self._asking[task.id] = task
        self._background.start(self._ask(task))

    async def _ask(self, task: Task) -> None:
        error: EngineError | None = None
        document = None
        try:
            document = await self._peers.find(task.id)
            if document is None and not self._peers.has_predecessor():
                await asyncio.wait_for(self._replayed.wait(), _REPLAY_LIMIT_S)
        except StoreError as exc:
            error = exc
        except TimeoutError:
            error = StoreError("what the worker before this one left is not taken up yet")
        if self._asking.pop(task.id, None) is None:
            return  # it has been answered meanwhile, see `release`
        if error is not None:
            self._on_unsure(task, error)
        elif document is not None:
            self._on_known(task, document)
        else:
            self._on_new(task)

    def is_asking(self, task_id: str) -> bool:
        """Tell whether a task is being asked for."""
        return task_id in self._asking

    def release(self, task_id: str) -> Task | None:
        """Return the task of this id that is being asked for, and let it go: it is answered otherwise."""
        return self._asking.pop(task_id, None)

"""From what a client of a door asks for to its tasks, and to what is answered.

A purge that comes again while its task has not been sent anywhere is answered with that task: the caches will
be asked after the second client has spoken, so they hold nothing older than it knows. As soon as one node has
been asked, the same purge is a task of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec

from engine.doors.asked import bodies_of
from engine.tasks.words import BLOCKED, QUEUED, State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from engine.delivery.watchers import Watchers
    from engine.doors.asked import Asked
    from engine.intake.admission import Admission
    from engine.intake.client import Client
    from engine.intake.replies import Reply
    from engine.tasks.region import RegionMap
    from engine.tasks.task import Task

_REMEMBERED_MAX: Final = 1024  #: purges that may come again
_REMEMBERED_BYTES: Final = 4096  #: of one; a longer one is a task of its own
_ACCEPTED: Final = 202
_RECORDED: Final = (
    b"POST /v1/engine/task HTTP/1.1\r\nHost: purgeline\r\nUser-Agent: purgeline-door-%b\r\n"
    b"Content-Type: application/json\r\n\r\n"
)
_UNSENT: Final = (BLOCKED, QUEUED)
_STILL: Final = frozenset({State.ACCEPTED, State.RUNNING})


class _Accepted(msgspec.Struct):
    """The answer of another worker to a task that it has saved."""

    task_id: str
    total: int


_decode = msgspec.json.Decoder(_Accepted).decode


class Saved(msgspec.Struct, frozen=True):
    """What became of a request: the tasks that are saved, and why a further one is not."""

    task_ids: tuple[str, ...]
    total: int  #: subtasks
    tasks: tuple[Task, ...] = ()  #: as they are in memory, of those that their client waits for
    refusal: Reply | None = None


def hand_in(
    admission: Admission,
    body: bytes,
    client: Client,
    answer: Callable[[Reply], None],
    *,
    is_forwarded: bool = False,
) -> None:
    """Hand a door's task in, see `Admission.submit`; a recording has it as a request to the engine's port."""
    tap = admission.tap
    if tap.recordings:
        answer = tap.watch(_RECORDED % client.by.door.encode(), body, answer)
    admission.submit(body, client, answer, is_forwarded=is_forwarded)


class Submitting:
    """What every door hands its clients' wishes to.

    Args:
        admission: takes the tasks.
        regions: the tasks in memory.
        watchers: tell when nothing of a task is on its way any more.
        loop: the engine's.
    """

    def __init__(
        self,
        admission: Admission,
        regions: RegionMap,
        watchers: Watchers,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.admission = admission
        self._regions = regions
        self._watchers = watchers
        self._loop = loop
        self._recent: OrderedDict[tuple[str, bytes], _Recent] = OrderedDict()
        self._waiting: set[_Wait] = set()

    def submit(
        self, asked: Asked, client: Client, answer: Callable[[Saved], None], *, wait_s: float = 0
    ) -> None:
        """Make tasks of what a client asks for; too many targets for one are several, one after the other.

        Args:
            asked: as the protocol's module has understood it.
            client: who asks.
            answer: called once.
            wait_s: how long to wait for the caches; 0: until the tasks are saved.
        """
        if wait_s > 0:
            answer = _Wait(self, answer, wait_s).saved
        bodies = bodies_of(asked)
        if len(bodies) == 1:
            self._submit_one(bodies[0], client, answer)
        else:
            _Parts(self, bodies, client, answer).next(())

    def _submit_one(self, body: bytes, client: Client, answer: Callable[[Saved], None]) -> None:
        key = (client.token.name, body)
        remembered = self._recent
        recent = remembered.get(key)
        if recent is not None:
            if recent.join(self._regions, answer):
                return
            del remembered[key]  # the newest is the last to be forgotten
        recent = _Recent(answer)
        if len(body) <= _REMEMBERED_BYTES:
            remembered[key] = recent
            if len(remembered) > _REMEMBERED_MAX:
                remembered.popitem(last=False)
        try:
            hand_in(self.admission, body, client, recent.answered)
        except BaseException:  # nobody would ever answer those that join it
            remembered.pop(key, None)
            raise

    def stop_waiting(self) -> None:
        """Answer everybody who waits for caches: the engine ends."""
        for wait in list(self._waiting):
            wait.end()

    # For `_Wait`

    def watch(self, wait: _Wait, saved: Saved) -> tuple[Task, ...]:
        """Have *wait* told when the tasks are over; return those that are in memory."""
        tasks = []
        for task_id in saved.task_ids:
            task = self._regions.get(task_id)
            if task is None:
                continue
            tasks.append(task)
            if task.state in _STILL:
                self._watchers.add(task_id, wait.over)
                wait.left += 1
        if wait.left:
            self._waiting.add(wait)
        return tuple(tasks)

    def after(self, wait: _Wait, wait_s: float) -> asyncio.TimerHandle:
        """Have *wait* end in so many seconds."""
        return self._loop.call_later(wait_s, wait.end)

    def unwatch(self, wait: _Wait) -> None:
        """Forget one that has ended."""
        self._waiting.discard(wait)


class _Recent:
    """A purge that may come again: who waits for its answer, then the answer."""

    __slots__ = ("_answers", "_saved")

    def __init__(self, answer: Callable[[Saved], None]) -> None:
        self._answers: list[Callable[[Saved], None]] = [answer]
        self._saved: Saved | None = None

    def join(self, regions: RegionMap, answer: Callable[[Saved], None]) -> bool:
        """Have *answer* called with this purge's answer, if that is as good as a new one's."""
        saved = self._saved
        if saved is None:
            self._answers.append(answer)
            return True
        if saved.refusal is not None:
            return False
        task = regions.get(saved.task_ids[0])
        if task is None or not is_unsent(task):
            return False
        answer(saved)
        return True

    def answered(self, reply: Reply) -> None:
        """Take the intake's answer."""
        self._saved = saved = _saved_of(reply)
        answers, self._answers = self._answers, []
        for answer in answers:
            answer(saved)


class _Parts:
    """The tasks of one request, handed in one after the other: what follows a refused one is not saved."""

    def __init__(
        self, submitting: Submitting, bodies: Sequence[bytes], client: Client, answer: Callable[[Saved], None]
    ) -> None:
        self._submitting = submitting
        self._bodies = iter(bodies)
        self._client = client
        self._answer = answer
        self._total = 0
        self._ids: tuple[str, ...] = ()

    def next(self, ids: tuple[str, ...]) -> None:
        """Hand the next one in, or answer."""
        self._ids += ids
        body = next(self._bodies, None)
        if body is None:
            self._answer(Saved(self._ids, self._total))
        else:
            hand_in(self._submitting.admission, body, self._client, self._answered)

    def _answered(self, reply: Reply) -> None:
        saved = _saved_of(reply)
        self._total += saved.total
        if saved.refusal is not None:
            self._answer(Saved(self._ids, self._total, refusal=saved.refusal))
        else:
            self.next(saved.task_ids)


class _Wait:
    """A client that waits until the caches have done it, or for so long."""

    def __init__(self, submitting: Submitting, answer: Callable[[Saved], None], wait_s: float) -> None:
        self.left = 0
        self._submitting = submitting
        self._answer: Callable[[Saved], None] | None = answer
        self._wait_s = wait_s
        self._saved = Saved((), 0)
        self._timer: asyncio.TimerHandle | None = None

    def saved(self, saved: Saved) -> None:
        """The tasks are saved, or refused: begin to wait."""
        self._saved = msgspec.structs.replace(saved, tasks=self._submitting.watch(self, saved))
        if not self.left or saved.refusal is not None:
            self.end()
        else:
            self._timer = self._submitting.after(self, self._wait_s)

    def over(self) -> None:
        """Nothing of a task is on its way any more."""
        self.left -= 1
        if self.left <= 0:
            self.end()

    def end(self) -> None:
        """Answer, once."""
        if self._timer is not None:
            self._timer.cancel()
        self._submitting.unwatch(self)
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(self._saved)


def is_unsent(task: Task) -> bool:
    """Tell whether no node has been asked for anything of a task."""
    return all(state in _UNSENT for share in task.shares for state in share.states)


def _saved_of(reply: Reply) -> Saved:
    if reply.task_id:
        return Saved((reply.task_id,), reply.total)
    if reply.status != _ACCEPTED:
        return Saved((), 0, refusal=reply)
    accepted = _decode(reply.body)
    return Saved((accepted.task_id,), accepted.total)

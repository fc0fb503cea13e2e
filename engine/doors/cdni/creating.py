"""From a trigger to its tasks, and to its record.

The tasks are stored first, then the record, then its client is told 201. An engine that ends in between has
purged what nobody was told of, and its client asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.api.answers import reply_to
from engine.doors.cdni.planning import plan_of
from engine.doors.cdni.telling import refusal
from engine.doors.submitting import hand_in
from engine.errors import EngineError, StoreError
from engine.intake.problems import Problem
from engine.notify.post import retry_after_s
from engine.tasks.triggers import Status, TriggerRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.doors.cdni.command import Command
    from engine.doors.cdni.ending import Ending
    from engine.doors.cdni.planning import Plan, Rules
    from engine.doors.cdni.records import Records
    from engine.intake.admission import Admission
    from engine.intake.client import Client
    from engine.intake.replies import Reply

_ACCEPTED: Final = 202
_ABOUT_THE_TASK: Final = frozenset({400, 413, 422})  #: refusals that say nothing of the next one
_LATER: Final = frozenset({429, 503})  #: refusals of what may be taken soon
_PATIENCE_S: Final = 5.0  #: for a task whose trigger has others that are saved already
_PAUSE_MIN_S: Final = 0.5
_QUICK_MAX: Final = 100  #: URLs, patterns and ids that are looked at without a thread


class _Accepted(msgspec.Struct):
    """The answer of the intake to a task that it has saved."""

    task_id: str


_decode_accepted = msgspec.json.Decoder(_Accepted).decode
_decode_problem = msgspec.json.Decoder(Problem).decode


async def at_once(function: Callable[..., Any], *arguments: object) -> Any:
    """Call what does not take long."""
    return function(*arguments)


async def _try_again(submit: Callable[[Callable[[Reply], None]], None], reply: Reply) -> Reply:
    """Return the reply to a task that was turned away for now, when it is taken, or waiting has no use."""
    until = time.monotonic() + _PATIENCE_S
    while reply.status in _LATER:
        pause_s = max(_PAUSE_MIN_S, retry_after_s(reply.headers.get("Retry-After", "")))
        if time.monotonic() + pause_s > until:
            break
        await asyncio.sleep(pause_s)
        reply = await reply_to(submit)
    return reply


class RefusedError(EngineError):
    """The intake takes nothing of a trigger; its reply has been counted."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.status}")
        self.reply = reply


class Creating:
    """Creates triggers.

    Args:
        admission: takes their tasks.
        records: where they are kept.
        ending: takes tasks back whose trigger could not be kept.
        due_s: so long a trigger may take.
    """

    def __init__(self, admission: Admission, records: Records, ending: Ending, *, due_s: float) -> None:
        self._admission = admission
        self._records = records
        self._ending = ending
        self._due_s = due_s

    async def create(self, command: Command, client: Client, rules: Rules) -> TriggerRecord:
        """Do what a command's trigger asks for, and keep it.

        Raises:
            RequestError: it is malformed, about hosts of others, or over the client's rate.
            RefusedError: the intake does not take all of its tasks at the moment; none is left.
            StoreError: it could not be kept.
        """
        trigger = command.trigger
        assert trigger is not None
        read = at_once if trigger.count <= _QUICK_MAX else self._records.read
        plan: Plan = await read(plan_of, trigger, rules)
        bodies = await read(plan.bodies, trigger.type)
        client.token.take(max(1, len(bodies)))
        now = time.time()
        record = TriggerRecord(
            id=f"{int(now * 1000):011x}{os.urandom(6).hex()}",
            token=client.token.name,
            ctime=now,
            mtime=now,
            etime=now + self._due_s,
            status=Status.PENDING,
            spec=command.spec,
            refused=plan.refused,
        )
        await self._hand_in(record, plan, bodies, client)
        if not record.tasks:
            record.status, record.settled_at = Status.FAILED, now
        record.errors = record.refused
        try:
            await self._records.read(self._records.store.add, record)
        except StoreError:
            await self._take_back(record)
            raise
        return record

    async def _hand_in(
        self, record: TriggerRecord, plan: Plan, bodies: Sequence[tuple[str, bytes]], client: Client
    ) -> None:
        """Have the tasks of a trigger stored; note those that can never be while others can.

        Raises:
            RefusedError: one cannot be at the moment; those before it are taken back.
        """
        for kind, body in bodies:
            # All of them are paid for, and the ids that this worker makes are its own: as if another asked.
            submit = partial(hand_in, self._admission, body, client, is_forwarded=True)
            reply = await reply_to(submit)
            if record.tasks and reply.status in _LATER:
                reply = await _try_again(submit, reply)
            if reply.status == _ACCEPTED:
                record.tasks[kind] = _decode_accepted(reply.body).task_id
            elif reply.status not in _LATER and (record.tasks or reply.status in _ABOUT_THE_TASK):
                detail = _decode_problem(reply.body).detail
                record.refused.append(refusal(reply.status, detail, plan.targets[kind]))
            else:
                if record.tasks:
                    await self._take_back(record)
                raise RefusedError(reply)

    async def _take_back(self, record: TriggerRecord) -> None:
        """Cancel the tasks of a trigger that is not kept: its client is told that it has to ask again."""
        with contextlib.suppress(StoreError):
            await self._ending.end_tasks(record, None)
        with contextlib.suppress(StoreError):
            await self._records.read(self._records.store.remove, record.token, record.id)

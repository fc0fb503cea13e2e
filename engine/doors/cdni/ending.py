"""The end of triggers: cancelled by their clients, or deleted (RFC 8007, sections 4.3 and 4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from loguru import logger

from engine.doors.cdni.records import no_trigger
from engine.errors import NotCancelledError, RequestError, StoreError
from engine.tasks.triggers import SETTLED
from engine.tasks.words import FINAL_STATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.api.cancel import CancelTask
    from engine.doors.cdni.records import Records
    from engine.intake.auth import Auth
    from engine.observe.audit import Audit
    from engine.tasks.records import By
    from engine.tasks.triggers import TriggerRecord

_IS_OVER: Final = frozenset({404, 409})  #: a task has gone, or has just settled, or is being visited alone


class Ending:
    """Ends triggers.

    Args:
        records: the triggers.
        cancel: cancels their tasks.
        auth: knows the tokens of their clients: a worker that has a task asks whose it is.
        audit: told of tasks that are cancelled.
    """

    def __init__(self, records: Records, cancel: CancelTask, auth: Auth, audit: Audit) -> None:
        self._records = records
        self._auth = auth
        self._cancel = cancel
        self._audit = audit

    async def cancel(self, trigger_ids: Sequence[str], by: By) -> bool:
        """Cancel triggers; tell whether all of them have ended: others will.

        Raises:
            RequestError: 404, one is none of this client's; nothing is cancelled.
            StoreError: a trigger cannot be read or written.
        """
        for trigger_id in trigger_ids:
            await self._records.find(by.token, trigger_id)
        is_over = True
        for trigger_id in trigger_ids:
            record = await self._records.change(by.token, trigger_id, _wanted_over)
            if record is not None and record.status not in SETTLED:
                await self.end_tasks(record, by)
                record = await self._records.look(by.token, trigger_id)
            is_over &= record is None or record.status in SETTLED
        return is_over

    async def remove(self, trigger_id: str, by: By) -> None:
        """Cancel a trigger, and forget it.

        Raises:
            RequestError: 404, this client has none of that id.
            StoreError: what is left of its tasks could not be cancelled; the trigger is still there.
        """
        record = await self._records.find(by.token, trigger_id)
        if record.status not in SETTLED and not await self.end_tasks(record, by):
            raise NotCancelledError("an engine that works on it does not answer")
        if not await self._records.read(self._records.store.remove, by.token, trigger_id):
            raise no_trigger(trigger_id)

    async def end_tasks(self, record: TriggerRecord, by: By | None) -> bool:
        """Cancel what is left of a trigger's tasks; False: some of it could not be.

        Args:
            record: the trigger.
            by: who wants that; None: it was told before.
        """
        is_done = True
        for task_id, document in (await self._records.documents(record)).items():
            if document is None or document["state"] in FINAL_STATES:
                continue
            try:
                cancelled = await self._cancel.cancel(task_id, self._auth.named(record.token))
            except (RequestError, StoreError) as exc:
                if isinstance(exc, StoreError) or exc.status not in _IS_OVER:
                    logger.warning("task {} of trigger {} is not cancelled yet: {}", task_id, record.id, exc)
                    is_done = False
            else:
                if by is not None:
                    self._audit.cancelled(cancelled, by)
        return is_done


def _wanted_over(record: TriggerRecord) -> TriggerRecord | None:
    """Return a trigger that its client wants to end, whatever becomes of this worker; None: it is one."""
    return None if record.is_cancelled else msgspec.structs.replace(record, is_cancelled=True)

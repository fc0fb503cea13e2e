"""One row of the journal: its tasks are put into memory again and go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from loguru import logger

from engine.errors import EngineError, StoreError
from engine.intake.validate import unplanned

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from engine.delivery.parts import Delivery
    from engine.intake.admission import Admission
    from engine.intake.validate import Validator
    from engine.tasks.records import Accepted, JournalKey, Progress
    from engine.tasks.region import RegionMap
    from engine.tasks.task import Task


class ReplayRows:
    """Replays rows of the journal.

    Args:
        regions: where the tasks go.
        delivery: works them.
        validator: reads their bodies again; what the configuration of today says of them is not asked.
        admission: may be asking the worker that had a task whether it has it.
    """

    def __init__(
        self, regions: RegionMap, delivery: Delivery, validator: Validator, admission: Admission
    ) -> None:
        self._regions = regions
        self._load = delivery.load
        self._endings = delivery.endings
        self._dispatch = delivery.dispatch
        self._validator = validator
        self._admission = admission

    def is_in_memory(self, task_id: str) -> bool:
        """Tell whether a task is in memory, at work or being saved."""
        return self._regions.get(task_id) is not None

    def is_being_saved(self, records: Sequence[Accepted]) -> bool:
        """Tell whether a client's task with one of these ids is not stored yet, and may still be refused."""
        for record in records:
            task = self._regions.get(record.id)
            if task is not None and not task.is_committed and not self._admission.is_asking(record.id):
                return True
        return False

    def replay_row(
        self,
        key: JournalKey,
        records: list[Accepted],
        progress: dict[str, Progress] | None = None,
        *,
        plans: Mapping[bytes, bytes] | None = None,
        cancelled: Collection[str] = (),
        age_s: float | None = None,
    ) -> int:
        """Begin with the tasks of a journal row that are not in memory; return how many that were.

        Args:
            key: the row's.
            records: those of its tasks that have not settled.
            progress: task id → how far an engine before this one had come.
            plans: key → text of the plans that they were accepted for.
            cancelled: ids of tasks that clients took back while that engine had requests of them on the wire.
            age_s: of the row, where another host's clock may have said when its tasks were accepted.
        """
        count = 0
        for record in records:
            asking = self._admission.release_asking(record.id)
            task = self._regions.get(record.id)
            if task is not None and task.is_lost:
                self._endings.drop(task)  # it had been taken from here, and comes back
            elif task is not None:
                continue  # a client handed it in again, and its own row is there too
            if record.start_at:
                left_s = record.due_s + abs(record.start_at) - time.time()
            else:
                left_s = record.due_s + (record.created_at - time.time() if age_s is None else -age_s)
            plan = (plans or {}).get(record.plan, b"")
            self._replay(record, key, (progress or {}).get(record.id), plan, left_s=left_s)
            if record.id in cancelled:
                self._cancel(record.id)
            if asking is not None:
                self._admission.answer_asking(asking)
            count += 1
        return count

    def _replay(
        self,
        record: Accepted,
        key: JournalKey,
        progress: Progress | None,
        plan: bytes,
        *,
        left_s: float,
    ) -> None:
        if record.plan and not plan:
            logger.warning("the plan of task {} is not in the store; it is planned again", record.id)
        try:
            task = self._read(record, plan)
        except EngineError as exc:
            self._fail(record, key, exc)
            return
        if progress is not None:
            task.progress, task.absent_count = progress, progress.absent
        self._regions.add(task)
        self._load.reserve(task.total)
        self._dispatch.submit(task, key, left_s=left_s)

    def _read(self, record: Accepted, plan: bytes) -> Task:
        """Return the task of a record; one whose plan is of a later version is planned again."""
        try:
            return self._validator.replay(record, plan)
        except StoreError as exc:
            logger.warning("task {} is planned again: {}", record.id, exc)
            return self._validator.replay(record)

    def _cancel(self, task_id: str) -> None:
        task = self._regions.get(task_id)
        if task is not None:
            self._dispatch.cancel(task)

    def _fail(self, record: Accepted, key: JournalKey, exc: EngineError) -> None:
        """Settle a task that cannot be read, or was kept without a plan and is not allowed any more."""
        task = unplanned(record)
        self._regions.add(task)
        self._endings.settle_refused(task, key, f"cannot go on after a restart: {exc}")

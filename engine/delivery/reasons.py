"""Telling stored tasks why their rows wait, when that is another reason than they were parked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.tasks.by_region import of_task
from engine.tasks.records import Noted
from engine.tasks.stored_documents import with_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.saver.pool import SaverPool
    from engine.saver.saver import Saver
    from engine.tasks.lower import Lower
    from engine.tasks.records import ParkedRow
    from engine.tasks.region import RegionMap

_TOLD_MAX: Final = 100_000


class Reasons:
    """Tells each task once of a node; those in memory were told when their subtasks were parked.

    Args:
        regions: the tasks in memory.
        savers: write what is told.
    """

    def __init__(self, regions: RegionMap, savers: SaverPool) -> None:
        self._regions = regions
        self._savers = savers
        self._told: set[tuple[str, str, str]] = set()
        self._below: dict[tuple[str, str], Lower] = {}  # node and task → what was told last

    def __repr__(self) -> str:
        return f"<Reasons [{len(self._told)} told]>"

    def tell(self, rows: Iterable[ParkedRow], reason: str) -> None:
        """Have the tasks of *rows* say *reason* in their errors."""
        noted: dict[Saver, list[Noted]] = {}
        for row in rows:
            key = (row.node, row.task_id, reason)
            if key not in self._told and self._regions.get(row.task_id) is None:
                if len(self._told) >= _TOLD_MAX:
                    self._told.clear()
                self._told.add(key)
                saver = self._savers.of(row.task_id)
                noted.setdefault(saver, []).append(Noted(row.task_id, row.node, row.target, reason))
        for saver, of_saver in noted.items():
            saver.note(of_saver)

    def tell_below(self, told: Mapping[str, tuple[ParkedRow, Lower]]) -> None:
        """Have tasks say what an engine that is a node told of their rows, where that is new.

        Args:
            told: task → one of its rows, and what became of those.
        """
        noted: dict[Saver, list[Noted]] = {}
        for task_id, (row, lower) in told.items():
            if self._below.get((row.node, task_id)) == lower:
                continue
            if len(self._below) >= _TOLD_MAX:
                self._below.clear()
            self._below[row.node, task_id] = lower
            one = Noted(task_id, row.node, row.target, lower.reason, lower.skipped, lower.notes)
            task = self._regions.get(task_id)
            if task is None:
                noted.setdefault(self._savers.of(task_id), []).append(one)
                continue
            if one.reason:
                task.errors = with_reason(task.errors, one)
            if lower.has_remarks:
                of = of_task(task, row.node)
                of.skipped, of.notes = lower.skipped, lower.notes
        for saver, of_saver in noted.items():
            saver.note(of_saver)

    def tell_all(self, rows: Iterable[ParkedRow], reason: str) -> None:
        """Have the tasks of *rows* say *reason* in place of why their node waited, those in memory, too."""
        noted: dict[Saver, dict[tuple[str, str], Noted]] = {}
        for row in rows:
            one = Noted(row.task_id, row.node, row.target, reason)
            noted.setdefault(self._savers.of(row.task_id), {})[row.task_id, row.node] = one
        for saver, of_saver in noted.items():
            for one in of_saver.values():
                task = self._regions.get(one.task_id)
                if task is not None:
                    task.errors = with_reason(task.errors, one)
            saver.note(list(of_saver.values()))

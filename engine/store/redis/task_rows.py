"""Rows of tasks that are named, in all delay queues: for cancels, which alone ask for them so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.store.redis.part import RedisPart
from engine.store.redis.rows import Row, row_of
from engine.tasks.handed_ids import HANDED, is_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

QUEUES: Final = ("delay:", "fetch:", "wait:", "host:")
_SCAN: Final = 2000


class TaskRows(RedisPart):
    """The part of the store that looks through delay queues for tasks."""

    def rows_of_tasks(self, task_ids: Iterable[str]) -> dict[str, list[Row]]:
        """Return every row of some tasks: looked for in their regions, for nothing else asks for that."""
        by_task: dict[str, list[Row]] = {}
        for task_id in task_ids:
            tag = self.keys.tags[self.keys.region(task_id)]
            for name in self.link.one("SUNION", f"{tag}delayed", f"{tag}hosted"):
                node = name.decode()
                for queue in QUEUES:
                    for member in self._members_of(f"{tag}{queue}{node}", task_id):
                        after = "?" if queue == "wait:" else ""
                        row = row_of(node, member, 0.0, after)
                        by_task.setdefault(task_id, []).append(Row.read(row, must_be_there=True))
        return by_task

    def parts_parked(self, stems: Sequence[str]) -> list[str]:
        """See `Store.parts_parked`: every queue is looked through, for nothing else asks for that."""
        names = self.link.all([("SUNION", f"{tag}delayed", f"{tag}hosted") for tag in self.keys.tags])
        left = {
            f"{tag}{queue}{name.decode()}": b"0"
            for tag, of_tag in zip(self.keys.tags, names, strict=True)
            for name in of_tag
            for queue in QUEUES
        }
        found: set[str] = set()
        while left:
            commands = [
                ("ZSCAN", queue, cursor, "MATCH", f"* *{HANDED}* *", "COUNT", _SCAN)
                for queue, cursor in left.items()
            ]
            for queue, (cursor, page) in zip(list(left), self.link.all(commands), strict=True):
                found.update(_task_of(member.decode()) for member in page[::2])
                if cursor == b"0":
                    del left[queue]
                else:
                    left[queue] = cursor
        return [task_id for task_id in found if is_of(task_id, stems)]

    def _members_of(self, queue: str, task_id: str) -> list[str]:
        members: list[str] = []
        cursor = b"0"
        while True:
            cursor, page = self.link.one("ZSCAN", queue, cursor, "MATCH", f"* {task_id} *", "COUNT", _SCAN)
            members += [member.decode() for member in page[::2] if _task_of(member.decode()) == task_id]
            if cursor == b"0":
                return members


def _task_of(member: str) -> str:
    """Return the task of a row as its queue has it."""
    return member.split(" ", 2)[1]

"""The region map: every task in memory, sharded by its id.

The talk's ``PreAllocRegion``: regions are made at start, each a dictionary and a lock that is held for
dictionary work only. The loop writes; any thread may read. `shards` tells the region of an id.

Dictionaries do not shrink and glibc keeps what was freed, so a region that has fallen far below its
peak is rebuilt and the memory is handed back to the system.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from engine.base.memory import trim_memory
from engine.tasks.shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.tasks.task import Task

_SHRINK_FROM: Final = 4096  #: tasks; below that a region's table is not worth rebuilding
_SHRINK_TO: Final = 8  #: rebuilt when fewer than 1/8 of the peak are left


class Region:
    """One shard: tasks by id."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self._peak = 0

    def __repr__(self) -> str:
        return f"<Region {self.name} [{len(self)} tasks, peak {self._peak}]>"

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task) -> Task:
        """Return the task that has this id: *task*, now added, or the one that was there."""
        with self._lock:
            return self._tasks.setdefault(task.id, task)

    def get(self, task_id: str) -> Task | None:
        """Return a task, or None."""
        with self._lock:
            return self._tasks.get(task_id)

    def remove(self, task_id: str) -> bool | None:
        """Drop a task. Returns whether the region shrank so far that it was rebuilt; None without it."""
        with self._lock:
            count = len(self._tasks)
            self._peak = max(self._peak, count)
            if self._tasks.pop(task_id, None) is None:
                return None
            if self._peak < _SHRINK_FROM or count > self._peak // _SHRINK_TO:
                return False
            self._tasks = dict(self._tasks)
            self._peak = count
            return True

    def tasks(self) -> list[Task]:
        """Return the tasks at this moment, oldest first."""
        with self._lock:
            return list(self._tasks.values())


class RegionMap:
    """All regions.

    Args:
        region_count: how many; made at once.
    """

    def __init__(self, region_count: int) -> None:
        self.rewinds: dict[str, Task] = {}  #: those that are parts of rewinds; of the loop
        self._count = 0
        self._regions = [Region(f"region-{number:02d}") for number in range(region_count)]

    def __len__(self) -> int:
        return self._count

    def region_of(self, task_id: str) -> Region:
        """Return the region of an id."""
        return self._regions[shard_of(task_id, len(self._regions))]

    def add(self, task: Task) -> Task:
        """See `Region.add`."""
        known = self.region_of(task.id).add(task)
        self._count += known is task
        if task.rewind and known is task:
            self.rewinds[task.id] = task
        return known

    def get(self, task_id: str) -> Task | None:
        """See `Region.get`."""
        return self.region_of(task_id).get(task_id)

    def remove(self, task_id: str) -> None:
        """Drop a task; give memory back when a region has become small."""
        was_rebuilt = self.region_of(task_id).remove(task_id)
        self._count -= was_rebuilt is not None
        if self.rewinds:
            self.rewinds.pop(task_id, None)
        if was_rebuilt:
            trim_memory()

    def tasks(self) -> Iterator[Task]:
        """Yield every task, region by region."""
        for region in self._regions:
            yield from region.tasks()

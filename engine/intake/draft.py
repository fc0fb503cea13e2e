"""A task on its way from a body: its targets take a while, so they are worked in slices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.intake.targets import Normaliser


class Draft:
    """A task whose fields have been checked, and whose targets are being worked.

    Args:
        targets: its targets.
        make: makes the task of the targets in stored form.

    Attributes:
        work: see `Normaliser.work`.
    """

    __slots__ = ("_make", "_targets", "work")

    def __init__(self, targets: Normaliser, make: Callable[[list[str]], Task]) -> None:
        self.work = targets.work
        self._targets = targets
        self._make = make

    def task(self) -> Task:
        """Return the task; after `work`."""
        return self._make(self._targets.targets())


def whole(made: Task | Draft) -> Task:
    """Return the task, however long its targets take."""
    if isinstance(made, Task):
        return made
    made.work(math.inf)
    return made.task()

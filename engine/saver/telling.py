"""What became of a batch, told to those who wait for it: a bounded part in each turn of the loop.

A batch of normal intake is one part. 5,000 tasks of one NDJSON request are several, and other clients have
their turn in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.errors import StoreError
    from engine.saver.sinks import Sinks
    from engine.saver.work import Work
    from engine.tasks.records import Committed
    from engine.tasks.task import Task

TOLD_MAX: Final = 1000  #: in one turn of the loop; about 4 ms for tasks that were accepted


def tell_accepted(sinks: Sinks, work: Work, outcome: Committed) -> Iterator[None]:
    """Tell what became of the accepted tasks; yields where another turn of the loop is due."""
    known, refused, accepted = outcome.known, outcome.refused, sinks.accepted
    until = TOLD_MAX
    for count, (task, key) in enumerate(zip(work.accepted, outcome.journal, strict=True)):
        if count == until:
            until += TOLD_MAX
            yield
        if task.id in known:
            sinks.known(task, *known[task.id])
        elif refused and task.id in refused:
            accepted(task, 0, refused[task.id])
        else:
            accepted(task, key, None)


def tell_refused(sinks: Sinks, tasks: list[Task], error: StoreError) -> Iterator[None]:
    """Tell that nothing of a batch was written; yields where another turn of the loop is due."""
    for count, task in enumerate(tasks):
        if count and not count % TOLD_MAX:
            yield
        sinks.accepted(task, 0, error)


def tell_written(sinks: Sinks, work: Work, lost: set[str]) -> Iterator[None]:
    """Tell those who wait for the engine's own records; yields where another turn of the loop is due.

    Who counts rows is told last, and in the same turn as those whose rows were written.
    """
    for count, (task, version) in enumerate(work.saved):
        if count and not count % TOLD_MAX:
            yield
        if task.id not in lost:
            sinks.saved(task, version)
    for task_id in lost:
        sinks.lost(task_id)
    for then, _ in work.then:
        then()
    for on_pinned, pin in zip(work.on_pinned, work.pins, strict=False):
        on_pinned(pin)

"""Columns of tasks that settle, for the history: a loop over a batch for each fact. Compiled where it can be.

Every task that settles pays for each line of these loops: an attribute of a neighbour is dearer than a local
name, and the tasks of one client are nearly always alike.
"""

from __future__ import annotations

from itertools import chain
from struct import pack
from typing import TYPE_CHECKING, Final

from engine.base.form import is_compiled
from engine.tasks.settled import DONE_BYTE, Odd, Part, SettledTasks, Shape, state_number
from engine.tasks.words import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.tasks.task import Task

_DONE: Final = State.DONE

_times_of: Callable[[list[Task]], tuple[bytes, bytes]] | None = None
if is_compiled():
    try:
        from engine.tasks.column_times import times_of
    except ImportError:  # librt is not installed
        pass
    else:
        _times_of = times_of


def parts_of(tasks: list[Task], targets_max: int) -> list[tuple[list[Task], list[str]]]:
    """Return tasks in parts, each with the targets of its tasks: its last may make them too many."""
    if len(tasks) == 1:
        return [(tasks, tasks[0].targets)]
    found: list[tuple[list[Task], list[str]]] = []
    part: list[Task] = []
    lines: list[str] = []
    for task in tasks:
        part.append(task)
        lines += task.targets
        if len(lines) >= targets_max:
            found.append((part, lines))
            part, lines = [], []
    if part:
        found.append((part, lines))
    return found


def sites_of(tasks: list[Task]) -> list[str]:
    """Return the sites of all targets, each once; none where that of a task is not known."""
    last = ""
    sites: list[str] = []
    for task in tasks:
        site = task.site
        if not site:
            return []
        if site is not last:
            last = site
            if site not in sites:
                sites.append(site)
    return sites


def span_of(tasks: list[Task]) -> tuple[float, float]:
    """Return when the first of the tasks was created, and the last, UNIX time."""
    first = tasks[0].created_at
    last = first
    for task in tasks:
        at = task.created_at
        if at < first:
            first = at
        elif at > last:
            last = at
    return first, last


def columns_of(tasks: list[Task], lines: list[str] | None = None) -> SettledTasks:
    """Return the record of tasks that are being stored, of some ten thousand targets at the most.

    Args:
        tasks: in the order in which they settled.
        lines: the targets of all, where the caller has them.
    """
    shapes, shape_of, odd = _shapes_of(tasks)
    states = [task.state for task in tasks]
    count = len(tasks)
    if states.count(_DONE) == count:
        numbers = DONE_BYTE * count
    else:
        numbers = bytes([state_number(state) for state in states])
        odd += [place for place, state in enumerate(states) if state is not _DONE]
    created, updated = _times(tasks)
    targets = [task.targets for task in tasks]
    return SettledTasks(
        [task.id for task in tasks],
        created,
        updated,
        numbers,
        _halves([len(each) for each in targets]),
        pack("H", 0) * count if len(shapes) == 1 else _halves(shape_of),
        shapes,
        "\n".join(chain.from_iterable(targets) if lines is None else lines),
        {place: _odd(tasks[place]) for place in odd},
        {place: task.absent_count for place, task in enumerate(tasks) if task.absent_count},
    )


def _times(tasks: list[Task]) -> tuple[bytes, bytes]:
    if _times_of is not None:
        return _times_of(tasks)
    count = len(tasks)
    created = pack(f"{count}d", *[task.created_at for task in tasks])
    return created, pack(f"{count}d", *[task.updated_at for task in tasks])


def _shapes_of(tasks: list[Task]) -> tuple[list[Shape], list[int], list[int]]:
    """Return what tasks share, which of those each has, and the places of those whose nodes no plan tells."""
    shapes: dict[Shape, int] = {}
    shape_of: list[int] = []
    odd: list[int] = []
    last = tasks[0]
    plan, by, kind, action, token = last.plan, last.by, last.kind, last.action, last.token
    soft, prefetch = last.soft, last.prefetch
    number = -1
    is_odd = False
    for task in tasks:
        if (
            number < 0
            or task.plan is not plan
            or task.by is not by
            or task.kind is not kind
            or task.action is not action
            or task.token is not token
            or task.soft != soft
            or task.prefetch != prefetch
        ):
            number = shapes.setdefault(_shape_of(task), len(shapes))
            plan, by, kind, action, token = task.plan, task.by, task.kind, task.action, task.token
            soft, prefetch = task.soft, task.prefetch
            is_odd = plan is None or not plan.key
        if is_odd:
            odd.append(len(shape_of))
        shape_of.append(number)
    return list(shapes), shape_of, odd


def _shape_of(task: Task) -> Shape:
    plan, by = task.plan, task.by
    return Shape(
        task.action,
        task.kind,
        task.soft,
        task.prefetch,
        task.token,
        b"" if plan is None else plan.key,
        (by.token, by.address, by.door),
    )


def _halves(numbers: list[int]) -> bytes:
    """Return numbers of 16 bits; they are often all the same."""
    count = len(numbers)
    if numbers.count(numbers[0]) == count:
        return pack("H", numbers[0]) * count
    return pack(f"{count}H", *numbers)


def _odd(task: Task) -> Odd:
    return Odd(
        [
            Part(share.node.name, share.node.layer, int(share.operation), bytes(share.states))
            for share in task.shares
        ],
        [(error["node"], error["target"], error["reason"]) for error in task.errors],
    )

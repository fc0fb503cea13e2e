"""Columns of tasks that settle, for the history: a loop over a batch for each fact. Compiled where it can be.

Every task that settles pays for each line of these loops: an attribute of a neighbour is dearer than a local
name, and the tasks of one client are nearly always alike.
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, Final

from engine.base.form import is_compiled
from engine.tasks.settled import DONE_BYTE, Odd, Part, SettledTasks, Shape, state_number
from engine.tasks.words import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.tasks.task import Task

_DONE: Final = State.DONE

_numbers_of: Callable[[list[Task]], tuple[bytes, bytes, bytes, bytes]] | None = None
if is_compiled():
    try:
        from engine.tasks.column_numbers import numbers_of
    except ImportError:  # librt is not installed
        pass
    else:
        _numbers_of = numbers_of


def parts_of(tasks: list[Task], targets_max: int) -> list[tuple[list[Task], list[str]]]:
    """Return tasks in parts, each with the targets of its tasks: its last may make them too many."""
    if len(tasks) == 1:
        return [(tasks, tasks[0].targets)]
    found: list[tuple[list[Task], list[str]]] = []
    part: list[Task] = []
    lines: list[str] = []
    for task in tasks:
        part.append(task)
        targets = task.targets
        if len(targets) == 1:
            lines.append(targets[0])
        else:
            lines += targets
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
    states, odd_states = _states_of(tasks)
    odd += odd_states
    created, updated, counts, absents = _numbers(tasks)
    if lines is None:
        lines = [target for task in tasks for target in task.targets]
    return SettledTasks(
        [task.id for task in tasks],
        created,
        updated,
        states,
        counts,
        shape_of,
        shapes,
        "\n".join(lines),
        {place: _odd(tasks[place]) for place in odd},
        {},
        absents,
    )


def _states_of(tasks: list[Task]) -> tuple[bytes, list[int]]:
    """Return the states of tasks, and the places of those that are not done."""
    done = 0
    for task in tasks:
        if task.state is _DONE:
            done += 1
    if done == len(tasks):
        return DONE_BYTE * done, []
    odd = [place for place, task in enumerate(tasks) if task.state is not _DONE]
    return bytes([state_number(task.state) for task in tasks]), odd


def _numbers(tasks: list[Task]) -> tuple[bytes, bytes, bytes, bytes]:
    """See `engine.tasks.column_numbers.numbers_of`."""
    if _numbers_of is not None:
        return _numbers_of(tasks)
    count = len(tasks)
    created = pack(f"{count}d", *[task.created_at for task in tasks])
    updated = pack(f"{count}d", *[task.updated_at for task in tasks])
    counts = pack(f"{count}H", *[len(task.targets) for task in tasks])
    absents = [task.absent_count for task in tasks]
    return created, updated, counts, pack(f"{count}I", *absents) if any(absents) else b""


def _shapes_of(tasks: list[Task]) -> tuple[list[Shape], bytes, list[int]]:
    """Return what tasks share, which of those each has, and the places of those whose nodes no plan tells."""
    shapes: dict[Shape, int] = {}
    numbers: list[int] = []  # of the tasks before those that are alike now
    odd: list[int] = []
    last = tasks[0]
    plan, by, kind, action, token = last.plan, last.by, last.kind, last.action, last.token
    soft, prefetch = last.soft, last.prefetch
    number = -1
    is_odd = False
    place = begun = 0
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
            numbers += [number] * (place - begun)
            begun = place
            number = shapes.setdefault(_shape_of(task), len(shapes))
            plan, by, kind, action, token = task.plan, task.by, task.kind, task.action, task.token
            soft, prefetch = task.soft, task.prefetch
            is_odd = plan is None or not plan.key
        if is_odd:
            odd.append(place)
        place += 1
    if len(shapes) == 1:
        return list(shapes), pack("H", 0) * place, odd
    numbers += [number] * (place - begun)
    return list(shapes), pack(f"{place}H", *numbers), odd


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


def _odd(task: Task) -> Odd:
    return Odd(
        [
            Part(share.node.name, share.node.layer, int(share.operation), bytes(share.states))
            for share in task.shares
        ],
        [(error["node"], error["target"], error["reason"]) for error in task.errors],
    )

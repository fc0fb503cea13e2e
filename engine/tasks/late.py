"""Rows of delay queues that were delivered, as the history keeps them for rewinds. Pure.

A task's record says until when its purges reached caches, but for those that waited in a delay queue then. A
row that is delivered may be days old, and the history may have let its task go. So what was delivered is a
record of its own: of each node and operation a task that no client handed in (`DOOR`), created and settled
when that was, with the targets. Rewinds read it; questions do not show it.

It costs what records of tasks cost, for each late row once, and a version before shows it as a task ``@…``.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from engine.tasks.packing import written
from engine.tasks.settled import Odd, Part, SettledTasks, Shape, state_number
from engine.tasks.words import ACKED, SOFT, Action, Kind, Operation, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.tasks.records import Delivered

DOOR: Final = "@late"  #: no door of a client is called so
_TARGETS_MAX: Final = 10_000  #: of one task
_KINDS: Final[dict[int, str]] = {
    int(operation): Kind[operation.name.partition("_")[2]].value
    for operation in Operation
    if operation is not Operation.PREFETCH
}


def late_records(delivered: Iterable[Delivered]) -> list[tuple[int, bytes]]:
    """Return records of purges that were delivered late and acked, and of how many tasks each is.

    Of a task in memory there is none: it settles later, and its own record tells.
    """
    groups: dict[tuple[str, int], dict[str, float]] = {}
    for one in delivered:
        row = one.row
        if not one.reason and not one.is_told and row.operation in _KINDS:
            groups.setdefault((row.node, row.operation), {})[row.target] = one.at
    return [
        _record(node, operation, targets[first : first + _TARGETS_MAX], times)
        for (node, operation), times in groups.items()
        for targets in [list(times)]
        for first in range(0, len(targets), _TARGETS_MAX)
    ]


def _record(node: str, operation: int, targets: list[str], times: dict[str, float]) -> tuple[int, bytes]:
    first_at, last_at = min(times.values()), max(times.values())
    shape = Shape(Action.PURGE.value, _KINDS[operation], operation in SOFT, False, "", b"", ("", "", DOOR))
    part = Part(node, "", operation, bytes([ACKED]) * len(targets))
    tasks = SettledTasks(
        [f"@{node}.{operation}.{last_at:.6f}.{targets[0]}"],
        array("d", [first_at]).tobytes(),
        array("d", [last_at]).tobytes(),
        bytes([state_number(State.DONE)]),
        array("H", [len(targets)]).tobytes(),
        array("H", [0]).tobytes(),
        [shape],
        "\n".join(targets),
        {0: Odd([part], [])},
    )
    return 1, written(tasks)

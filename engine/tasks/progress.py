"""How far tasks have come, written down now and then for tasks that take longer.

Another engine shows it, and begins there when this one dies. One record a task and round, however many
answers came in between; tasks that are over within `YOUNG_S` get none, unless their engine ends before.
"""

from __future__ import annotations

import itertools
import time
import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from engine.tasks import documents
from engine.tasks.records import Progress
from engine.tasks.words import ACKED, State

if TYPE_CHECKING:
    from engine.tasks.task import Task

YOUNG_S: Final = 2.0
_TASKS_MAX: Final = 500  #: in one round
_MARKS: Final = bytes(int(state == ACKED) for state in range(256))
_encode = msgspec.json.encode


class _KeptNode(msgspec.Struct):
    name: str
    absent: int = 0
    acked_at: float | None = None


class _Kept(msgspec.Struct):
    state: str = ""
    absent: int = 0
    progress: list[tuple[str, int, bytes]] = []
    nodes: list[_KeptNode] = []


_decode: Final = msgspec.json.Decoder(_Kept).decode


def progress_document(task: Task) -> bytes:
    """Return the private document of a task at work, with what was acked."""
    document = documents.stored_document(task)
    document.progress = [
        (share.node.name, int(share.operation), zlib.compress(share.states.translate(_MARKS), 1))
        for share in task.shares
        if share.acked_count
    ]
    return _encode(document)


def read_progress(document: bytes) -> Progress | None:
    """Return how far a task had come; None when nothing was acked.

    What cannot be read counts as nothing: then it is sent again.
    """
    if not document:
        return None
    try:
        kept = _decode(document)
        marks = {(node, operation): zlib.decompress(packed) for node, operation, packed in kept.progress}
    except (msgspec.DecodeError, zlib.error, ValueError):
        return None
    nodes = {node.name: (node.absent, node.acked_at or 0.0) for node in kept.nodes}
    return Progress(marks, kept.absent, nodes) if marks else None


def is_cancelled(document: bytes) -> bool:
    """Tell whether the record of a task at work says that a client cancelled it."""
    if not document:
        return False
    try:
        return _decode(document).state == State.CANCELLED
    except msgspec.DecodeError:
        return False


def take_touched(touched: set[Task], *, is_last: bool = False) -> dict[str, bytes]:
    """Return records of tasks that have made progress, and take those out of *touched*.

    Args:
        touched: tasks with progress that no record has.
        is_last: their engine ends: all of them, also young ones.
    """
    now = time.time()
    over = [task for task in touched if task.is_handed]
    touched.difference_update(over)
    ripe = (task for task in touched if is_last or abs(now - task.created_at) > YOUNG_S)
    chosen = list(itertools.islice(ripe, None if is_last else _TASKS_MAX))
    touched.difference_update(chosen)
    return {task.id: progress_document(task) for task in chosen}

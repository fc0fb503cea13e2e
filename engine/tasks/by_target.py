"""What became of each target of a task, over all its nodes: what an engine above is told of it. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from engine.tasks.document_types import ByTarget
from engine.tasks.words import ACKED, CANCELLED, FAILED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.tasks.task import Task

DOOR: Final = "tree"  #: what tasks come in by that an engine above hands down
NAMED_MAX: Final = 1000  #: targets, of a task that has a name by them
_DIGEST_BYTES: Final = 16
_STATES: Final = range(256)
_IS_ACKED: Final = bytes(state == ACKED for state in _STATES)
_IS_LOST: Final = bytes(state in {FAILED, CANCELLED} for state in _STATES)
_IS_OVER: Final = bytes(state in {ACKED, FAILED, CANCELLED} for state in _STATES)
_DIGITS: Final = bytes(0x31 if state else 0x30 for state in _STATES)  # of a flag: "0" or "1"


def of(task: Task) -> ByTarget:
    """Return what the store keeps of a task whose targets are settled or wait."""
    if all(share.acked_count == len(share.states) for share in task.shares):
        return ByTarget(name_of_task(task))  # its counts tell it
    return ByTarget(name_of_task(task), done_of(task), lost_of(task))


def done_of(task: Task) -> str:
    """Return the targets that all nodes acked: a bit each, hex, the first target the lowest bit."""
    acked = -1
    for share in task.shares:
        acked &= _flags(share.states, _IS_ACKED)
    return _bits(acked, len(task.targets)) if task.shares else ""


def lost_of(task: Task) -> str:
    """Return, as `done_of`, those that failed or were cancelled on a node, and wait for no other."""
    lost, over = 0, -1
    for share in task.shares:
        lost |= _flags(share.states, _IS_LOST)
        over &= _flags(share.states, _IS_OVER)
    return _bits(lost & over, len(task.targets))


def name_of_task(task: Task) -> str:
    """Return `name_of` of a task."""
    return name_of(task.action, task.kind, task.targets, is_soft=task.soft)


def name_of(action: str, kind: str, targets: Sequence[str], *, is_soft: bool) -> str:
    """Return a name that tasks have in common which ask the same of the same targets; empty: too many."""
    if len(targets) > NAMED_MAX:
        return ""
    asked = "\n".join([action, kind, "soft" if is_soft else "", *sorted(targets)])
    return hashlib.blake2b(asked.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def bits_of(places: Iterable[int]) -> str:
    """Return places as `done_of` has them."""
    number = 0
    for place in places:
        number |= 1 << place
    return f"{number:x}" if number else ""


def _flags(states: bytearray, table: bytes) -> int:
    """Return a byte for each target, 1 or 0, as one number: many are worked at once so."""
    return int.from_bytes(states.translate(table), "little")


def _bits(flags: int, count: int) -> str:
    if not flags:
        return ""
    number = int(flags.to_bytes(count, "big").translate(_DIGITS), 2)
    return f"{number:x}"

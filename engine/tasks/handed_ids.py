"""What a child calls the tasks that are handed down to it. Pure.

A whole share has the id of its task, the prefetches behind a purge ``ID~f``, a part ``ID~DIGEST``. So all
that was ever handed down of a task is found at the child by how ids begin: a cancel needs no list of them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

HANDED: Final = "~"
"""In the ids of parts. Only an engine above chooses such ids."""
SEVERAL: Final = "together"  #: how the ids of parts begin that are of several tasks
_ID_MAX: Final = 64
_DIGEST_BYTES: Final = 8
_STEM_MAX: Final = _ID_MAX - 2 * _DIGEST_BYTES - 1  #: room is left for a mark and a digest
_BEHIND: Final = chr(ord(HANDED) + 1)


def digest_of_text(text: str) -> hashlib.blake2b:
    """Return the beginning of a digest that ids are made of."""
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES)


def stem_of(task_id: str) -> str:
    """Return how the ids of all parts of a task begin, before a `HANDED`; of no two tasks the same."""
    if len(task_id) <= _STEM_MAX:
        return task_id
    digest = digest_of_text(task_id).hexdigest()
    return f"{task_id[: _STEM_MAX - 2 * _DIGEST_BYTES - 1]}{HANDED}{digest}"


def part_id(of: str, name: str) -> str:
    """Return the id of a part of the task *of*; *name* has at the most 16 characters."""
    return f"{stem_of(of)}{HANDED}{name}"


def own_id(task_id: str, operation: Operation) -> str:
    """Return what the child calls a whole share: as its task, and prefetches behind a purge otherwise."""
    return part_id(task_id, "f") if operation is Operation.PREFETCH else task_id


def bounds_of(stem: str) -> tuple[str, str]:
    """Return two texts between which the ids of all parts lie, in the order of their characters."""
    return stem + HANDED, stem + _BEHIND


def stems_in(handed_id: str) -> Iterator[str]:
    """Yield the stems that an id begins with: of the task it is a part of, and what that is a part of."""
    at = handed_id.find(HANDED)
    while at > 0:
        yield handed_id[:at]
        at = handed_id.find(HANDED, at + 1)


def root_of(handed_id: str) -> str:
    """Return the task that an id at a child is of, or is of a part of; empty: it is of several.

    Of the parts of one with a long id the beginning of that is returned: see `stem_of`.
    """
    stem = next(stems_in(handed_id), handed_id)
    return "" if stem == SEVERAL else stem


def is_of(handed_id: str, stems: Collection[str]) -> bool:
    """Tell whether an id is that of a part of one of some tasks, see `stem_of`."""
    return any(stem in stems for stem in stems_in(handed_id))

"""What a retry sends: of each node the targets that failed there, in as few tasks as that takes. Pure.

A task goes to all of its nodes with all of its targets, so nodes of which the same targets failed share one.
When there would be more than `GROUPS_MAX` tasks of a kind (purges, purges that fetch again, prefetches), the
last one sends what is left to all nodes that are left: a purge more does no harm.

A retry need not send all: a node is not configured, a task is refused, the engine ends between two of them.
So of each subtask the last task that sent it tells what became of it.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GROUPS_MAX: Final = 8
_ID_MAX: Final = 64
_ROOM: Final = len(".retry-9999.99")
_MARK: Final = ".retry-"
_OF_RETRY: Final = re.compile(r".+\.retry-[1-9][0-9]{0,3}(\.[1-9][0-9]?)?")

Failed = tuple[str, int, "Sequence[str]"]
"""A node, an operation, and the targets that failed."""


class Group(NamedTuple):
    """A task to come."""

    is_prefetch: bool  #: it fetches, and purges nothing
    with_prefetch: bool  #: it purges, and fetches again
    nodes: list[str]
    targets: list[str]


class Sent(NamedTuple):
    """A task of a retry that has settled."""

    nodes: set[str]
    targets: Sequence[str]
    purges: bool
    fetches: bool
    failed: Sequence[Failed]


def id_of(task_id: str, number: int, group: int = 0) -> str:
    """Return the id of a task's retry: the same whoever makes it, so a retry is not begun twice.

    Args:
        task_id: of the task whose failures are sent.
        number: of the retry, from 1.
        group: of the task within the retry.
    """
    root = task_id
    if len(root) > _ID_MAX - _ROOM:
        digest = hashlib.blake2b(task_id.encode(), digest_size=5).hexdigest()
        root = f"{task_id[: _ID_MAX - _ROOM - len(digest) - 1]}.{digest}"
    return f"{root}.retry-{number}" + (f".{group}" if group else "")


def is_of_retry(task_id: str) -> bool:
    """Tell whether an id is one that `id_of` makes: no client may take it."""
    return _MARK in task_id and _OF_RETRY.fullmatch(task_id) is not None


def owed_of(failed: Iterable[Failed], rounds: Iterable[Sequence[Sent]]) -> list[Failed]:
    """Return what of a task is still to be sent.

    Args:
        failed: of the task itself.
        rounds: its retries, in their order.
    """
    owed: dict[tuple[str, int], dict[str, None]] = {}

    def add(more: Iterable[Failed]) -> None:
        for node, operation, targets in more:
            owed.setdefault((node, operation), {}).update(dict.fromkeys(targets))

    add(failed)
    for tasks in rounds:
        for task in tasks:
            for (node, operation), left in owed.items():
                was_sent = task.fetches if operation == Operation.PREFETCH else task.purges
                if was_sent and node in task.nodes:
                    for target in task.targets:
                        left.pop(target, None)
        for task in tasks:
            add(task.failed)
    return [(node, operation, list(left)) for (node, operation), left in owed.items() if left]


def groups_of(failed: Iterable[Failed]) -> list[Group]:
    """Return the tasks that send what failed."""
    purges: dict[str, dict[str, None]] = {}
    fetches: dict[str, dict[str, None]] = {}
    for node, operation, targets in failed:
        of_node = fetches if operation == Operation.PREFETCH else purges
        of_node.setdefault(node, {}).update(dict.fromkeys(targets))
    nodes: dict[tuple[bool, bool, tuple[str, ...]], list[str]] = {}
    for node in dict.fromkeys([*purges, *fetches]):
        purged, fetched = purges.get(node, {}), fetches.get(node, {})
        for is_prefetch, with_prefetch, targets in (
            (False, False, tuple(one for one in purged if one not in fetched)),
            (False, True, tuple(one for one in purged if one in fetched)),
            (True, False, tuple(one for one in fetched if one not in purged)),
        ):
            if targets:
                nodes.setdefault((is_prefetch, with_prefetch, targets), []).append(node)
    of_kind: dict[tuple[bool, bool], list[Group]] = {}
    for (is_prefetch, with_prefetch, targets), names in nodes.items():
        kind = of_kind.setdefault((is_prefetch, with_prefetch), [])
        kind.append(Group(is_prefetch, with_prefetch, names, list(targets)))
    return [group for kind in sorted(of_kind) for group in _bounded(of_kind[kind])]  # what is purged first


def _bounded(groups: list[Group]) -> list[Group]:
    """Return the tasks of one kind, `GROUPS_MAX` of them at the most."""
    rest = groups[GROUPS_MAX - 1 :]
    if len(rest) < 2:  # noqa: PLR2004 - one is as good as it is
        return groups
    nodes = dict.fromkeys(name for group in rest for name in group.nodes)
    targets = dict.fromkeys(target for group in rest for target in group.targets)
    return [*groups[: GROUPS_MAX - 1], rest[0]._replace(nodes=list(nodes), targets=list(targets))]

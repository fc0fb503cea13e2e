"""The history of a store, on its way to another: tasks as their records have them, block by block.

Without it a task of which more failed than its document names could not be retried (`engine.api.retry`), and
a rewind would go back to the migration. What a block or a record of the source lacks, or is damaged in, the
target lacks, too; that is told, and ends no migration.

The target keeps what it got for `history_days` from then on, as if it had settled there; questions go by when
tasks were created. It has room for `history_max_bytes`: of more the oldest goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from engine.errors import StoreError
from engine.store.history import Wanted
from engine.tasks.blocks import open_body
from engine.tasks.settled import Columns, state_number
from engine.tasks.words import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from engine.cli.migration.side import Side
    from engine.store.history import BlockHead, History
    from engine.tasks.settled import Change, SettledTasks

_HEADS: Final = 32
_PARTIAL: Final = state_number(State.PARTIAL)


class _Piece(NamedTuple):
    """Some of a history."""

    tasks: SettledTasks | None
    changes: Sequence[Change]
    plans: Mapping[bytes, bytes]


def copy_history(source: Side, target: Side, say: Callable[[str], object]) -> int:
    """Copy the history of a side, in place of what the target has; return of how many tasks it is.

    Args:
        source: open.
        target: open; no engine has worked with it yet.
        say: told how far it is, and what is missing.

    Raises:
        StoreError: a side cannot be read or written.
    """
    if not source.histories or not target.histories:
        say("history: none is kept (engine.history_days is 0)")
        return 0
    since = max(history.complete_since() for history in source.histories)
    for history in target.histories:
        history.begin_anew(since)
    count = 0
    for history in source.histories:
        for piece in _pieces(history, say):
            _give(piece, target)
            if piece.tasks is not None:
                count += len(piece.tasks.ids)
                say(f"history: {count}")
    for why in {history.errors.text for history in (*source.histories, *target.histories)} - {""}:
        say(f"history: some of it is missing: {why}")
    return count


def has_history(side: Side) -> bool:
    """Tell whether an open side has a history of any task."""
    return any(
        history.bytes_kept() or (found := history.unpacked()).tasks or found.changes
        for history in side.histories
    )


def _pieces(history: History, say: Callable[[str], object]) -> Iterator[_Piece]:
    """Yield all of a history: tasks the newest first, each with what became of it."""
    found = history.unpacked()
    for tasks in found.tasks:
        yield _Piece(tasks, _changes(history, tasks), found.plans)
    head: BlockHead | None = None
    while heads := history.heads(Wanted(), head, _HEADS):
        for head in heads:
            _, body = history.block(head.key)
            try:
                records, plans = open_body(body)
                for tasks in records:
                    yield _Piece(tasks, _changes(history, tasks), plans)
            except StoreError as exc:
                say(f"history: a block is left out: {exc}")
    if found.changes:  # behind what was known of the same tasks before
        yield _Piece(None, found.changes, {})


def _changes(history: History, tasks: SettledTasks) -> list[Change]:
    """Return what became later of those tasks that were partial."""
    if _PARTIAL not in tasks.states:
        return []
    partial = [name for name, state in zip(tasks.ids, tasks.states, strict=True) if state == _PARTIAL]
    return history.changes(partial)


def _give(piece: _Piece, target: Side) -> None:
    """Write a piece where its tasks belong."""
    places: dict[int, list[int]] = {}
    changes: dict[int, list[Change]] = {}
    tasks = piece.tasks
    for place, name in enumerate(tasks.ids if tasks is not None else ()):
        places.setdefault(target.of(name), []).append(place)
    for change in piece.changes:
        changes.setdefault(target.of(change.task_id), []).append(change)
    columns = Columns(tasks) if tasks is not None and len(places) > 1 else None
    for number in places.keys() | changes.keys():
        part = tasks if columns is None else columns.chosen(places[number]) if number in places else None
        target.histories[number].take_over(part, changes.get(number, ()), piece.plans)

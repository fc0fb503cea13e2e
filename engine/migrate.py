"""Moving an engine's tasks from one store to another: ``purgeline migrate --from URL --to URL``.

The source is only read and stays as it is. No engine may run on either side.

*Restartable.* What is written twice is the same as what is written once: a document replaces itself, a task
of the journal that the target has is left out, and the delay queues, whose order counts, are begun again:
rows of the source's tasks that an earlier attempt wrote are dropped first. A file beside the embedded
store's says which migration was begun, so a target that holds anything else is refused.

At the end both sides are read, and what they hold is compared. Rows of delay queues whose task has no
document are not moved: such a task is in the journal, and the engine that takes it up drops its rows and
works it from the start.

One node's delay queue is read into memory (about 0.5 KB a row); everything else goes in pages.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

from engine.errors import ConfigError, StoreError
from engine.peers import slot_of
from engine.store import Batch, Callback, Parked
from engine.store.layout import check_layout
from engine.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from engine.config import Config
    from engine.store import Store

_PAGE: Final = 500
_FIRST_PAGE: Final = 2**62
_MARK: Final = "migration.json"
_LAYOUT = re.compile(r"workers=(\d+) saver_count=(\d+)\s*")


class Holds(msgspec.Struct):
    """What a side holds, counted."""

    documents: int = 0  #: tasks that are settled, or wait only for unreachable nodes
    unfinished: int = 0  #: accepted tasks that will be worked
    delayed: dict[str, int] = {}  #: subtasks in each node's delay queue
    callbacks: int = 0

    def shown(self) -> dict[str, int]:
        """Return it as a user is shown it."""
        return {
            "documents": self.documents,
            "unfinished": self.unfinished,
            "delayed": sum(self.delayed.values()),
            "callbacks": self.callbacks,
        }

    def differences(self, other: Holds) -> list[str]:
        """Say where *other* has not the same."""
        found = [
            f"{name}: {mine} and {theirs}"
            for name in ("documents", "unfinished", "callbacks")
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]
        for node in sorted(self.delayed.keys() | other.delayed.keys()):
            mine, theirs = self.delayed.get(node, 0), other.delayed.get(node, 0)
            if mine != theirs:
                found.append(f"delayed of {node}: {mine} and {theirs}")
        return found


class _Mark(msgspec.Struct):
    source: str
    target: str


class Side:
    """One side: the files of an embedded store, or a server.

    Args:
        url: as it was given.
        stores: the files, or the one server.
        of: which of them a task is in.
    """

    def __init__(self, url: str, stores: Sequence[Store], of: Callable[[str], int]) -> None:
        self.url = url
        self.stores = stores
        self.of = of

    def __repr__(self) -> str:
        return f"<Side {self.url} [{len(self.stores)} stores]>"

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Open all of it, and close it at the end."""
        with contextlib.ExitStack() as stack:
            for store in self.stores:
                store.open()
                stack.callback(store.close)
            yield

    def holds(self) -> Holds:
        """Count what is there."""
        found = Holds(delayed={})
        for store in self.stores:
            without = set(store.orphans())
            found.documents += store.count()["settled"]
            found.unfinished += sum(len(records) for _, records in store.journal())
            found.callbacks += len(store.pending_callbacks())
            for node, depth in store.depths().items():
                rows = store.parked_of(node, depth.count) if without else ()
                left_out = sum(row.task_id in without for row in rows)
                if depth.count > left_out:
                    found.delayed[node] = found.delayed.get(node, 0) + depth.count - left_out
        return found

    def is_empty(self) -> bool:
        """Tell whether there is nothing."""
        return not self.holds().differences(Holds())

    def commit(self, batches: dict[int, Batch]) -> None:
        """Write a batch to each of some stores.

        Raises:
            StoreError: something of it could not be written.
        """
        for number, batch in batches.items():
            done = self.stores[number].commit(batch)
            if done.own_error is not None:
                raise done.own_error
            for error in done.refused.values():
                raise error


def migrate(
    source: Side, target: Side, folder: Path, *, say: Callable[[str], object] = str
) -> tuple[Holds, Holds]:
    """Copy everything, and return what each side holds afterwards.

    Args:
        source: read only.
        target: empty, or what an earlier attempt has left.
        folder: where the mark of a begun migration is kept.
        say: told how far it is.

    Raises:
        StoreError: a side cannot be read or written, or the target holds something else.
    """
    with source.opened(), target.opened():
        _begin(source, target, folder)
        _documents(source, target, say)
        _journal(source, target, say)
        _delayed(source, target, say)
        _callbacks(source, target, say)
        found = source.holds(), target.holds()
    if not found[0].differences(found[1]):
        (folder / _MARK).unlink()
    return found


def _begin(source: Side, target: Side, folder: Path) -> None:
    mark = _Mark(source.url, target.url)
    path = folder / _MARK
    try:
        begun = msgspec.json.decode(path.read_bytes(), type=_Mark) if path.exists() else None
        if begun != mark and not target.is_empty():
            raise StoreError(
                f"{target.url} holds tasks already, and no migration from {source.url} to it was begun here; "
                "the target has to be empty"
            )
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(mark))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, msgspec.DecodeError) as exc:
        raise StoreError(f"{path}: cannot be read or written: {exc}") from exc


def _documents(source: Side, target: Side, say: Callable[[str], object]) -> None:
    """Copy the documents, the oldest first: a listing shows them in the order in which they came."""
    for store in source.stores:
        pages = []
        before = _FIRST_PAGE
        while before:
            pages.append(before)
            _, before = store.documents(None, before, _PAGE)
        for count, start in enumerate(reversed(pages), 1):
            found, _ = store.documents(None, start, _PAGE)
            batches: dict[int, Batch] = {}
            for text in reversed(found):
                task_id = msgspec.json.decode(text, type=_Named).task_id
                _batch(batches, target.of(task_id)).documents[task_id] = text
            target.commit(batches)
            say(f"documents: {count} of {len(pages)} pages")


class _Named(msgspec.Struct):
    task_id: str


def _journal(source: Side, target: Side, say: Callable[[str], object]) -> None:
    known = {record.id for store in target.stores for _, records in store.journal() for record in records}
    count = 0
    for store in source.stores:
        for _, records in store.journal():
            batches: dict[int, Batch] = {}
            for record in records:
                if record.id not in known:
                    _batch(batches, target.of(record.id)).accepted.append(record)
                    count += 1
            target.commit(batches)
    say(f"unfinished tasks: {count}")


def _delayed(source: Side, target: Side, say: Callable[[str], object]) -> None:
    """Copy the delay queues, each in its order, after dropping what an earlier attempt has left of them."""
    for store in target.stores:
        for node, depth in store.depths().items():
            ids = list(dict.fromkeys(row.task_id for row in store.parked_of(node, depth.count)))
            for place in range(0, len(ids), _PAGE):
                store.commit(Batch(unparked_tasks=ids[place : place + _PAGE]))
    for store in source.stores:
        without = set(store.orphans())
        for node, depth in store.depths().items():
            rows = [row for row in store.parked_of(node, depth.count) if row.task_id not in without]
            for place in range(0, len(rows), _PAGE):
                batches: dict[int, Batch] = {}
                for row in rows[place : place + _PAGE]:
                    _batch(batches, target.of(row.task_id)).parked.append(
                        Parked(row.node, row.operation, row.target, row.task_id, row.after, row.parked_at)
                    )
                target.commit(batches)
            say(f"delayed of {node}: {len(rows)}")


def _callbacks(source: Side, target: Side, say: Callable[[str], object]) -> None:
    known = {(one.task_id, one.url, one.body) for store in target.stores for one in store.pending_callbacks()}
    count = 0
    for store in source.stores:
        batches: dict[int, Batch] = {}
        for one in store.pending_callbacks():
            if (one.task_id, one.url, one.body) not in known:
                batch = _batch(batches, target.of(one.task_id))
                batch.callbacks.append(Callback(0, one.task_id, one.url, one.body))
                count += 1
        target.commit(batches)
    say(f"callbacks: {count}")


def _batch(batches: dict[int, Batch], number: int) -> Batch:
    return batches.setdefault(number, Batch())


def open_side(url: str, config: Config, folder: Path, *, is_target: bool) -> Side:
    """Return the side that *url* names.

    Args:
        url: ``sqlite:`` for the files in *folder*, ``sqlite:DIR`` for those of another folder.
        config: of the engine; the target gets its number of savers.
        folder: the engine's ``data_dir``.
        is_target: it may be made.

    Raises:
        ConfigError: the URL is not known.
        StoreError: there is no store.
    """
    scheme, _, rest = url.partition(":")
    if scheme != "sqlite":
        raise ConfigError(f"{url!r} is no store; known: 'sqlite:', 'sqlite:DIR'")
    place = folder / rest if rest else folder
    workers, savers = _layout(place, 1, config.engine.saver_count, is_target=is_target)
    stores = [SqliteStore(place / f"tasks-{number}.db") for number in range(workers * savers)]

    def of(task_id: str) -> int:
        slot = slot_of(task_id, workers) if workers > 1 else 0
        return slot * savers + (crc32(task_id.encode()) % savers if savers > 1 else 0)

    return Side(url, stores, of)


def _layout(place: Path, workers: int, savers: int, *, is_target: bool) -> tuple[int, int]:
    """Return how many workers and savers the files are of."""
    path = place / "layout"
    if not path.exists():
        if not is_target:
            raise StoreError(f"{place}: there is no embedded store (no {path.name} file)")
        check_layout(place, workers, savers)
    try:
        found = _LAYOUT.fullmatch(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise StoreError(f"{path}: cannot be read: {exc}") from exc
    if found is None:
        raise StoreError(f"{path}: is not what an engine writes there")
    return int(found[1]), int(found[2])

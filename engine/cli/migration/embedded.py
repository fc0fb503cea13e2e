"""The side of an embedded store, which may be several files."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.cli.migration.side import PAGE, parked
from engine.tasks.records import FIRST_PAGE, Batch, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.store.history import History
    from engine.store.store import Store
    from engine.tasks.records import Accepted, Callback, PageStart, Parked, Pause, Silence


class EmbeddedSide:
    """The files of an embedded store.

    Args:
        url: as it was given.
        stores: the files.
        of: which of them a task is in.
    """

    is_shared = False

    def __init__(self, url: str, stores: Sequence[Store], of: Callable[[str], int]) -> None:
        self.url = url
        self.stores = stores
        self._of = of

    def __repr__(self) -> str:
        return f"<EmbeddedSide {self.url} [{len(self.stores)} files]>"

    @property
    def histories(self) -> Sequence[History]:
        """See `Side.histories`."""
        return [history for store in self.stores for history in store.histories]

    def of(self, task_id: str) -> int:
        """See `Side.of`: the file, of which each has a history or none has."""
        return self._of(task_id)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """See `Side.opened`."""
        with contextlib.ExitStack() as stack:
            for store in self.stores:
                store.open()
                stack.callback(store.close)
            yield

    def documents(self) -> Iterator[list[bytes]]:
        """See `Side.documents`. By file."""
        for store in self.stores:
            starts = []
            at: PageStart | None = FIRST_PAGE
            while at is not None:
                starts.append(at)
                _, at = store.documents(None, at, PAGE)
            for start in reversed(starts):
                page, _ = store.documents(None, start, PAGE)
                yield page[::-1]

    def unfinished(self) -> Iterator[list[Accepted]]:
        """See `Side.unfinished`."""
        for store in self.stores:
            yield from (records for _, records in store.journal())

    def plans(self, accepted: Sequence[Accepted]) -> dict[bytes, bytes]:
        """See `Side.plans`."""
        plans: dict[bytes, bytes] = {}
        for store in self.stores:
            plans.update(store.plans(accepted))
        return plans

    def nodes(self) -> list[str]:
        """See `Side.nodes`."""
        return sorted({node for store in self.stores for node in store.depths()})

    def rows(self, node: str) -> list[Parked]:
        """See `Side.rows`. By file."""
        queue = []
        for store in self.stores:
            without = set(store.orphans())
            rows = store.parked_of(node, store.depth(node).count)
            queue += [parked(one) for row in rows if row.task_id not in without for one in rows_of(row)]
        return queue

    def callbacks(self) -> list[Callback]:
        """See `Side.callbacks`."""
        return [callback for store in self.stores for callback in store.pending_callbacks()]

    def pauses(self) -> list[Pause]:
        """See `Side.pauses`. The first file that says something of a node is right."""
        found: dict[str, Pause] = {}
        for store in self.stores:
            found = store.pauses() | found
        return list(found.values())

    def silences(self) -> list[Silence]:
        """See `Side.silences`. Of several records of one that counts which ends first."""
        found = (one for store in self.stores for one in store.silences().values())
        latest_first = sorted(found, key=lambda one: one.until, reverse=True)
        return list({one.id: one for one in latest_first}.values())

    def write(self, batch: Batch) -> None:
        """See `Side.write`."""
        parts = [Batch(plans=batch.plans, pauses=batch.pauses, silences=batch.silences) for _ in self.stores]
        for record in batch.accepted:
            parts[self.of(record.id)].accepted.append(record)
        for task_id, document in batch.documents.items():
            parts[self.of(task_id)].documents[task_id] = document
        for row in batch.parked:
            parts[self.of(row.task_id)].parked.append(row)
        for callback in batch.callbacks:
            parts[self.of(callback.task_id)].callbacks.append(callback)
        for store, part in zip(self.stores, parts, strict=True):
            store.commit(part)

    def drop_rows(self) -> None:
        """See `Side.drop_rows`."""
        for store in self.stores:
            for node, depth in store.depths().items():
                ids = list({row.task_id for row in store.parked_of(node, depth.count)})
                for place in range(0, len(ids), PAGE):
                    store.commit(Batch(unparked_tasks=ids[place : place + PAGE]))

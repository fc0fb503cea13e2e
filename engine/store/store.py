"""The interface that savers and the engine use of a store."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.store.history import History
    from engine.tasks.records import (
        Accepted,
        Batch,
        Callback,
        Committed,
        Depth,
        JournalKey,
        LastSeen,
        PageStart,
        ParkedRow,
        Pause,
        Silence,
    )
    from engine.tasks.task import Task


class AtWork(NamedTuple):
    """Some of the tasks that engines of a shared store work on."""

    tasks: list[
        tuple[float, Accepted]
    ]  #: when it was written, UNIX time by the clock of its server, and what
    down_to: float  #: of what was written before not all has been read; -inf: all has


class Store(Protocol):
    """One store file or server. Blocking; no method is called from the loop's thread.

    Every method raises `StoreError` when the store cannot do it. Of a `commit` that failed, an embedded
    store has written nothing; a shared one may have written parts, and writing the batch again is safe.

    Attributes:
        is_shared: other engines work with it too.
    """

    is_shared: bool

    @property
    def histories(self) -> Sequence[History]:
        """What it keeps of settled tasks, in parts that are read one by one; none: nothing."""

    def open(self, *, is_in_use: bool = False) -> None:
        """Open or create the store, and check it.

        Args:
            is_in_use: the worker before this one has it open and works with it.

        Raises:
            StoreDamagedError: the content is damaged; says what to do.
            StoreError: it cannot be opened or is in use.
        """

    def commit(self, batch: Batch) -> Committed:
        """Write *batch* whole, on disk when this returns."""

    def journal(self) -> Iterator[tuple[JournalKey, list[Accepted]]]:
        """Yield the journal's rows, oldest first, without tasks that have settled.

        Of a shared store those of this engine.
        """

    def at_work(self, since: float, until: float = math.inf) -> Iterator[AtWork]:
        """Yield the tasks that engines of a shared store work on, this one included, some at a time.

        Of each region the newest come first. Some of them may have settled.

        Args:
            since: UNIX time; those that were written before are left out.
            until: those that were written behind it are.
        """

    def tasks_of(self, accepted: Sequence[Accepted]) -> list[Task]:
        """Return the tasks that other engines accepted, with their plans."""

    def plans(self, accepted: Sequence[Accepted]) -> dict[bytes, bytes]:
        """Return key → text of the plans that *accepted*, of this store, were accepted for.

        One that is not there is left out.
        """

    def last_seen(self) -> dict[str, LastSeen]:
        """Return when each node was configured last, by the clock of the store."""

    def pauses(self) -> dict[str, Pause]:
        """Return what was written last of each node that was ever paused."""

    def silences(self) -> dict[str, Silence]:
        """Return every silence of alerts that is not forgotten, by its id."""

    def document(self, task_id: str) -> bytes | None:
        """Return a stored task's JSON document."""

    def documents(
        self,
        state: str | None,
        begin: PageStart,
        limit: int,
        missing: set[int] | None = None,
        token: str | None = None,
        /,
    ) -> tuple[list[bytes], PageStart | None]:
        """Return a page of documents, newest first, from *begin* on, and where the next page begins.

        With a *state* or the name of a *token* only those of that; a page looks at a bounded number then.
        None is the end. A shared store adds the regions that cannot be read to *missing*, and
        leaves them out; without it that is an error.
        """

    def count(self) -> dict[str, int]:
        """Return how many tasks the store holds: ``settled`` documents and journal ``rows``."""

    def depths(self) -> dict[str, Depth]:
        """Return the depth of every delay queue that is not empty."""

    def depth(self, node: str) -> Depth:
        """Return the depth of one delay queue."""

    def pin(self) -> Callable[[str], int]:
        """Return a function that counts the rows of a node as they are now, whatever is written until then.

        A shared store's count is always of the moment. Called by the saver's thread, between two commits; any
        thread may call the function, once.
        """

    def nodes_behind(self) -> list[str]:
        """Return the nodes that have rows which wait for their parents."""

    def parked_of(self, node: str, limit: int) -> list[ParkedRow]:
        """Return the oldest rows of a delay queue, also those that wait for their parents.

        This and all that reads rows which may go now gives host-wide rows, too.
        """

    def oldest_parked(self, node: str, limit: int, purges_only: bool = False) -> list[ParkedRow]:
        """Return the oldest rows of a delay queue that may go now; on request without prefetches."""

    def behind_parked(self, node: str, limit: int) -> list[ParkedRow]:
        """Return the oldest rows of a delay queue that wait for their parents."""

    def parked_page(
        self, node: str, place: int, limit: int, purges_only: bool = False
    ) -> tuple[list[ParkedRow], int]:
        """Return some rows that may go now, from *place* on (0: the first), and the place of the next page.

        About *limit* rows, oldest first within a page; a place of 0 is the end. Rows that go meanwhile may
        make a later page of a shared store begin some rows too far.
        """

    def host_rows(self, node: str, limit: int) -> list[ParkedRow]:
        """Return the oldest host-wide rows of a node: those that stand for others."""

    def wide_parked(self, node: str) -> list[ParkedRow]:
        """Return a node's rows of prefix and host purges that may go now, newest first, 1000 at the most."""

    def parked_like(
        self, node: str, targets: Sequence[tuple[int, str]], among: Sequence[ParkedRow]
    ) -> list[ParkedRow]:
        """Return every row of a node for these (operation, target) pairs that may go now.

        Args:
            node: name of the node.
            targets: what is about to be sent.
            among: rows just read; a store without an index of targets looks only at these.
        """

    def parked_below(
        self, node: str, prefix: str, before: float, among: Sequence[ParkedRow]
    ) -> list[ParkedRow]:
        """Return the rows of URL purges under *prefix* (without scheme) that lie before place *before*."""

    def expired(self, node: str, before_at: float, limit: int) -> list[ParkedRow]:
        """Return up to *limit* rows of a node that were parked before *before_at*, UNIX time."""

    def count_parked(self, node: str, operations: Sequence[int]) -> list[tuple[int, str, int, float]]:
        """Return operation, host, count and the oldest's UNIX time of a node's rows of some *operations*.

        A shared store counts among the oldest rows of each region, some 10,000 in all.
        """

    def prefetches_behind(self, node: str, purges: Sequence[tuple[str, str]]) -> list[ParkedRow]:
        """Return the rows of prefetches of a node that wait for purges of it: (task, target) of each."""

    def parts_parked(self, stems: Sequence[str]) -> list[str]:
        """Return the ids of parts of tasks that have rows here; *stems* of those tasks."""

    def pending_callbacks(self) -> list[Callback]:
        """Return callbacks that were not delivered, oldest first."""

    def forget(self, before_at: float, limit: int) -> int:
        """Delete up to *limit* final tasks last updated before *before_at*; return how many."""

    def orphans(self) -> list[str]:
        """Return the tasks with rows but no document: live ones, and those the journal will work again."""

    def tidy(self) -> None:
        """Pack what has come together for the history, if it is enough. Called when nobody waits for it."""

    def shrink(self) -> None:
        """Let go of memory that only makes it faster."""

    def close(self) -> None:
        """Close it."""

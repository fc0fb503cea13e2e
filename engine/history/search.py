"""A page of the history, newest first: the tasks in memory, the records in no block, blocks of all stores.

Tasks are in the order of when they were created, and of their ids, and a cursor names the last one that was
shown: so no page skips or repeats one, whichever worker or engine answers, and whatever is packed meanwhile.
Blocks overlap a little, because tasks settle in another order: one is opened before anything is shown that is
older than its newest task.
"""

from __future__ import annotations

import heapq
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.history.at_work import LAST_ID, OLDEST
from engine.history.entries import entry, parts_of
from engine.history.question import write_cursor
from engine.history.sieve import Sieve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from engine.history.at_work import Order
    from engine.history.entries import HistoryTask
    from engine.history.question import Question
    from engine.history.sieve import Hit
    from engine.store.history import BlockHead, History
    from engine.store.store import Store
    from engine.tasks.region import RegionMap
    from engine.tasks.settled import Change, Part, SettledTask

_HEADS: Final = 32  #: blocks that a store names at once
_LOOK_S: Final = 0.6  #: after so long a page ends where it is
_REACHES_S: Final = 10.0  #: what a rewind sends is to be all of it


class Page(NamedTuple):
    """Tasks, and where the next page begins; an empty cursor: nowhere."""

    tasks: list[HistoryTask]
    cursor: str
    missing: str = ""  #: why some of it may be missing; empty: nothing is


class Found(NamedTuple):
    """Tasks as they are stored, and where the next page begins; an empty cursor: nowhere."""

    hits: list[Hit]
    cursor: str
    missing: str = ""  #: why some of it may be missing; empty: nothing is


class Search:
    """Answers questions. Blocking: called on threads that read.

    Args:
        regions: the tasks in memory.
        stores: gives the histories of all stores.
        shared: the store, where other engines work with it, too.
        keep_s: what is older is not shown.
        look_s: after so long a page ends where it is, and the next one goes on.
    """

    def __init__(
        self,
        regions: RegionMap,
        stores: Callable[[], Sequence[History]],
        *,
        keep_s: float,
        look_s: float = _LOOK_S,
        shared: Store | None = None,
    ) -> None:
        self._regions = regions
        self._stores = stores
        self._keep_s = keep_s
        self._look_s = look_s
        self._shared = shared

    def page(self, question: Question, *, in_stores: bool = True) -> Page:
        """Return the newest tasks that are asked for, from the question's cursor on.

        Args:
            question: what is asked.
            in_stores: False: only those in memory are.

        Raises:
            StoreError: the store of the tasks cannot be read.
        """
        found = self.find(question, in_stores=in_stores)
        return Page([_shown(hit) for hit in found.hits], found.cursor, found.missing)

    def find(self, question: Question, *, in_stores: bool = True, is_settled: bool = False) -> Found:
        """Return the same as they are stored.

        Args:
            question: what is asked.
            in_stores: False: only those in memory are.
            is_settled: what other engines are at work on is left out.

        Raises:
            StoreError: the store of the tasks cannot be read.
        """
        stores = self._stores() if in_stores else ()
        failed = [store.errors.failed_reads for store in stores]
        found = self._found(question, stores, is_settled=is_settled or not in_stores)
        errors = [store.errors.read(before) for store, before in zip(stores, failed, strict=True)]
        return found._replace(missing=found.missing or next(filter(None, errors), ""))

    def _found(self, question: Question, stores: Sequence[History], *, is_settled: bool) -> Found:
        oldest = max(question.since, time.time() - self._keep_s)
        sieve = Sieve(question, question.cover(), oldest)
        until = time.monotonic() + self._look_s
        waiting = _Waiting(sieve)
        waiting.add(sieve.in_memory(self._regions))  # first: what settles meanwhile is in the stores then
        down_to, missing = OLDEST, ""
        if self._shared is not None and not is_settled:
            look_s = _REACHES_S if question.reaches else self._look_s
            hits, down_to, missing = sieve.at_work(self._shared, self._regions, look_s)
            waiting.add(hits)
        for store in stores:
            waiting.add(sieve.unpacked(store))
        shown: list[Hit] = []
        has_looked = False
        heads = (_heads(store, sieve) for store in stores)
        for store, head in heapq.merge(*heads, key=lambda pair: -pair[1].last_at):
            newer = (head.last_at, LAST_ID)
            shown += waiting.take(question.limit + 1 - len(shown), down_to=max(newer, down_to))
            if len(shown) > question.limit or newer < down_to:
                break
            # A page looks into one block at the least, and the next page begins further back.
            if has_looked and head.last_at < question.before[0] and time.monotonic() > until:
                return Found(shown, write_cursor(*max(newer, down_to)), missing)
            waiting.add(sieve.in_block(store, head))
            has_looked = True
        shown += waiting.take(question.limit + 1 - len(shown), down_to=down_to)
        if len(shown) > question.limit:
            del shown[question.limit :]
            return Found(shown, write_cursor(*shown[-1].order), missing)
        return Found(shown, "" if down_to == OLDEST else write_cursor(*down_to), missing)

    def complete_since(self) -> float:
        """Return since when, UNIX time, every task is found: of those created until then some may be gone.

        Raises:
            StoreError: a store cannot be read.
        """
        return max([time.time() - self._keep_s, *(store.complete_since() for store in self._stores())])

    def changes_of(self, task_id: str) -> list[Change]:
        """Return what became of a partial task, also when the history has let the task itself go.

        Raises:
            StoreError: the store of the tasks cannot be read.
        """
        found: list[Change] = []
        for store in self._stores():
            unpacked = store.unpacked([task_id.encode()]).changes  # first: it may be packed meanwhile
            found += store.changes([task_id])
            found += [change for change in unpacked if change.task_id == task_id]
        return found

    @property
    def error(self) -> str:
        """Why some of the history is missing; empty: nothing is."""
        return next((store.errors.text for store in self._stores() if store.errors.text), "")


def parts_by_now(hit: Hit, task: SettledTask) -> list[Part]:
    """Return the shares of a task that was found, as they are by now; *task* is the one of *hit*."""
    return parts_of(task, hit.plans, hit.changes, None if hit.store is None else hit.store.waiting)


def _shown(hit: Hit) -> HistoryTask:
    task = hit.task
    return entry(task, parts_by_now(hit, task), hit.match, hit.changes)


def _heads(store: History, sieve: Sieve) -> Iterator[tuple[History, BlockHead]]:
    """Yield the blocks of a store that may have something, by their newest task."""
    after: BlockHead | None = None
    while True:
        heads = store.heads(sieve.wanted, after, _HEADS)
        for head in heads:
            yield store, head
        if len(heads) < _HEADS:
            return
        after = heads[-1]


class _Waiting:
    """Hits that are not shown yet: something newer may come."""

    def __init__(self, sieve: Sieve) -> None:
        self._sieve = sieve
        self._heap: list[tuple[float, _Backwards, float, int, Hit]] = []
        self._count = 0
        self._last: Order | None = None

    def add(self, hits: Iterable[Hit]) -> None:
        """Add hits."""
        for hit in hits:
            self._count += 1
            created_at, task_id = hit.order
            settled_at = hit.columns.settled_at(hit.place)
            heapq.heappush(self._heap, (-created_at, _Backwards(task_id), -settled_at, self._count, hit))

    def take(self, count: int, *, down_to: Order) -> list[Hit]:
        """Take hits that are no older than *down_to*, newest first, each task once: as it was last."""
        taken: list[Hit] = []
        while self._heap and len(taken) < count and self._heap[0][-1].order >= down_to:
            hit = heapq.heappop(self._heap)[-1]
            if hit.order != self._last:
                self._last = hit.order
                if self._sieve.has_state(hit):
                    taken.append(hit)
        return taken


class _Backwards:
    """A text that sorts the other way round."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: _Backwards) -> bool:
        return self.text > other.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Backwards) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

"""Which tasks of the history are asked for: among those in memory, in records, and in blocks."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.errors import StoreError
from engine.history.at_work import OLDEST, order_of, read_at_work
from engine.history.covering import hosts_covering
from engine.history.entries import final_state, is_final, nodes_of_plan
from engine.history.question import CLOCKS_S
from engine.tasks.blocks import open_body
from engine.tasks.columns import columns_of
from engine.tasks.late import DOOR
from engine.tasks.settled import Columns
from engine.tasks.words import FINAL_STATES, State, host_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from engine.history.at_work import Order, RecordsAtWork
    from engine.history.covering import Cover, Match
    from engine.history.question import Question
    from engine.store.history import BlockHead, History
    from engine.store.store import Store
    from engine.tasks.records import Accepted
    from engine.tasks.region import RegionMap
    from engine.tasks.settled import Change, SettledTask, Shape
    from engine.tasks.task import Task

_RECORDS: Final = 64  #: of what they ask for is read at a time
_ACCEPTED: Final = (
    "of tasks at work in another engine it is not known here whether they run: they are listed as accepted"
)
_UNPLANNED: Final = (
    "a task at work in another engine cannot be planned here: what it is to reach is not known"
)


class Hit(NamedTuple):
    """A task that is asked for."""

    order: Order
    columns: Columns
    place: int
    match: Match | None
    changes: list[Change]
    plans: Mapping[bytes, bytes]
    store: History | None  #: None: it is in memory

    @property
    def task(self) -> SettledTask:
        """The task, read out of its columns."""
        return self.columns.task(self.place)


class HitsAtWork(NamedTuple):
    """Hits among the tasks that other engines work on."""

    hits: list[Hit]
    down_to: Order  #: what is older was not looked at: the next page begins there
    missing: str = ""  #: why some are missing that no page has; empty: none are


class Sieve:
    """Keeps what is asked for.

    Args:
        question: what is asked.
        cover: of its target.
        oldest: what was created before is not shown.
    """

    def __init__(self, question: Question, cover: Cover | None, oldest: float) -> None:
        self._question = question
        self._cover = cover
        self._oldest = oldest
        self._hosts = frozenset(hosts_covering(question.host)) if question.host else frozenset()
        self._changes: dict[int, dict[str, list[Change]]] = {}  # of each store those in no block
        self.wanted = question.wanted(cover, oldest)

    # Where tasks are

    def in_memory(self, regions: RegionMap) -> list[Hit]:
        """Return the hits among the tasks in memory."""
        hits: list[Hit] = []
        for task in regions.tasks():
            if task.is_committed and not task.is_internal:
                hits += self._of_task(task)
        return hits

    def at_work(self, store: Store, regions: RegionMap, look_s: float) -> HitsAtWork:
        """Return the hits among the tasks that other engines of a store work on: as they were accepted.

        It is read behind `in_memory` and ahead of the records: the way that tasks go.

        Args:
            store: shared with the other engines.
            regions: the tasks in memory: this engine works on them.
            look_s: so long its entries are read, and half as long what they ask for: some in any case.
        """
        question = self._question
        if question.state not in {"", State.ACCEPTED, State.RUNNING}:
            return HitsAtWork([], OLDEST)
        since = 0.0 if question.reaches else self._oldest - CLOCKS_S

        def may_fit(record: Accepted) -> bool:
            return regions.get(record.id) is None and self._may_fit(record)

        read = read_at_work(store, since, question.before, may_fit, time.monotonic() + look_s)
        try:
            if question.state == State.RUNNING:  # that they are accepted is all that is known of them
                return HitsAtWork([], OLDEST, _ACCEPTED if any(read.runs) else read.missing)
            return self._newest(store, read, time.monotonic() + look_s / 2)
        finally:
            while read.runs:  # one by one: what lets go of all at once keeps every other thread waiting
                read.runs.pop()

    def _newest(self, store: Store, read: RecordsAtWork, until: float) -> HitsAtWork:
        """Return the hits among records, until there are enough for a page, or the time is over."""
        newest = heapq.merge(*read.runs, key=order_of, reverse=True)
        hits: list[Hit] = []
        count = 0
        missing = read.missing
        block = list(itertools.islice(newest, _RECORDS))
        while block:
            found: list[Hit] = []
            for task in store.tasks_of(block):
                is_known = bool(task.targets) or task.plan is not None
                if not is_known and self._question.action in {"", task.action}:
                    missing = missing or _UNPLANNED
                if is_known or not self._question.reaches:
                    found += self._of_task(task)
            found = self._with_state(store, found)
            hits += found
            count += sum(map(self.has_state, found))
            last, block = order_of(block[-1]), list(itertools.islice(newest, _RECORDS))
            if block and (count > self._question.limit or last < read.down_to or time.monotonic() > until):
                return HitsAtWork(hits, max(last, read.down_to), missing)
        return HitsAtWork(hits, read.down_to, missing)

    def _with_state(self, store: Store, hits: list[Hit]) -> list[Hit]:
        """Return hits without those that have settled, when their state is asked for.

        The journal has a task until all of its entry have settled.
        """
        if not hits or not self._question.state:
            return hits
        settled = {change.task_id for change in store.histories[0].states([hit.order[1] for hit in hits])}
        return [hit for hit in hits if hit.order[1] not in settled]

    def _may_fit(self, record: Accepted) -> bool:
        """Tell whether a task may be asked for, before its body is read."""
        question, by, body = self._question, record.by, record.body
        if question.only not in {"", record.token} or question.by not in {"", by.token, by.address}:
            return False
        if not self._is_in_time(record.created_at, record.id, math.inf):
            return False
        hosts = self._hosts if self._cover is None else self._cover.hosts
        if not hosts or not body.isascii() or b"\\" in body:
            return True
        text = body.lower()
        return any(host.encode() in text for host in hosts)

    def _of_task(self, task: Task) -> list[Hit]:
        is_over = task.state in FINAL_STATES
        if self._question.reaches and task.is_scheduled and not is_over:
            return []  # nothing of it has been sent
        if not self._is_in_time(task.created_at, task.id, task.updated_at if is_over else math.inf):
            return []
        if self._cover is not None and self._cover.match(task.kind, task.targets) is None:
            return []
        plans = {} if task.plan is None else {task.plan.key: task.plan.text}
        return self._hits(Columns(columns_of([task])), plans, None, is_over=is_over)

    def unpacked(self, store: History) -> list[Hit]:
        """Return the hits among the records of a store that are in no block."""
        opened = store.unpacked(self.wanted.words)
        self._changes[id(store)] = _by_task(opened.changes)
        hits: list[Hit] = []
        for record in opened.tasks:
            hits += self._hits(Columns(record), opened.plans, store)
        return self._with_changes(store, hits)

    def in_block(self, store: History, head: BlockHead) -> list[Hit]:
        """Return the hits of a block; none when it is damaged, which the store says from then on."""
        cover = self._cover
        has_wide = cover is not None and cover.may_have_wide(head.starts, head.patterns)
        hashes, packed = store.block(head.key)
        found = None if cover is None else sorted(_places(hashes, self.wanted.targets))
        if not packed or (found is not None and not found and not has_wide):
            return []
        hits: list[Hit] = []
        first = 0  # place of a part's first target among all
        try:
            parts, plans = open_body(packed)
            for part in parts:
                columns = Columns(part)
                end = first + columns.target_count
                places: Sequence[int] | None = None
                if found is not None:
                    own = columns.places_of([at - first for at in found if first <= at < end])
                    places = sorted({*own, *(columns.wide_places() if has_wide else ())})
                hits += self._hits(columns, plans, store, places)
                first = end
        except StoreError as exc:
            store.errors.cannot_read(str(exc))
        return self._with_changes(store, hits)

    def _with_changes(self, store: History, hits: list[Hit]) -> list[Hit]:
        """Return hits with what became of those that were partial."""
        partial = [hit.order[1] for hit in hits if hit.columns.state(hit.place) not in FINAL_STATES]
        if not partial:
            return hits
        packed, later = _by_task(store.changes(partial)), self._changes[id(store)]
        changes = {name: packed.get(name, []) + later.get(name, []) for name in partial}
        waiting = [name for name, known in changes.items() if not any(map(is_final, known))]
        for change in store.states(waiting):
            changes[change.task_id].append(change)
        return [hit._replace(changes=changes.get(hit.order[1], [])) for hit in hits]

    # Which of them

    def _hits(
        self,
        columns: Columns,
        plans: Mapping[bytes, bytes],
        store: History | None,
        places: Iterable[int] | None = None,
        *,
        is_over: bool = True,
    ) -> list[Hit]:
        """Return the hits of one record, each task once: no more of them than a page shows, and one.

        Args:
            columns: the record.
            plans: key → text.
            store: where it is; None: in memory.
            places: those of tasks that are looked at; None: all are.
            is_over: nothing more of its tasks is sent than what waits in delay queues.
        """
        fitting = {number for number, shape in enumerate(columns.record.shapes) if self._fits(shape)}
        picked: dict[Order, tuple[int, Match | None]] = {}
        ids, created, cover = columns.record.ids, columns.created, self._cover
        for place in range(len(columns)) if places is None else places:
            order = (created[place], ids[place])
            ended_at = columns.settled_at(place) if is_over else math.inf
            if columns.shape_of[place] not in fitting or not self._is_in_time(*order, ended_at):
                continue
            match = None
            if cover is not None:
                match = cover.match(columns.shape(place).kind, columns.targets(place))
                if match is None:
                    continue
            if self._has_all_else(columns, place, plans):
                picked[order] = (place, match)
        orders: Iterable[Order] = picked
        if not self._question.state:  # else some of them may not have it by now
            orders = heapq.nlargest(self._question.limit + 1, picked)
        return [Hit(order, columns, *picked[order], [], plans, store) for order in orders]

    def _is_in_time(self, created_at: float, task_id: str, ended_at: float) -> bool:
        question = self._question
        return (
            created_at <= question.until
            and (ended_at if question.reaches else created_at) >= self._oldest
            and (created_at, task_id) < question.before
        )

    def _fits(self, shape: Shape) -> bool:
        question = self._question
        return (
            (question.reaches or shape.by[2] != DOOR)
            and question.action in {"", shape.action}
            and question.only in {"", shape.token}
            and (not question.by or question.by in shape.by[:2])
        )

    def _has_all_else(self, columns: Columns, place: int, plans: Mapping[bytes, bytes]) -> bool:
        question = self._question
        if question.state in FINAL_STATES and columns.state(place) in FINAL_STATES - {question.state}:
            return False  # of any other state that is asked for, it may be what came of a task that had it
        if question.node:
            odd = columns.record.odd.get(place)
            of_plan = nodes_of_plan(columns.shape(place).plan, plans)
            if question.node not in of_plan and (
                odd is None or all(part.node != question.node for part in odd.parts)
            ):
                return False
        return not self._hosts or any(host_of(target) in self._hosts for target in columns.targets(place))

    def has_state(self, hit: Hit) -> bool:
        """Tell whether a task has, by now, the state that is asked for."""
        asked = self._question.state
        return not asked or final_state(hit.columns.state(hit.place), hit.changes) == asked


def _by_task(changes: Iterable[Change]) -> dict[str, list[Change]]:
    by_task: dict[str, list[Change]] = {}
    for change in changes:
        by_task.setdefault(change.task_id, []).append(change)
    return by_task


def _places(hashes: bytes, sought: Iterable[bytes]) -> Iterator[int]:
    """Yield the places of four bytes among others."""
    for one in sought:
        at = hashes.find(one)
        while at >= 0:
            if not at % 4:
                yield at // 4
            at = hashes.find(one, at + 1)

"""All that is known of one task: where it is, and what it waits for. A part of each worker."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from engine.api.debug_subtasks import GONE, DebugSubtasks, subtasks_of
from engine.api.overview import shown_state
from engine.tasks import stored_documents
from engine.tasks.document_types import TaskDocument
from engine.tasks.words import FINAL_STATES, Operation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engine.api.find import FindTask
    from engine.cluster.cluster import Cluster
    from engine.delivery.parts import Delivery
    from engine.nodes.node import Node
    from engine.notify.outbox import Outbox
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.tasks.document_types import NodeDocument
    from engine.tasks.records import ParkedRow
    from engine.tasks.task import Task

ROWS_MAX: Final = 10_000  #: of a delay queue, the oldest, that are looked through
_NODES_MAX: Final = 50  #: whose delay queues are


class DebugRows(msgspec.Struct):
    """Rows of a task in the delay queue of one node."""

    node: str
    node_state: Annotated[str, msgspec.Meta(description="gone: it is not configured")]
    node_reason: str
    delayed: Annotated[int, msgspec.Meta(description="subtasks of the task that are rows, wherever they lie")]
    rows: Annotated[int, msgspec.Meta(description="of the task, among those that were looked at")]
    first_place: Annotated[int, msgspec.Meta(description="of these the oldest; 1: it is the next; 0: none")]
    looked_at: Annotated[int, msgspec.Meta(description="rows of the queue, the oldest")]
    queue: Annotated[int, msgspec.Meta(description="rows of all tasks")]
    behind: Annotated[int, msgspec.Meta(description="of the task, those that wait for their parents' rows")]
    operation: str
    target: Annotated[str, msgspec.Meta(description="of the oldest")]
    parked_at: float
    next_try_s: Annotated[
        float, msgspec.Meta(description="until it may be sent; 0: as soon as the node takes it")
    ]


class DebugCallback(msgspec.Struct):
    """A callback that is not over."""

    host: str
    attempts: Annotated[int, msgspec.Meta(description="made so far")]


class DebugTaskOfWorker(msgspec.Struct):
    """What one worker knows of a task."""

    worker: str
    pid: int
    place: Annotated[
        Literal["memory", "store", "nowhere"],
        msgspec.Meta(description="memory: it is at work here; store: it is on disk, or shared"),
    ]
    engine: Annotated[str, msgspec.Meta(description="with Redis: the engine that works on it, or empty")]
    why: Annotated[list[str], msgspec.Meta(description="what it waits for, in sentences")]
    subtasks: list[DebugSubtasks]
    rows: list[DebugRows]
    callbacks: list[DebugCallback]
    document: TaskDocument | None


class TaskLook:
    """Looks for a task in this worker.

    Args:
        find: finds it.
        delivery: sends its subtasks.
        savers: which store has its rows.
        reader: reads that.
        outbox: has its callbacks.
        nodes: name → node.
        cluster: with a store that several engines share.
    """

    def __init__(
        self,
        find: FindTask,
        delivery: Delivery,
        savers: SaverPool,
        reader: StoreReader,
        *,
        outbox: Outbox,
        nodes: Mapping[str, Node],
        cluster: Cluster | None,
    ) -> None:
        self.find = find
        self._delivery = delivery
        self._savers = savers
        self._reader = reader
        self._outbox = outbox
        self._nodes = nodes
        self._cluster = cluster

    async def look(self, worker: str, task_id: str) -> DebugTaskOfWorker:
        """Return what is known of a task here.

        Raises:
            StoreError: the store cannot be read.
        """
        task = self.find.in_memory(task_id)
        stored = await self.find.here(task_id)
        shown = DebugTaskOfWorker(
            worker, os.getpid(), "nowhere", await self._engine(task_id), [], [], [], [], None
        )
        shown.callbacks = [DebugCallback(host, attempts) for host, attempts in self._outbox.of_task(task_id)]
        if stored is None:
            return shown
        shown.place = "store" if task is None else "memory"
        document = msgspec.convert(stored_documents.public(stored), TaskDocument)
        shown.document = document
        if task is not None:
            shown.subtasks = subtasks_of(task, self._nodes)
        shown.rows = await self._rows(document)
        shown.why = [
            *self._why(task, document, shown.engine),
            *(one.why for one in shown.subtasks if one.why),
        ]
        shown.why += map(_sentence, shown.rows)
        shown.why += [
            f"a callback to {one.host} is not delivered, after {one.attempts} attempts"
            for one in shown.callbacks
        ]
        return shown

    async def _engine(self, task_id: str) -> str:
        if self._cluster is None:
            return ""
        live = await self._reader.read(self._cluster.members.store.live, task_id)
        return str(live.consumer) if live else ""

    def _why(self, task: Task | None, document: TaskDocument, engine: str) -> Iterator[str]:
        if document.state in FINAL_STATES:
            return
        if task is None:
            where = f"the engine {engine} works on it" if engine else "what is left of it are rows"
            yield f"it is not in the memory of this worker: {where}"
            return
        now = time.time()
        if task.is_scheduled:
            yield f"it begins in {task.start_at - now:.0f} s"
        elif not task.shares:
            yield f"it is stored and not yet expanded: {len(self._delivery.dispatch.inbox)} tasks are"
        if task.is_handed:
            yield "its document is being written"
        if task.rebound is not None:
            yield "its purges are sent once more (rebound), or its verification comes behind that"
        if task.verify is not None and task.verify.run is not None:
            done = task.verify.document
            yield f"it is verified: {done.checked} visits are over, {done.stale} of them stale"
        if task.is_due:
            yield f"its due time passed {now - task.due_at:.0f} s ago"

    async def _rows(self, document: TaskDocument) -> list[DebugRows]:
        """Return what of a task is in delay queues."""
        store = self._savers.of(document.task_id).store
        delayed = [node for node in document.nodes if node.delayed][:_NODES_MAX]
        return [
            self._rows_of(
                node, await self._reader.read(store.parked_of, node.name, ROWS_MAX), document.task_id
            )
            for node in delayed
        ]

    def _rows_of(self, part: NodeDocument, rows: list[ParkedRow], task_id: str) -> DebugRows:
        places = [place for place, row in enumerate(rows, 1) if row.task_id == task_id]
        node = self._nodes.get(part.name)
        state, reason, _ = GONE if node is None else shown_state(node)
        depth = max(len(rows), self._delivery.queues.depth(part.name))
        shown = DebugRows(
            part.name, state, reason, part.delayed, len(places), 0, len(rows), depth, 0, "", "", 0.0, 0.0
        )
        if places:
            first = rows[places[0] - 1]
            next_s = 0.0 if node is None else node.postponed.wait_s(first.operation, first.target)
            shown.first_place = places[0]
            shown.behind = sum(bool(rows[place - 1].after) for place in places)
            shown.operation, shown.target = Operation(first.operation).name.lower(), first.target
            shown.parked_at, shown.next_try_s = first.parked_at, round(max(0.0, next_s), 3)
        return shown


def _sentence(rows: DebugRows) -> str:
    """Return what rows wait for."""
    if rows.first_place:
        where = f"the first at place {rows.first_place} of {rows.queue}"
        if rows.next_try_s:
            where += f", to be tried in {rows.next_try_s:g} s"
    elif rows.looked_at < rows.queue:
        where = f"behind the oldest {rows.looked_at} of {rows.queue}"
    else:
        where = "they are being written, or delivered"
    subtasks = "1 subtask waits" if rows.delayed == 1 else f"{rows.delayed} subtasks wait"
    reason = f"; {rows.node_reason}" if rows.node_reason else ""
    return f"{rows.node}, which is {rows.node_state}: {subtasks} in its delay queue, {where}{reason}"

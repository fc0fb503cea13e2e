"""From committed tasks to their nodes, and from answers back to states.

A task is expanded into one `Share` per node. A share without parents is queued at once; the others
are released target by target, each when all of its parents have answered for that target. The engine's
rules for a parent that does not ack:

- *failed* (refused, wrong answer): the edge is purged all the same. It may fetch the old object again,
  but not purging it would surely leave it stale; the task fails and says so.
- *unreachable*: the edge is purged at once, so that one dead parent does not keep every edge stale;
  and again when the parent's purge has been delivered, because until then the edge may have fetched
  the old object from it. Only the second one counts.

With a shared store a task's rows for delay queues are kept until nothing of the task is on its way any
more, and are then written with its document; from there on it is every engine's. So the count of a task is
changed by one engine as long as it works on it, and by the store afterwards.

Everything here runs on the loop and does no I/O.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from engine.tasks import documents
from engine.tasks.records import Callback, JournalKey, Parked
from engine.tasks.task import ERRORS_MAX, Share, Task
from engine.tasks.words import (
    ACKED,
    BLOCKED,
    CANCELLED,
    DELAYED,
    FAILED,
    FINAL_STATES,
    QUEUED,
    RETRYING,
    Operation,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from engine.base.timer import Timer
    from engine.config.tables import NodeConfig
    from engine.delivery.queues import DelayQueues
    from engine.nodes.node import Node
    from engine.nodes.queue import Item
    from engine.observe.counters import Stats
    from engine.saver.pool import SaverPool
    from engine.tasks.region import RegionMap

_EXPAND_BUDGET: Final = 20_000
"""Subtasks expanded in one turn of the loop (≈ 10 ms), so that a large batch does not stop the intake."""
_RETRY_BASE_S: Final = 0.1
_RETRY_MAX_S: Final = 5.0
_BYTE_MAX: Final = 255

_encode = msgspec.json.encode

# Members of enums that are asked for with every task; see `node`.
_RUNNING: Final = State.RUNNING
_DONE: Final = State.DONE
_PREFETCH: Final = Operation.PREFETCH


class Dispatch:
    """Owns the states of all tasks after their commit.

    Args:
        dues: fires at the due times of tasks; `timer` at everything else.
        on_alert: told what an operator should know: key, level, message, and facts by name.
        is_shared: other engines work with the same store.
    """

    def __init__(
        self,
        regions: RegionMap,
        dues: Timer,
        timer: Timer,
        stats: Stats,
        *,
        attempts_max: int,
        on_alert: Callable[..., None],
        is_shared: bool = False,
    ) -> None:
        self.is_shared = is_shared
        self.touched: set[Task] | None = set() if is_shared else None  #: they have made progress
        self.regions = regions
        self.dues = dues
        self.timer = timer
        self.stats = stats
        self.on_alert = on_alert
        self.nodes: dict[str, Node] = {}
        self.live = 0  #: subtasks that are neither settled nor in a delay queue
        self.on_room: Callable[[], None] | None = None  #: called once when there are fewer of them
        self.savers: SaverPool
        self.delay: DelayQueues
        self._attempts_max = attempts_max
        self._inbox: deque[Task] = deque()
        self._is_expanding = False
        self._retry_number = 0
        self._journal_left: dict[tuple[int, JournalKey], int] = {}
        self._early = _Early()
        self._idle: asyncio.Event | None = None
        self.is_stopped = False

    def __repr__(self) -> str:
        return f"<Dispatch [{self.live} live subtasks, {len(self._inbox)} tasks to expand]>"

    @property
    def inbox_count(self) -> int:
        """Tasks that are stored and not yet expanded."""
        return len(self._inbox)

    # Tasks in

    def adopt_failed(self, task: Task, journal_key: JournalKey, reason: str) -> None:
        """Settle a task of the journal that the configuration does not allow any more."""
        self._count_journal(task, journal_key)
        documents.add_error(task, "", "", reason)
        task.updated_at = time.time()
        self._settle(task, State.FAILED)

    def journal_rows(self) -> Iterable[tuple[int, JournalKey]]:
        """Return the journal rows of which tasks are at work."""
        return list(self._journal_left)

    def has_journal(self, journal_key: JournalKey) -> bool:
        """Tell whether tasks of a journal row are at work."""
        return any(key == journal_key for _, key in self._journal_left)

    def _count_journal(self, task: Task, journal_key: JournalKey) -> None:
        task.journal_key = journal_key
        key = (id(self.savers.of(task.id)), journal_key)
        self._journal_left[key] = self._journal_left.get(key, 0) + 1

    def submit(self, task: Task, journal_key: JournalKey, *, left_s: float | None = None) -> None:
        """Take a committed task over; `live` has counted it since it was accepted.

        Args:
            task: saved by its saver.
            journal_key: the journal's row that holds it.
            left_s: until it is due, for one of an earlier process, as far as the wall clock can tell;
                one that has just come has all of its ``due_s``, whatever happens to that clock.
        """
        self._count_journal(task, journal_key)
        task.body = b""
        wait_s = task.due_s if left_s is None else max(0.0, min(task.due_s, left_s))
        self.dues.add(task.id, wait_s, lambda: self._due(task))
        self._inbox.append(task)
        if not self._is_expanding:
            self._is_expanding = True
            asyncio.get_running_loop().call_soon(self._expand_some)

    def _expand_some(self) -> None:
        budget = _EXPAND_BUDGET
        while self._inbox and budget > 0:
            task = self._inbox.popleft()
            if not task.shares and task.state not in FINAL_STATES:
                budget -= task.total + 10
                self._expand(task)
        self._is_expanding = bool(self._inbox) and not self.is_stopped
        if self._is_expanding:
            asyncio.get_running_loop().call_soon(self._expand_some)

    def _expand(self, task: Task) -> None:
        """Make the shares of a task and queue those that wait for nobody."""
        plan = task.plan
        assert plan is not None
        count = len(task.targets)
        task.state = State.PARTIAL if task.is_due else _RUNNING
        task.live = task.total
        purges: list[Share] = []
        for step in plan.steps:
            operation = plan.operation_at(step, task.action, task.kind, soft=task.soft)
            share = Share(task, self.nodes[step.node], operation, count)
            if step.parents:
                _link(share, [purges[index] for index in step.parents])
            purges.append(share)
        task.shares = purges
        if task.prefetch:
            fetches: list[Share] = []
            for own, step in zip(purges, plan.steps, strict=True):
                share = Share(task, own.node, _PREFETCH, count)
                _link(share, [own, *(fetches[index] for index in step.parents)])
                fetches.append(share)
            task.shares = purges + fetches
        if task.progress is not None:
            self._resume(task, task.progress)
            return
        indexes = range(count)
        for share in purges:
            if share.blockers is None:
                share.node.add(share, indexes)

    def _resume(self, task: Task, progress: dict[tuple[str, int], bytes]) -> None:
        """Begin where an engine before this one had come to: what was acked is not sent again."""
        acked: dict[Share, list[int]] = {}
        for share in task.shares:
            marks = progress.get((share.node.name, int(share.operation)), b"")
            if len(marks) == len(share.states):
                acked[share] = [index for index, mark in enumerate(marks) if mark]
                share.acked = len(acked[share])
                for index in acked[share]:
                    share.states[index] = ACKED
        for share in task.shares:
            if share.blockers is None:
                left = [index for index, state in enumerate(share.states) if state == BLOCKED]
                if left:
                    share.node.add(share, left)
        for share, indexes in acked.items():
            self._release(share, indexes)
        done = sum(map(len, acked.values()))
        if done:
            self._less_live(task, done)

    # Answers

    def acked(self, items: list[Item]) -> None:
        """Fold requests that a node acked into their tasks.

        Runs once per answer at full rate, so answers are grouped by share first: neighbours on the
        wire nearly always belong to the same.
        """
        grouped: dict[Share, list[int]] = {}
        last: Share | None = None
        indexes: list[int] = []
        for share, index, others in items:
            if share is not last:
                indexes = grouped.setdefault(share, [])
                last = share
            indexes.append(index)
            if others is not None:
                for other, place in others:
                    grouped.setdefault(other, []).append(place)
        now = time.time()
        for share, indexes in grouped.items():
            self._share_acked(share, indexes, now)

    def _share_acked(self, share: Share, indexes: list[int], now: float) -> None:
        states = share.states
        for index in indexes:
            states[index] = ACKED
        count = len(indexes)
        share.acked += count
        task = share.task
        if task.owner is not None:  # `is_internal`; a property would cost a call an answer
            task.owner.acked(share, indexes)
            return
        self.stats.subtasks_acked += count
        task.updated_at = now
        if self.touched is not None and task.live > count:
            self.touched.add(task)
        if share.children:
            self._release(share, indexes)
        self._less_live(task, count)

    def failed(self, item: Item, reason: str) -> None:
        """Fail every subtask of a request for good."""
        share, index, others = item
        for owner, place in ((share, index), *(others or ())):
            self._fail(owner, [place], reason)

    def _fail(self, share: Share, indexes: list[int], reason: str) -> None:
        task = share.task
        for index in indexes:
            share.states[index] = FAILED
        share.failed += len(indexes)
        if task.owner is not None:
            task.owner.failed(share, indexes, reason)
            return
        self.stats.subtasks_failed += len(indexes)
        for index in indexes[:ERRORS_MAX]:
            documents.add_error(task, share.node.name, task.targets[index], reason)
        task.updated_at = time.time()
        self._release(share, indexes)
        self._less_live(task, len(indexes))

    def refused(self, node: NodeConfig, reason: str) -> None:
        """Note that a node refused; an operator must act."""
        self.stats.subtasks_refused += 1
        self.on_alert(f"refused:{node.name}", "error", f"{node.name} {reason}")

    def takes_purges_again(self, node: NodeConfig) -> None:
        """Note that a node refuses no host any more."""
        self.on_alert(f"refused:{node.name}", "resolved", f"{node.name} takes purges again")

    def retry(self, item: Item, reason: str) -> None:
        """Queue a request's subtasks again after a pause, unless they had their attempts."""
        share, index, others = item
        again: dict[Share, list[int]] = {}
        attempt = 1
        for owner, place in ((share, index), *(others or ())):
            attempts = owner.attempts = owner.attempts if owner.attempts is not None else {}
            attempts[place] = attempt = attempts.get(place, 0) + 1
            if attempt >= self._attempts_max:
                self._fail(owner, [place], f"{reason}, {attempt} times")
            else:
                owner.states[place] = RETRYING
                again.setdefault(owner, []).append(place)
        if not again:
            return
        self.stats.subtasks_retried += 1
        self._retry_number += 1
        pause_s = min(_RETRY_MAX_S, _RETRY_BASE_S * 2**attempt) * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self.timer.add(("retry", self._retry_number), pause_s, lambda: self._retry_now(again))

    def _retry_now(self, again: dict[Share, list[int]]) -> None:
        for share, indexes in again.items():
            left = [index for index in indexes if share.states[index] == RETRYING]
            if left and share.task.is_internal:
                share.node.add_backlog(share, left)
            elif left:
                share.node.add(share, left)

    # Children

    def _release(self, share: Share, indexes: Iterable[int]) -> None:
        """A parent is through with these targets: queue them where it was the last to wait for."""
        for child in share.children or ():
            blockers = child.blockers
            assert blockers is not None
            ready = []
            for index in indexes:
                left = blockers[index] - 1
                blockers[index] = left
                if not left:
                    ready.append(index)
            if ready:
                self._unblocked(child, ready)

    def _unblocked(self, share: Share, ready: list[int]) -> None:
        if share.cancelled or share.task.progress is not None:
            ready = [index for index in ready if share.states[index] == BLOCKED]
        own = share.parents[0] if share.operation is _PREFETCH else None
        if own is not None and own.node is share.node and own.failed:
            lost = [index for index in ready if own.states[index] == FAILED]
            ready = [index for index in ready if own.states[index] != FAILED]
            if lost:
                self._fail(share, lost, "not prefetched, because its purge failed")
        delayed = [parent for parent in share.parents if parent.delayed]
        if delayed:
            ready = self._park_behind(share, ready, delayed)
        if ready:
            share.node.add(share, ready)

    def _park_behind(self, share: Share, ready: list[int], parents: list[Share]) -> list[int]:
        """Park what has an unreachable parent, and purge it early; return the rest."""
        rest: list[int] = []
        behind: dict[str, list[int]] = {}
        for index in ready:
            names = [token_of(parent) for parent in parents if parent.states[index] == DELAYED]
            if names:
                behind.setdefault(",".join(names), []).append(index)
            else:
                rest.append(index)
        for after, indexes in behind.items():
            if share.operation is not _PREFETCH:
                self._send_early(share, indexes)
            self.park(share, indexes, f"waits for {after.replace(':f', '')}", after=after)
        return rest

    def _send_early(self, share: Share, indexes: list[int]) -> None:
        targets = [share.task.targets[index] for index in indexes]
        early = Task.internal(targets, owner=self._early, task_id=share.task.id)
        # With what else has an owner: a share's lane may stand in one queue only.
        share.node.add_backlog(Share(early, share.node, share.operation, len(indexes)), range(len(indexes)))

    # Unreachable nodes

    def park(self, share: Share, indexes: Sequence[int], why: str, *, after: str = "") -> None:
        """Move subtasks of an unreachable node to its delay queue, on disk."""
        task = share.task
        if task.owner is not None:
            task.owner.parked(share, indexes)
            return
        now = time.time()
        for index in indexes:
            share.states[index] = DELAYED
        if not share.delayed and not after:
            reason = f"unreachable: {why}; it is delivered when the node is back"
            documents.add_error(task, share.node.name, task.targets[indexes[0]], reason)
        share.delayed += len(indexes)
        self.stats.subtasks_delayed += len(indexes)
        name = share.node.name
        operation = int(share.operation)
        rows = [Parked(name, operation, task.targets[index], task.id, after, now) for index in indexes]
        if not self.is_shared:
            self.delay.park(share.node, task.id, rows)
        elif task.parked is None:
            task.parked = rows
        else:
            task.parked += rows
        if share.children:
            self._release(share, indexes)
        self._less_live(task, len(indexes))

    def late_acked(self, task: Task, share: Share, index: int) -> None:
        """A delayed subtask of a task in memory was delivered."""
        if share.states[index] == DELAYED:
            share.states[index] = ACKED
            share.delayed -= 1
            share.acked += 1
            self._changed_late(task)

    def late_failed(self, task: Task, share: Share, index: int, reason: str) -> None:
        """A delayed subtask of a task in memory was answered, but not with success."""
        if share.states[index] == DELAYED:
            share.states[index] = FAILED
            share.delayed -= 1
            share.failed += 1
            documents.add_error(task, share.node.name, task.targets[index], reason)
            self._changed_late(task)

    def _changed_late(self, task: Task) -> None:
        task.updated_at = time.time()
        if task.live == 0:
            self._over(task)

    def node_down(self, node: NodeConfig, reason: str) -> None:
        """A node cannot be reached any more."""
        text = f"{node.name} is unreachable: {reason}"
        self.on_alert(f"node:{node.name}", "error", text, event="node.down", node=node.name, layer=node.layer)

    def node_ready(self, node: NodeConfig, away_s: float) -> None:
        """A node is back, and what had been kept for it is delivered: visitors may be sent there again."""
        facts = {"node": node.name, "layer": node.layer, "away_s": round(away_s, 3)}
        text = f"{node.name} is back and up to date"
        self.on_alert(f"node:{node.name}", "resolved", text, event="node.ready", **facts)

    def node_returns(self, node: NodeConfig) -> None:
        """A node answers again: deliver its delay queue."""
        self.delay.deliver(self.nodes[node.name])

    # Ends

    def _less_live(self, task: Task, count: int) -> None:
        task.live -= count
        self.live -= count
        if task.live == 0:
            self._over(task)
        if self.live == 0 and self._idle is not None:
            self._idle.set()
        self._made_room()

    def _made_room(self) -> None:
        if self.on_room is not None:
            asyncio.get_running_loop().call_soon(self.on_room)
            self.on_room = None

    def _over(self, task: Task) -> None:
        """Nothing of the task is on its way any more: settle it, unless it waits for delayed ones."""
        if task.is_lost:
            self.drop(task)
            return
        state = documents.state_of(task, is_due=task.is_due)
        if state is not _RUNNING:
            self._settle(task, state)
        elif self.is_shared and not task.is_handed:
            task.version += 1
            self._save(task)

    def _settle(self, task: Task, state: State) -> None:
        if task.state is not state:
            self._count(state)
        task.state = state
        if state is _DONE:
            task.errors = ()  # they told why it took several attempts
            self.stats.task_s.observe(max(0.0, task.updated_at - task.created_at))
        if state in FINAL_STATES:
            self.dues.cancel(task.id)
        task.version += 1
        self._save(task)

    def _count(self, state: State) -> None:
        if state is _DONE:
            self.stats.tasks_done += 1
        elif state is State.FAILED:
            self.stats.tasks_failed += 1
        elif state is State.CANCELLED:
            self.stats.tasks_cancelled += 1
        else:
            self.stats.tasks_partial += 1

    def _save(self, task: Task) -> None:
        document = _encode(documents.document(task, private=True))
        report = None if task.state is _RUNNING else self._report(task)
        if self.is_shared:
            task.is_handed = True
        self.savers.of(task.id).save(task, document, task.version, report, task.parked)

    def _report(self, task: Task) -> Callback | None:
        """Return the callback that reports a new state, if the client asked for it."""
        if task.callback is None or task.reported is task.state:
            return None
        task.reported = task.state
        return Callback(0, task.id, task.callback, _encode(documents.document(task)).decode())

    def saved(self, task: Task, version: int) -> None:
        """A document is on disk: forget the task, unless a newer one is on its way."""
        if task.version != version:
            return
        if task.parked:
            self.delay.written(task.parked)
        self._forget(task)

    def lost(self, task_id: str) -> None:
        """Another engine took a task over, because this one was thought to be dead: leave it to that one."""
        task = self.regions.get(task_id)
        if task is None or not task.is_committed:
            return
        task.is_lost = True
        if task.live:
            self.cancel(task)  # what is on its way is answered first
        else:
            self.drop(task)

    def drop(self, task: Task) -> None:
        """Let a lost task go, and nothing of it in the store."""
        if self.regions.get(task.id) is not task:
            return  # it has been taken back, and is another one here by now
        self._remove(task)
        if task.journal_key:
            self._leave_journal(task)

    def _forget(self, task: Task) -> None:
        self._remove(task)
        if task.journal_key:
            key = task.journal_key
            if self._leave_journal(task):
                self.savers.of(task.id).settle_journal(key)

    def _remove(self, task: Task) -> None:
        self.regions.remove(task.id)
        if self.touched is not None:
            self.touched.discard(task)
        self._made_room()
        self.dues.cancel(task.id)
        if task.live == 0:
            _unlink(task)

    def _leave_journal(self, task: Task) -> bool:
        """Count a task out of its journal row; tell whether it was the row's last one."""
        key = (id(self.savers.of(task.id)), task.journal_key)
        task.journal_key = 0
        left = self._journal_left[key] - 1
        if left:
            self._journal_left[key] = left
        else:
            del self._journal_left[key]
        return not left

    def _due(self, task: Task) -> None:
        task.is_due = True
        if not task.shares or task.is_handed:
            return  # not expanded yet; it will begin as partial
        if task.live == 0:
            self._over(task)
        elif task.state is _RUNNING:
            task.state = State.PARTIAL
            task.updated_at = time.time()
            self._count(State.PARTIAL)
            report = self._report(task)
            if report is not None:
                self.savers.of(task.id).report(report)

    def cancel(self, task: Task) -> int:
        """Cancel what was not sent. Returns how many subtasks that was."""
        if not task.shares:
            self._expand(task)
        cancelled = 0
        parked: dict[str, int] = {}
        for share in task.shares:
            taken = [
                index
                for index, state in enumerate(share.states)
                if state in {BLOCKED, QUEUED, RETRYING, DELAYED}
            ]
            queued = [index for index in taken if share.states[index] == QUEUED]
            delayed = sum(share.states[index] == DELAYED for index in taken)
            for index in taken:
                share.states[index] = CANCELLED
            share.node.forget(share, queued)
            share.delayed -= delayed
            share.cancelled += len(taken)
            cancelled += len(taken)
            if delayed:
                parked[share.node.name] = parked.get(share.node.name, 0) + delayed
        task.parked = None
        if parked and not self.is_shared:
            self.delay.unpark(task.id, parked)
        if cancelled:
            task.updated_at = time.time()
            self._less_live(task, cancelled - sum(parked.values()))
        return cancelled

    # Stopping

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is on its way to a node. Returns False after *timeout_s*."""
        if self.live == 0:
            return True
        self._idle = asyncio.Event()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True


class _Early:
    """Owner of purges sent early, below an unreachable parent: nobody waits for their answers."""

    def acked(self, share: Share, indexes: Sequence[int]) -> None:
        """Nothing to do: the one after the parent's counts."""

    def failed(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """Nothing to do: the next one will be seen to fail too."""

    def parked(self, share: Share, indexes: Sequence[int]) -> None:
        """Nothing to do: it is in the delay queue already."""


def token_of(share: Share) -> str:
    """Return what a delay-queue row calls a share it waits for."""
    return f"{share.node.name}:f" if share.operation is _PREFETCH else str(share.node.name)


def _unlink(task: Task) -> None:
    """Take the references of a finished task apart, so that it is freed at once.

    Left to the garbage collector, its cycles are what a busy engine pays for, as in the talk.
    """
    for share in task.shares:
        share.children = None
        share.parents = ()
    task.shares = ()


def _link(share: Share, parents: list[Share]) -> None:
    share.parents = parents
    for parent in parents:
        if parent.children is None:
            parent.children = []
        parent.children.append(share)
    count = len(share.states)
    share.blockers = (
        bytearray([len(parents)]) * count if len(parents) <= _BYTE_MAX else [len(parents)] * count
    )

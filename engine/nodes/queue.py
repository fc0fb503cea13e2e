"""What waits for one node: fair between tasks, the same target once.

Each share has a *lane*; lanes are served in turn, a few targets each, so a task of one URL waits
for a handful of a 10,000-URL task's, not for all. A target that several tasks wait for stands in
each one's lane; whichever comes up first is sent and settles all of them (*coalescing*). What is on
the wire already is not joined: the content may have changed since.

A lane is kept in its share (`Share.lane`), and only this module writes it. Kept in a dictionary of the queue
it costs the same for tasks of 10,000 targets, and a quarter more for tasks of one (measured, add and take).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from engine.tasks.task import Share
from engine.tasks.words import QUEUED, SENT, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

QUANTUM: Final = 16
"""Targets a lane may send before the next one's turn: a quarter of a pipeline."""

_WHOLE_MIN: Final = 8  #: targets of a task, from which on they are queued together
_QUEUED_BYTE: Final = bytes((QUEUED,))

Item = tuple[Share, int, "list[tuple[Share, int]] | None"]
"""One request: a share, the index of its target, and the others that the same request settles."""


class NodeQueue:
    """Subtasks that wait for one node, for the operations of one channel."""

    def __init__(self) -> None:
        # A target maps to the one share that waits for it, or to a list of (share, index) when
        # several do. One reference a subtask instead of a tuple each saves 56 bytes.
        self._waiting: dict[Operation, dict[str, Share | list[tuple[Share, int]]]] = {}
        self._lanes: deque[Share] = deque()
        self.coalesced = 0

    def __repr__(self) -> str:
        return f"<NodeQueue [{len(self)} targets in {len(self._lanes)} lanes]>"

    def __len__(self) -> int:
        """Return how many requests wait (a target of several tasks is one)."""
        return sum(len(waiting) for waiting in self._waiting.values())

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def add(self, share: Share, indexes: Sequence[int]) -> None:
        """Queue the targets *indexes* of *share*; their state becomes `QUEUED`."""
        waiting = self._waiting.setdefault(share.operation, {})
        targets = share.task.targets
        states = share.states
        count = len(targets)
        if count >= _WHOLE_MIN and indexes == range(count) and waiting.keys().isdisjoint(targets):
            states[:] = _QUEUED_BYTE * count  # the usual case
            waiting.update(dict.fromkeys(targets, share))
            self._add_lane(share, indexes)
            return
        for index in indexes:
            states[index] = QUEUED
            target = targets[index]
            waiter = waiting.setdefault(target, share)
            if waiter is not share:
                self._join(waiting, target, waiter, share, index)
        self._add_lane(share, indexes)

    def _add_lane(self, share: Share, indexes: Sequence[int]) -> None:
        lane = share.lane
        if lane is None:
            share.lane = lane = list(indexes)
            lane.reverse()
            self._lanes.append(share)
        else:
            if not lane:
                self._lanes.append(share)
            lane[:0] = reversed(indexes)

    def put_back(self, items: Iterable[Item]) -> None:
        """Queue requests that got no answer again, in front and in their order."""
        for share, index, others in reversed(list(items)):
            for owner, place in ((share, index), *(others or ())):
                waiting = self._waiting.setdefault(owner.operation, {})
                owner.states[place] = QUEUED
                target = owner.task.targets[place]
                waiter = waiting.setdefault(target, owner)
                if waiter is not owner:
                    self._join(waiting, target, waiter, owner, place)
                if owner.lane is None:
                    owner.lane = []
                if not owner.lane:
                    self._lanes.appendleft(owner)
                owner.lane.append(place)

    def take(self, count: int) -> list[Item]:
        """Return up to *count* requests to send now; their subtasks become `SENT`."""
        taken: list[Item] = []
        lanes = self._lanes
        while lanes and count > 0:
            share = lanes.popleft()
            sent = self._take_from(share, min(count, QUANTUM), taken)
            count -= sent
            if share.lane:
                lanes.append(share)
        if not lanes:  # a dictionary does not shrink: a million that waited would cost 80 MB for ever
            for operation in [operation for operation, waiting in self._waiting.items() if not waiting]:
                del self._waiting[operation]
        return taken

    def take_all(self) -> list[tuple[Share, int]]:
        """Empty the queue; return every waiting subtask. Their state is left as it is."""
        # An index can stand in a lane twice: once passed over, because another task's lane sent it, and
        # once put back or tried again.
        everything = [
            (share, index)
            for share in self._lanes
            for index in dict.fromkeys(reversed(share.lane or ()))
            if share.states[index] == QUEUED
        ]
        for share in self._lanes:
            share.lane = None
        self._lanes.clear()
        self._waiting.clear()
        return everything

    def forget(self, share: Share, indexes: Iterable[int]) -> None:
        """Take cancelled subtasks out; their state is not `QUEUED` any more."""
        waiting = self._waiting.get(share.operation, {})
        for index in indexes:
            target = share.task.targets[index]
            waiter = waiting.get(target)
            if waiter is share:
                del waiting[target]
            elif isinstance(waiter, list):
                waiter[:] = [pair for pair in waiter if pair != (share, index)]
                if not waiter:
                    del waiting[target]

    def _take_from(self, share: Share, count: int, taken: list[Item]) -> int:
        waiting = self._waiting[share.operation]
        states = share.states
        targets = share.task.targets
        lane = share.lane
        assert lane is not None
        sent = 0
        while lane and sent < count:
            index = lane.pop()
            if states[index] != QUEUED:
                continue  # sent in another task's lane, or cancelled
            waiter = waiting.pop(targets[index], share)
            states[index] = SENT
            if waiter is share:
                taken.append((share, index, None))
            else:
                others = [(other, place) for other, place in waiter if other.states[place] == QUEUED]  # type: ignore[union-attr]
                for other, place in others:
                    other.states[place] = SENT
                taken.append((share, index, others or None))
                self.coalesced += len(others)
            sent += 1
        return sent

    @staticmethod
    def _join(
        waiting: dict[str, Share | list[tuple[Share, int]]],
        target: str,
        waiter: Share | list[tuple[Share, int]],
        share: Share,
        index: int,
    ) -> None:
        if isinstance(waiter, list):
            waiter.append((share, index))
        else:
            waiting[target] = [(waiter, waiter.task.index_of(target)), (share, index)]


class ShareQueue(NodeQueue):
    """Subtasks that wait to be handed down to another engine: those of a share together, none joined.

    What is handed down keeps the id of its task, so one task's request never settles another's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def __len__(self) -> int:
        """Return how many subtasks wait."""
        return self._count

    def add(self, share: Share, indexes: Sequence[int]) -> None:
        """Queue the targets *indexes* of *share*; their state becomes `QUEUED`."""
        for index in indexes:
            share.states[index] = QUEUED
        if not share.lane:
            self._lanes.append(share)
            share.lane = []
        share.lane[:0] = reversed(indexes)
        self._count += len(indexes)

    def put_back(self, items: Iterable[Item]) -> None:
        """Queue subtasks that were not handed down again, in front and in their order."""
        for share, index, _ in reversed(list(items)):
            share.states[index] = QUEUED
            if not share.lane:
                self._lanes.appendleft(share)
                share.lane = []
            share.lane.append(index)
            self._count += 1

    def take(self, count: int) -> list[Item]:
        """Return subtasks to hand down now, all of each share: *count* and what the last share has more."""
        taken: list[Item] = []
        while self._lanes and len(taken) < count:
            share = self._lanes.popleft()
            lane, share.lane = share.lane or [], None
            states = share.states
            for index in reversed(lane):
                if states[index] == QUEUED:
                    states[index] = SENT
                    taken.append((share, index, None))
        self._count -= len(taken)
        return taken

    def take_all(self) -> list[tuple[Share, int]]:
        """Empty the queue; return every waiting subtask. Their state is left as it is."""
        self._count = 0
        return super().take_all()

    def forget(self, share: Share, indexes: Iterable[int]) -> None:
        """Take cancelled subtasks out; their state is not `QUEUED` any more."""
        self._count -= len(list(indexes))

"""Purges of one node beside own prefetches of what they cover: each is sent again, and acked then.

A purge that was on the wire while such a prefetch was under way went out at once, for visitors, and does not
count: the prefetch may bring the old object back. When the prefetch has ended, the purge is sent once more.

Only prefetches that began before the purge was first acked are waited for. One that begins later gets nothing
that is older than the purge, but for what a prefetch before it stored, and that goes with the purge sent
again. So a URL that is prefetched all the time cannot keep its purges from being acked; and a task's own
prefetch begins when its purge is acked for good. When a client's subtask was first acked is kept here; of
what the engine sends on its own account (rows of the delay queue, rebounds) its owner knows, because a
request for rows may stand for others each time.

While no prefetch is under way, all of this costs a purge one look at an empty dictionary for each read, and
where there are other workers one at a number that they share. Prefetches of engines on other machines are
seen after a look at a register of theirs; see `counting`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from engine.tasks.words import ON_ITS_WAY, Operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.nodes.postponed import Postponed
    from engine.nodes.queue import Item
    from engine.nodes.underway import Clockwork, Fetch, Underway
    from engine.tasks.task import Share

    Subtask = tuple[Share, int]

SETTLE_S: Final = 0.05
"""From the last byte of an answer until the purge is sent again: a cache may put the object in its place a
moment after its client has it."""
_PREFETCH: Final = Operation.PREFETCH  # looked up once: see `health`
_CLOCK_S: Final = 0.001  #: what passes between two looks at the clock for the same read


class Beside:
    """The purges that wait for prefetches to end.

    Args:
        underway: the prefetches.
        timer: of the engine.
        postponed: rows of the delay queue that may not be sent yet.
        now: `time.monotonic`.
        send_again: takes purges of clients' tasks, whose prefetches have ended.
        on_rows: told that rows of the delay queue may be sent again.
    """

    def __init__(
        self,
        underway: Underway,
        timer: Clockwork,
        postponed: Postponed,
        *,
        now: Callable[[], float],
        send_again: Callable[[list[Item]], None],
        on_rows: Callable[[], None],
    ) -> None:
        self._underway = underway
        self._timer = timer
        self._postponed = postponed
        self._send_again = send_again
        self._on_rows = on_rows
        self._now = now
        self._waiting: dict[_Purge, None] = {}
        self._due: list[_Purge] = []
        self._again: dict[Subtask, float] = {}  # purges sent again, and when they were first acked

    def __repr__(self) -> str:
        return f"<Beside [{len(self)} purges wait]>"

    def __len__(self) -> int:
        return len(self._waiting) + len(self._due)

    def counted(self, acked: list[Item], since: float, acked_at: float | None = None) -> list[Item]:
        """Return those of acked purges that count; the others wait here for their prefetches.

        Args:
            acked: of one read; prefetches count as they are.
            since: when the oldest of them was sent; `time.monotonic`.
            acked_at: when they were acked; None: now.
        """
        if acked[0][0].operation is _PREFETCH:
            return acked
        underway = self._underway
        underway.since = since = since - _CLOCK_S
        if underway.elsewhere is not None:
            underway.elsewhere.look()
        underway.forget_ended()
        counted = acked
        if underway.fetches:
            counted = self._counted(acked, since, self._now() if acked_at is None else acked_at)
        underway.since = inf
        return counted

    def _counted(self, acked: list[Item], since: float, acked_at: float) -> list[Item]:
        underway = self._underway
        counted: list[Item] = []
        for item in acked:
            share, index, _ = item
            fetches = underway.beside(share.operation, share.task.targets[index], since)
            counted += self._part(item, fetches, acked_at) if fetches else (item,)
        return counted

    def _part(self, item: Item, fetches: list[Fetch], acked_at: float) -> list[Item]:
        """Tell the subtasks of a request apart: return those that count, and keep those that wait."""
        share, index, others = item
        counts: list[Subtask] = []
        for subtask in ((share, index), *(others or ())):
            waited_for = self._waited_for(subtask, fetches, acked_at)
            if waited_for:
                self._wait(subtask, waited_for, acked_at=acked_at)
            else:
                counts.append(subtask)
        return [(*counts[0], counts[1:] or None)] if counts else []

    def _waited_for(self, subtask: Subtask, fetches: list[Fetch], acked_at: float) -> list[Fetch]:
        """Return those that a purge has to wait for: of other tasks, begun before its first ack."""
        share, index = subtask
        owner, own_id = share.task.owner, share.task.id
        first_at = min(self._again.pop(subtask, inf), acked_at) if owner is None else inf
        others = [fetch for fetch in fetches if own_id not in fetch.task_ids]
        if owner is not None and others:
            began_at = min(fetch.began_at for fetch in others)
            first_at = owner.acked_beside(share, index, began_at, acked_at)
        return [fetch for fetch in others if fetch.began_at <= first_at]

    def again(self, acked: list[Item]) -> None:
        """Have purges sent again that may have been beside prefetches nobody knows of any more."""
        for subtask in subtasks_of(acked):
            self._again.pop(subtask, None)
            self._wait(subtask, [], acked_at=inf)

    def keeps_unanswered(self, item: Item) -> bool:
        """Keep a purge that got no answer in time, if a prefetch of what it covers is under way.

        Squid answers such a purge only when it has the object: that says nothing about the node. Nobody knows
        when the purge will be done, so the one that is sent again counts as a first one.
        """
        share, index, others = item
        if self._underway.elsewhere is not None:
            self._underway.elsewhere.look()
        fetches = self._underway.beside(share.operation, share.task.targets[index], self._now())
        for subtask in ((share, index), *(others or ())) if fetches else ():
            self._again.pop(subtask, None)
            self._wait(subtask, fetches, acked_at=inf)
        return bool(fetches)

    def late(self, before: float) -> list[Subtask]:
        """Return purges of clients' tasks that have waited since *before* or longer, each of them once."""
        late = [purge for purge in self._waiting if purge.since <= before and not purge.is_late]
        for purge in late:
            purge.is_late = True
        return [purge.subtask for purge in late if not purge.is_row]

    def take_all(self) -> list[Item]:
        """Return all purges of clients' tasks that wait: the node is down, and they are parked."""
        own = [purge for purge in (*self._due, *self._waiting) if not purge.is_row]
        for purge in own:
            self._waiting.pop(purge, None)
        self._due = [purge for purge in self._due if purge.is_row]
        return [(*purge.subtask, None) for purge in own]

    def _wait(self, subtask: Subtask, fetches: list[Fetch], *, acked_at: float) -> None:
        """Keep a purge until the last of *fetches* has ended; rows of the delay queue stay rows meanwhile."""
        purge = _Purge(subtask, acked_at, self._now(), self._is_free)
        self._waiting[purge] = None
        if purge.is_row:
            self._postponed.await_fetch(*purge.request)
            purge.leave_to_owner()
        purge.wait_for([fetch for fetch in fetches if not fetch.is_over])

    def _is_free(self, purge: _Purge) -> None:
        if purge not in self._waiting:
            return  # it is parked
        del self._waiting[purge]
        if not self._due:
            self._timer.add((self, "again"), SETTLE_S, self._send_due)
        purge.free_at = self._now()
        self._due.append(purge)

    def _send_due(self) -> None:
        until = self._now() - SETTLE_S + _CLOCK_S
        due = [purge for purge in self._due if purge.free_at <= until]
        self._due = [purge for purge in self._due if purge.free_at > until]
        if self._due:
            self._timer.add((self, "again"), self._due[0].free_at - until, self._send_due)
        rows = [purge for purge in due if purge.is_row]
        for purge in rows:
            self._postponed.fetch_over(*purge.request)
        if rows:
            self._on_rows()
        own = [purge for purge in due if not purge.is_row]
        if own:
            again = {subtask: at for subtask, at in self._again.items() if _is_on_its_way(*subtask)}
            self._again = again | {purge.subtask: purge.acked_at for purge in own}
            self._send_again([(*purge.subtask, None) for purge in own])


class _Purge:
    """A purge that was acked at *acked_at* and waits *since*, and the prefetches that it waits for."""

    def __init__(
        self, subtask: Subtask, acked_at: float, since: float, on_free: Callable[[_Purge], None]
    ) -> None:
        self.subtask = subtask
        self.acked_at = acked_at
        self.since = since
        self.is_late = False  #: that it waits was told
        self.free_at = inf  #: when the last of them ended
        self._fetches: set[Fetch] = set()
        self._on_free = on_free

    @property
    def is_row(self) -> bool:
        """Whether it was sent for rows of the delay queue, or early: no client's task waits for it."""
        return self.subtask[0].task.is_internal

    @property
    def request(self) -> tuple[Operation, str]:
        """What was sent."""
        share, index = self.subtask
        return share.operation, share.task.targets[index]

    def leave_to_owner(self) -> None:
        """Have the rows it was sent for stay."""
        share, index = self.subtask
        assert share.task.owner is not None
        share.task.owner.postponed(share, [index])

    def wait_for(self, fetches: list[Fetch]) -> None:
        """Wait for the end of all of them."""
        self._fetches.update(fetches)
        for fetch in fetches:
            fetch.on_end.append(self._ended)
        if not fetches:
            self._on_free(self)

    def _ended(self, fetch: Fetch) -> None:
        self._fetches.discard(fetch)
        if not self._fetches:
            self._on_free(self)


def subtasks_of(items: list[Item]) -> list[Subtask]:
    """Return the subtasks of some requests."""
    return [subtask for share, index, others in items for subtask in ((share, index), *(others or ()))]


def _is_on_its_way(share: Share, index: int) -> bool:
    return share.states[index] in ON_ITS_WAY

"""Engines on other machines that send prefetches to the same nodes: what a node tells them, and asks.

With a store that several engines share, each prefetch is entered in a register before its request is sent,
and the register is looked at after purges were acked. What others have entered is under way here, too
(`underway`). Without such a store there is no register, and none of this runs.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.nodes.queue import Item

SENT_WITHIN_S: Final = 5.0
"""A prefetch that was entered longer ago is entered once more before it is sent: an entry does not count for
ever."""

_HELD_UP_S: Final = 0.25
"""One that is being entered for longer leaves its room to others: a part of the register may be away."""
_HELD_UP_MAX: Final = 10_000  #: of one node that leave their room


class Acks(Protocol):
    """Purges of one read that were acked, and count when the register was looked at after that."""

    items: list[Item]

    def looked(self, items: list[Item], covered_since: float) -> None:
        """Take those of the items for which it was; called until that was all of them.

        Args:
            items: some of them.
            covered_since: what was sent before this (`time.monotonic`) may have been beside others.
        """


class Register(Protocol):
    """The register of all engines, as one of them uses it; every method returns at once."""

    def enter(
        self,
        url: str,
        nodes: Sequence[str],
        task_ids: Sequence[str],
        *,
        lasts_s: float,
        on_entered: Callable[[], None],
    ) -> int:
        """Enter a prefetch, whose request is sent when *on_entered* has been called, and not before.

        Args:
            url: without scheme.
            nodes: where it will be under way.
            task_ids: whose it is.
            lasts_s: it counts as ended after so long, if nobody says so.
            on_entered: called once, when other engines can see it; not if it has ended before.

        Returns:
            What to call it by in `end`.
        """

    def end(self, number: int) -> None:
        """A prefetch has ended, or will not be sent."""

    def look(self, acks: Acks) -> None:
        """Look, from now on, and tell *acks* when that was done."""


class Entering:
    """The prefetches of one node that are entered, and not on the wire yet.

    Args:
        register: of all engines.
        nodes: where they will be under way.
        now: `time.monotonic`.
        lasts_s: how long one without an answer counts as under way, from when it is sent.
        on_ready: told that one may be sent.
        without_cancelled: leaves out what is not to be sent any more; see `Outcomes`.
    """

    def __init__(
        self,
        register: Register,
        nodes: Sequence[str],
        now: Callable[[], float],
        *,
        lasts_s: float,
        on_ready: Callable[[], None],
        without_cancelled: Callable[[list[Item]], list[Item]],
    ) -> None:
        self._register = register
        self._nodes = nodes
        self._now = now
        self._lasts_s = lasts_s + SENT_WITHIN_S
        self._on_ready = on_ready
        self._without_cancelled = without_cancelled
        self._asked: dict[int, tuple[Item, float]] = {}  # and when it was asked for
        self._ready: deque[tuple[Item, int, float]] = deque()  # what it is called by, when it was asked for

    def __repr__(self) -> str:
        return f"<Entering [{len(self._asked)} asked for, {len(self._ready)} ready]>"

    def __len__(self) -> int:
        return len(self._asked) + len(self._ready)

    def count_prompt(self) -> int:
        """Return how many are to be sent soon: all but those that are held up."""
        if len(self._asked) > _HELD_UP_MAX:
            return len(self)
        asked_since = self._now() - _HELD_UP_S
        prompt = itertools.takewhile(lambda asked: asked[1] >= asked_since, reversed(self._asked.values()))
        return len(self._ready) + sum(1 for _ in prompt)

    @property
    def next_room_s(self) -> float | None:
        """In how many seconds those that are being entered leave their room; None: there are none."""
        return _HELD_UP_S if self._asked else None

    def end(self, number: int) -> None:
        """A prefetch that was entered has ended."""
        self._register.end(number)

    def enter(self, items: list[Item]) -> None:
        """Enter prefetches; `take` returns them when that is done."""
        for item in items:
            self._enter(item)

    def _enter(self, item: Item) -> None:
        share, index, _ = item
        asked_at = self._now()

        def entered() -> None:
            if self._asked.pop(number, None) is not None:
                self._ready.append((item, number, asked_at))
                self._on_ready()

        number = self._ask(share.task.targets[index], task_ids_of(item), entered)
        self._asked[number] = item, asked_at

    def _ask(self, target: str, task_ids: Sequence[str], on_entered: Callable[[], None]) -> int:
        url = target.partition("://")[2]
        return self._register.enter(url, self._nodes, task_ids, lasts_s=self._lasts_s, on_entered=on_entered)

    def take(self, room: int) -> tuple[list[tuple[Item, int]], list[Item]]:
        """Return up to *room* prefetches to send at once, and what each is called by.

        Also those whose entry is too old by now: they are to be entered again when it is their turn.
        """
        taken: list[tuple[Item, int]] = []
        late: list[Item] = []
        while self._ready and len(taken) < room:
            item, number, asked_at = self._ready.popleft()
            wanted = self._without_cancelled([item])
            if wanted and asked_at >= self._now() - SENT_WITHIN_S:
                taken.append((wanted[0], number))
            else:
                self._register.end(number)
                late += wanted
        return taken, late

    def take_all(self) -> list[Item]:
        """Return all that were not sent, and are to be: the node is down."""
        items = [item for item, _, _ in self._ready] + [item for item, _ in self._asked.values()]
        for number in [*(number for _, number, _ in self._ready), *self._asked]:
            self._register.end(number)
        self._ready.clear()
        self._asked.clear()
        return self._without_cancelled(items)

    async def page(self, target: str) -> int:
        """Enter a page that is fetched for another reason than a prefetch; returns what to call it by."""
        while True:
            asked_at = self._now()
            entered = asyncio.Event()
            number = self._ask(target, (), entered.set)
            try:
                await entered.wait()
            except asyncio.CancelledError:
                self._register.end(number)
                raise
            if asked_at >= self._now() - SENT_WITHIN_S:
                return number
            self._register.end(number)


def task_ids_of(item: Item) -> list[str]:
    """Return the clients' tasks that a request is for."""
    share, _, others = item
    tasks = (share.task, *(other.task for other, _ in others or ()))
    return [task.id for task in tasks if not task.is_internal]

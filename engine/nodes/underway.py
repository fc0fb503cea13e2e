"""Own prefetches under way through one node: which purges have to look out for them.

A GET that waits for its origin's head when a purge comes is not purged: the cache stores what it gets
afterwards, and that may be the old object. `beside` says what becomes of such a purge.

- A prefetch at an edge goes through the edge's parents: it is under way at all of its ancestors, too.
- A cache goes on fetching when its client is gone. A prefetch without an answer (a lost connection, a
  time-out, a body over the limit) counts as under way for twice ``prefetch_timeout_s`` from its begin: what
  an object may take, and as much again. That it has been done again meanwhile says nothing: a cache may fetch
  twice at a time, and the older fetch may end last (nginx does so after ``proxy_cache_lock_timeout``).
- A prefetch of a task began after the task's own purges were acked. It does not count against those, when
  they are sent once more because the engine was started again.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from engine.nodes.register import Entering, task_ids_of
from engine.tasks.words import URLS, Operation, host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from engine.config.tables import NodeConfig
    from engine.nodes.answer import Answer
    from engine.nodes.board import Board, Record
    from engine.nodes.fetch_guard import FetchGuard, Waiting
    from engine.nodes.queue import Item
    from engine.nodes.register import Register
    from engine.tasks.task import Share

MOMENT_S: Final = 0.04
"""A cache may put an object in its place a moment after its client has it: a prefetch counts for a purge that
is sent so soon after its end."""
_PREFIXES: Final = frozenset({Operation.PURGE_PREFIX, Operation.SOFT_PREFIX})


class Clockwork(Protocol):
    """The engine's timer, as far as it is needed here."""

    def add(self, key: Hashable, delay_s: float, callback: Callable[[], None]) -> None:
        """Call *callback* once, in *delay_s*."""


class Others(Protocol):
    """Other processes that send prefetches to the same nodes."""

    word: memoryview  #: of one number; differs from *seen* when there may be something new
    seen: int

    def look(self) -> None:
        """Bring what is under way up to date with what they do."""


class Fetch:
    """One prefetch on the wire; times are `time.monotonic`'s."""

    __slots__ = ("began_at", "ended_at", "number", "on_end", "places", "record", "task_ids", "url")

    def __init__(
        self, url: str, places: Sequence[Underway], began_at: float, task_ids: Sequence[str] = ()
    ) -> None:
        self.url = url  #: without scheme, as purges name it; empty: it may be any
        self.places = places  #: where it is under way: its node, and what that fetches from
        self.on_end: list[Callable[[Fetch], None]] = []
        self.began_at = began_at
        self.task_ids = task_ids  #: whose it is
        self.record = -1  #: what the board calls it
        self.number = -1  #: what the register calls it
        self.ended_at = inf

    def __repr__(self) -> str:
        return f"<Fetch of {self.url} [{'ended' if self.is_over else 'under way'}]>"

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.ended_at < inf

    def end(self, now: float) -> None:
        """It is over: tell where it was under way, and who waits for that."""
        self.ended_at = now
        for place in self.places:
            place.end(self)
        for tell in self.on_end:
            tell(self)
        self.on_end.clear()


class Underway:
    """What is under way through one node: its own prefetches, and those of the nodes below it.

    Args:
        oldest_sent_at: tells when the oldest purge without an answer was sent to the node; infinity: none.
    """

    def __init__(self, oldest_sent_at: Callable[[], float]) -> None:
        self.fetches: dict[str, list[Fetch]] = {}
        """By URL without scheme; one that has ended stays while a purge sent before its end has no answer."""
        self.elsewhere: Others | None = None  #: other processes send prefetches to the same nodes
        self.since = inf  #: when the oldest purge was sent whose answer is being looked at
        self._oldest_sent_at = oldest_sent_at
        self._ended: deque[Fetch] = deque()

    def __repr__(self) -> str:
        return f"<Underway [{len(self.fetches)} URLs]>"

    def begin(self, fetch: Fetch) -> None:
        """Take in a prefetch that is about to be sent."""
        self.fetches.setdefault(fetch.url, []).append(fetch)

    def end(self, fetch: Fetch) -> None:
        """Note that a prefetch has ended."""
        self._ended.append(fetch)
        self.forget_ended(fetch.ended_at)

    def beside(self, operation: Operation, target: str, since: float) -> list[Fetch]:
        """Return the prefetches of what a purge covers that were under way after *since*, or a moment before.

        A regex or key covers whatever is of its host: what an object matches is known to the cache alone.
        """
        if operation in URLS:
            urls: Iterable[str] = (target.partition("://")[2],)
        elif operation in _PREFIXES:
            start = target.partition("://")[2]
            urls = (url for url in self.fetches if url.startswith(start))
        else:
            host = host_of(target)
            urls = (url for url in self.fetches if _is_of(url.partition("/")[0], host))
        covered = (fetch for url in (*urls, "") for fetch in self.fetches.get(url, ()))
        return [fetch for fetch in covered if fetch.ended_at >= since - MOMENT_S]

    def forget_ended(self, now: float = inf) -> None:
        """Forget prefetches that ended well before the oldest purge was sent whose answer may still come."""
        ended = self._ended
        if not ended:
            return
        since = min(self.since, self._oldest_sent_at(), now) - MOMENT_S
        while ended and ended[0].ended_at < since:
            fetch = ended.popleft()
            fetches = self.fetches[fetch.url]
            fetches.remove(fetch)
            if not fetches:
                del self.fetches[fetch.url]


class Fetches:
    """The prefetches that one node is sent.

    Args:
        name: of the node.
        timer: of the engine.
        now: `time.monotonic`.
        max_s: how long one without an answer counts as under way.
    """

    def __init__(self, name: str, timer: Clockwork, now: Callable[[], float], *, max_s: float) -> None:
        self.places: tuple[Underway, ...] = ()  #: where they are under way; set once, see `link`
        self.names: tuple[str, ...] = ()  #: of the nodes there
        self.board: Board | None = None  #: where other processes see them
        self.entering: Entering | None = None  #: how engines on other machines see them
        self.guard: FetchGuard | None = None  #: where some have to wait for their origins
        self.on_entered: Callable[[], None] = _nothing  #: told that one may be sent, which they see
        self._name = name
        self._timer = timer
        self._now = now
        self._max_s = max_s
        self._on_wire: dict[tuple[Share, int], Fetch] = {}

    def __repr__(self) -> str:
        return f"<Fetches [{len(self._on_wire)} on the wire]>"

    def share(self, register: Register, without_cancelled: Callable[[list[Item]], list[Item]]) -> None:
        """Enter what is sent from here on in a register of all engines; see `Entering`."""
        self.entering = Entering(
            register,
            self.names,
            self._now,
            lasts_s=self._max_s,
            on_ready=self.on_entered,
            without_cancelled=without_cancelled,
        )

    @property
    def entering_count(self) -> int:
        """How many were taken to be sent, and are not on the wire yet."""
        return 0 if self.entering is None else len(self.entering)

    @property
    def prompt_count(self) -> int:
        """How many of these are to be sent soon."""
        return 0 if self.entering is None else self.entering.count_prompt()

    def take_entering(self) -> list[Item]:
        """Return prefetches that were taken to be sent, and were not."""
        return [] if self.entering is None else self.entering.take_all()

    def begin(self, items: list[Item]) -> None:
        """Note prefetches that are about to be sent."""
        for item in items:
            share, index, _ = item
            self._on_wire[share, index] = self._begin(share.task.targets[index], task_ids_of(item))

    def begin_entered(self, entered: list[tuple[Item, int]]) -> list[Item]:
        """Note prefetches that are about to be sent, with what the register calls them; return them."""
        for item, number in entered:
            share, index, _ = item
            fetch = self._begin(share.task.targets[index], task_ids_of(item), number)
            self._on_wire[share, index] = fetch
        return [item for item, _ in entered]

    def _begin(self, target: str, task_ids: Sequence[str], number: int = -1) -> Fetch:
        now = self._now()
        fetch = Fetch(target.partition("://")[2], self.places, now, task_ids)
        fetch.number = number
        self._enter(fetch)
        if self.board is not None:
            expires_at = now + self._max_s
            fetch.record = self.board.begin(self._name, fetch.url, task_ids, expires_at=expires_at)
        return fetch

    def _enter(self, fetch: Fetch) -> None:
        fetch.on_end.append(self._ended)
        for place in self.places:
            place.begin(fetch)

    def _ended(self, fetch: Fetch) -> None:
        if self.board is not None:
            self.board.end(fetch.record)
        if self.entering is not None and fetch.number >= 0:
            self.entering.end(fetch.number)

    def answered(self, items: list[Item]) -> None:
        """Note prefetches that were answered: they are over."""
        for share, index, _ in items:
            self._on_wire.pop((share, index)).end(self._now())

    def free(self, waiting: Waiting, room: int) -> list[Item]:
        """Return up to *room* prefetches that wait, and that the guards of their origins let through."""
        return waiting.take_waiting(room) if self.guard is None else self.guard.sift(waiting, room)

    def begun(self, item: Item, wait_s: float) -> None:
        """Note that the answer to a prefetch has begun, *wait_s* after it was sent."""
        if self.guard is not None:
            self.guard.begun(item, wait_s)

    def settled(self, items: list[Item], answers: list[Answer], duration_s: float) -> None:
        """Note prefetches that were answered, the oldest of them sent *duration_s* ago."""
        if self.guard is not None:
            self.guard.answered(items, answers, duration_s)
        self.answered(items)

    def lost(self, items: Sequence[Item], *, has_timed_out: bool = False) -> None:
        """Note prefetches that got no answer: the cache may go on with them."""
        if self.guard is not None:
            self.guard.lost(items, has_timed_out=has_timed_out)
        for share, index, _ in items:
            fetch = self._on_wire.pop((share, index), None)
            if fetch is not None:
                self._keep(fetch, fetch.began_at + self._max_s)

    async def visit(self, target: str) -> Callable[[bool], None]:
        """Note a page that is fetched for another reason than a prefetch; wait until it may be.

        Returns:
            What to call when that is over: True: with an answer.
        """
        number = -1 if self.entering is None else await self.entering.page(target)
        fetch = self._begin(target, (), number)

        def over(is_answered: bool) -> None:
            if is_answered:
                fetch.end(self._now())
            else:
                self._keep(fetch, fetch.began_at + self._max_s)

        return over

    def take_left(self, record: Record) -> None:
        """Take in a prefetch that a process before this one had under way; nobody knows what became of it."""
        fetch = Fetch(record.url, self.places, record.began_at, record.task_ids)
        fetch.record = record.number
        self._enter(fetch)
        self._keep(fetch, record.expires_at)

    def _keep(self, fetch: Fetch, expires_at: float) -> None:
        """Keep a prefetch without an answer as under way until it expires."""
        self._timer.add(fetch, max(0.0, expires_at - self._now()), lambda: fetch.end(self._now()))


class Linked(Protocol):
    """A node, as far as prefetches pass through it."""

    @property
    def config(self) -> NodeConfig:
        """Its table: names its parents."""

    @property
    def underway(self) -> Underway:
        """What is under way through it."""

    @property
    def fetches(self) -> Fetches:
        """What it is sent."""


def link(nodes: Mapping[str, Linked]) -> None:
    """Tell each node where its prefetches are under way: on itself, its parents, theirs, and so on."""
    parents = {name: node.config.parents or () for name, node in nodes.items()}
    for name, node in nodes.items():
        passed = {name: None}
        waiting = [*parents[name]]
        while waiting:
            parent = waiting.pop()
            if parent not in passed:
                passed[parent] = None
                waiting += parents[parent]
        node.fetches.places = tuple(nodes[passing].underway for passing in passed)
        node.fetches.names = tuple(passed)


def _nothing() -> None:
    """Tell nobody."""


def _is_of(host: str, pattern: str) -> bool:
    if not pattern.startswith("*"):
        return host == pattern
    return host.endswith(pattern[1:]) or host.rpartition(":")[0].endswith(pattern[1:])

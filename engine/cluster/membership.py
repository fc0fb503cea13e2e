"""Who of the engines lives, which of them leads, and whether this engine can tell.

An engine lives while the number of its beats grows, by the monotonic clock of who looks: a key that expires
tells the time by the wall clock of a server, which may be set, or another one's after a failover.

An engine counts as dead only for one that has itself been beating without a gap for as long: after Redis
was away everybody looks dead to everybody.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.cluster.process_mark import has_ended
from engine.store.redis.members import View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.base.clock import SteadyClock
    from engine.cluster.threads import Threads
    from engine.store.redis.members import About, Member, Members

_GAP: Final = 0.6  #: of the time after which an engine is dead; a longer pause between two beats is a gap


class Membership:
    """This engine among the others.

    Args:
        members: the store's side.
        threads: where it is called.
        about: what the others see of this engine.
        clock: follows the store's, so that all engines go by one.
        ttl_s: an engine that was not heard of for so long is dead.
        is_draining: whether this engine is about to end.
        kept: rows that its tasks keep in memory, as `About` says it.
    """

    def __init__(
        self,
        members: Members,
        threads: Threads,
        about: About,
        *,
        clock: SteadyClock,
        ttl_s: float,
        is_draining: Callable[[], bool],
        kept: Callable[[], tuple[int, dict[str, int]]],
    ) -> None:
        self._members = members
        self._threads = threads
        self._about = about
        self._clock = clock
        self._ttl_s = ttl_s
        self._is_draining = is_draining
        self._kept = kept
        self._said: dict[str, About] = {}
        self._heard_at: dict[str, float] = {}  # when the number of an engine's beats was seen to have grown
        self._loop = asyncio.get_running_loop()
        self._beating = asyncio.Lock()
        self._told_beats = 0  # the store said that it has them
        self.times_set_back = 0  #: so often the store had forgotten a beat that it had answered
        self._seen_at = -1e9  # when the last beat that was answered began
        self._steady_since = 0.0
        self.consumer = members.store.consumer
        self.view = View()
        self.is_news = asyncio.Event()  #: set when the others should hear of this engine before its time

    def __repr__(self) -> str:
        return f"<Membership of {len(self.view.members)} engines, as {self.consumer}>"

    @property
    def is_draining(self) -> bool:
        """Whether this engine is about to end."""
        return self._is_draining()

    async def join(self) -> None:
        """Be there for the others.

        Raises:
            StoreError: the store cannot be read or written.
        """
        self._steady_since = self._loop.time()
        await self.beat()

    async def beat(self, since: float | None = None) -> None:
        """Say that this engine lives, and learn who else does.

        Args:
            since: a beat that began at this time of the loop or later, and is over, will do.

        Raises:
            StoreError: the store cannot be read or written.
        """
        async with self._beating:  # or numbers of beats would come in another order than they were given
            began = self._loop.time()
            if since is not None and self._seen_at >= since:
                return
            self.is_news.clear()
            view = await self._tell()
            if 0 < view.own_beats < self._told_beats:
                self.times_set_back += 1
            self._told_beats = self._about.beats
        if began - self._seen_at > self._ttl_s * _GAP:
            self._steady_since = began
        self._clock.follow(view.at, view.seen_at)
        self._about.clock_ahead_s = view.clock_ahead_s
        if view.leader != self.view.leader and view.leader:
            logger.info("engine {} leads, number {}", view.leader, view.fence)
        self._see(view, began)

    async def _tell(self) -> View:
        self._about.beats += 1
        self._about.is_draining = self.is_draining
        self._about.kept_count, self._about.keeps = self._kept()
        return await self._threads.call(self._members.beat, self._about, may_lead=True)

    def _see(self, view: View, began: float) -> None:
        self.view, self._seen_at = view, began
        said, self._said = self._said, {}
        heard_at, self._heard_at = self._heard_at, {}
        for member in view.members:
            name = member.consumer
            if name == self.consumer:
                continue
            last = said.get(name)
            self._said[name] = last if last is not None and member.has_left else member.about
            has_beaten = last is None or last.beats != member.about.beats
            self._heard_at[name] = began if has_beaten else heard_at.get(name, began)
        for name, at in heard_at.items():
            if began - at < self._ttl_s:
                self._heard_at.setdefault(name, at)  # also of one that is not in the table: see `is_nobody`

    def said(self) -> Mapping[str, About]:
        """Return what each other engine said of itself last, also those that left something behind."""
        return self._said

    async def leave(self) -> None:
        """Say goodbye.

        Raises:
            StoreError: the store cannot be written.
        """
        await self._threads.call(self._members.leave)

    def now(self) -> float:
        """Return UNIX time by the store's clock."""
        return self._clock.now()

    @property
    def clock_ahead_s(self) -> float:
        """How much the wall clock of this host is ahead of the store's."""
        return self.view.clock_ahead_s

    @property
    def is_steady(self) -> bool:
        """Whether this engine has been heard for long enough to tell that others are dead."""
        return self._seen_at - self._steady_since >= self._ttl_s

    def is_gone(self, member: Member) -> bool:
        """Tell whether an engine has left or is dead."""
        if member.consumer == self.consumer:
            return False
        if member.has_left or (self.is_steady and self.is_silent(member)):
            return True
        return has_ended(member.about.pid, member.about.process)

    def is_silent(self, member: Member) -> bool:
        """Tell whether an engine was not heard of for so long that it may be dead."""
        if not member.about.beats:
            return not member.lives
        return self._seen_at - self._heard_at.get(member.consumer, self._seen_at) >= self._ttl_s

    def is_nobody(self, consumer: str) -> bool:
        """Tell whether a consumer is known to be no engine that lives; False: it is one, or who knows.

        One that is not in the table was heard of all the same, if the table was lost a moment ago.
        """
        if consumer == self.consumer:
            return False
        for member in self.view.members:
            if member.consumer == consumer:
                return self.is_gone(member)
        return self.is_steady and self._seen_at - self._heard_at.get(consumer, -1e9) >= self._ttl_s

    def others(self) -> list[str]:
        """Return the consumers that are not known to have gone, this one left out."""
        members = self.view.members
        return [
            each.consumer for each in members if each.consumer != self.consumer and not self.is_gone(each)
        ]

    def workers(self) -> list[str]:
        """Return the consumers that live and are not about to end, this one included."""
        members = self.view.members
        stay = {
            member.consumer for member in members if not member.about.is_draining and not self.is_gone(member)
        }
        return sorted(stay | {self.consumer})

    def configured(self) -> set[str]:
        """Return the nodes that some engine has in its configuration."""
        return set().union(*(member.about.nodes for member in self.view.members))

    def leads(self) -> bool:
        """Tell whether this engine leads, as far as it can know."""
        return self.leader() == self.consumer

    def leader(self) -> str:
        """Return the consumer that leads, as far as this engine can know; empty: it cannot."""
        return self.view.leader if self._loop.time() - self._seen_at < self._ttl_s else ""

"""The engine among others on one Redis: it lives, takes over, and sometimes leads.

Once a second, in threads of its own so that slow reads of clients do not make it look dead:

- *beat*: say that it lives, and learn who else does, whatever else takes time (`Membership`);
- *take over*: entries of engines that have left, or died (`Watch`, `Takeover`); each engine looks at its
  share of the regions, so the work of a dead one is spread over those that live;
- *progress* of tasks that take longer is written down, and delay queues are looked at (`Rounds`);
- the *leader* lets stored tasks become partial at their time (`Leader`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from engine.base.backoff import backoff_s
from engine.cluster.document import cluster_document
from engine.errors import StoreError
from engine.observe.meters import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.cluster.claims import QueueClaims
    from engine.cluster.eviction import EvictionWatch, RowsWatch
    from engine.cluster.fetch_register import FetchRegister
    from engine.cluster.inbox import Inbox
    from engine.cluster.membership import Membership
    from engine.cluster.replication import ReplicationWatch
    from engine.cluster.rounds import Rounds
    from engine.cluster.threads import Threads
    from engine.nodes.node import Node
    from engine.store.redis.members import Members

_TICK_S: Final = 1.0
_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 1.0
_LEAVE_LIMIT_S: Final = 10.0
_CLOCK_OFF_S: Final = 5.0


class Cluster:
    """This engine's part in the cluster, from `join` to `leave`.

    Args:
        membership: this engine among the others.
        members: the store's side.
        threads: where it is called.
        claims: the delay queues that this engine delivers.
        rounds: its regular work.
        inbox: messages of other engines.
        fetches: prefetches of all engines.
        replication: looks at the replicas of the store; *eviction* whether it evicts.
        rows: looks for what stored tasks wait for in vain.
        on_alert: told what an operator should know: key, level, message.
        ttl_s: ``store.takeover_s``.
    """

    def __init__(
        self,
        membership: Membership,
        members: Members,
        threads: Threads,
        *,
        claims: QueueClaims,
        rounds: Rounds,
        inbox: Inbox,
        fetches: FetchRegister,
        replication: ReplicationWatch,
        eviction: EvictionWatch,
        rows: RowsWatch,
        on_alert: Callable[[str, str, str], None],
        ttl_s: float,
    ) -> None:
        self.members = members
        self.inbox = inbox
        self._fetches = fetches
        self._membership = membership
        self._threads = threads
        self._claims = claims
        self._rounds = rounds
        self._replication = replication
        self._eviction = eviction
        self._rows = rows
        self._on_alert = on_alert
        self._loop = asyncio.get_running_loop()
        self._tick_s = min(_TICK_S, ttl_s / 4)  # several in that time, or nobody is ever sure of anything
        self.is_seen = True  #: whether the last beat was answered
        self.beat_times = Histogram()  #: how long Redis takes to answer beats
        self._seen_at = time.monotonic()
        self._is_clock_off = False
        self._sees_fetches = False
        self._times_emptied = 0
        self._times_set_back = 0
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Cluster with {self._membership!r}>"

    async def join(self, nodes: Mapping[str, Node]) -> None:
        """Be there for others, take over what an engine that has gone left, and go on.

        Args:
            nodes: the configured nodes, by name.

        Raises:
            StoreError: the store cannot be read or written.
        """
        await self._membership.join()
        if not self._sees_fetches:
            self._sees_fetches = True
            self._fetches.open()
        await self._rounds.first(nodes)
        watches = (self._replication.run(), self._eviction.run(), self._rows.run())
        for work in (self._live(), self._work(), self.inbox.listen(), *watches):
            self._tasks.append(self._loop.create_task(work))

    async def look(self) -> None:
        """An engine has gone: look at once for what it left.

        Raises:
            StoreError: the store cannot be read or written.
        """
        await self._rounds.look()

    async def leave(self) -> None:
        """Say goodbye: what is unfinished here is taken over by others now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._fetches.close()
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_LEAVE_LIMIT_S):
                await self._claims.give_back_all()
                await self._membership.leave()
        self._threads.close()

    def configured(self) -> set[str]:
        """Return the nodes that some engine has in its configuration."""
        return self._membership.configured()

    def others(self) -> list[str]:
        """Return the consumers that are not known to have gone, this one left out."""
        return self._membership.others()

    def is_nobody(self, consumer: str) -> bool:
        """Tell whether a consumer is known to be no engine that lives; False: it is one, or who knows."""
        return self._membership.is_nobody(consumer)

    def leads(self) -> bool:
        """Tell whether this engine leads, as far as it can know."""
        return self._membership.leads()

    def leader(self) -> str:
        """Return the consumer that leads, as far as this engine can know; empty: it cannot."""
        return self._membership.leader()

    # What Prometheus is told

    @property
    def silence_s(self) -> float:
        """Since a beat was answered, in seconds."""
        return time.monotonic() - self._seen_at

    @property
    def replica_count(self) -> int | None:
        """Replicas of the master with fewest, as of the last look; None: nobody has told."""
        count: int | None = self._replication.facts()["replicas"]
        return count

    @property
    def used_memory(self) -> int | None:
        """Bytes that the masters use, as of the last look; None: nobody has told."""
        return self._eviction.used_memory

    @property
    def reconnects(self) -> int:
        """Connections to Redis that broke, or could not be made."""
        return self.members.store.link.broken_count

    async def _live(self) -> None:
        """Beat, and keep the nodes that are being delivered; what else takes time does not hold this up."""
        failures = 0
        while True:
            try:
                await self._beat()
                self._compare_clocks()
                await self._claims.keep_all()
                if failures:
                    self._on_alert("cluster", "resolved", "the cluster can be seen again")
                failures = 0
                await self._rest()
            except StoreError as exc:
                failures += 1
                self.is_seen = False
                self._on_alert("cluster", "error", f"the cluster cannot be seen: {exc}")
                await asyncio.sleep(backoff_s(failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S))
            except Exception:  # noqa: BLE001 - without it this engine would be taken for dead
                logger.exception("the cluster's beat failed")
                await asyncio.sleep(self._tick_s)

    async def _beat(self) -> None:
        began = time.monotonic()
        await self._membership.beat()
        self._seen_at = time.monotonic()
        self.beat_times.observe(self._seen_at - began)
        self.is_seen = True

    async def _rest(self) -> None:
        """Wait for the time of the next beat, which comes sooner when there is news."""
        least_s = self._tick_s / 4
        await asyncio.sleep(least_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._tick_s - least_s):
                await self._membership.is_news.wait()

    def _compare_clocks(self) -> None:
        """Say when this host's clock is off; nothing is decided by it, but times that are shown are wrong."""
        ahead_s = self._membership.clock_ahead_s
        is_off = abs(ahead_s) > _CLOCK_OFF_S
        if is_off and not self._is_clock_off:
            text = (
                f"the clock of this host is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} "
                "the one of Redis: times in tasks, logs and callbacks are wrong by that; set the wrong one"
            )
            self._on_alert("clock", "warning", text)
        elif self._is_clock_off and not is_off:
            self._on_alert("clock", "resolved", "the clock of this host agrees with that of Redis again")
        self._is_clock_off = is_off

    def _say_what_is_gone(self) -> None:
        """Say that Redis has lost what it held: nobody else can tell what is missing."""
        emptied, set_back = self.members.store.times_emptied, self._membership.times_set_back
        if emptied > self._times_emptied:
            text = (
                "Redis was emptied, or has come back without its data: settled tasks, and purges that waited "
                "in it, are gone; tasks that engines had at work go on"
            )
            self._on_alert("store:emptied", "error", text)
        if set_back > self._times_set_back:
            text = (
                "Redis has forgotten what it was told last: it came back with an older copy of its data, or "
                "a failover went to a replica that was behind; tasks that settled since, and purges that "
                "came to wait in it, may be gone; tasks that engines had at work go on"
            )
            self._on_alert("store:set-back", "error", text)
        self._times_emptied, self._times_set_back = emptied, set_back

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            try:
                self._say_what_is_gone()
                await self._rounds.next()
            except StoreError as exc:
                logger.debug("the cluster's work has to wait: {}", exc)
            except Exception:  # noqa: BLE001 - without it nobody would take over anything
                logger.exception("the cluster's work failed")

    # Asked by the interface

    async def document(self) -> dict[str, Any]:
        """Return the body of ``GET /v1/engine/cluster``.

        Raises:
            StoreError: the store cannot be read.
        """
        await self._membership.beat()  # who has come since the last one is shown, too
        missing: set[int] = set()
        pending = await self._threads.call(self.members.pending, missing)
        oldest_at = await self._threads.call(self.members.oldest, pending)
        region_count = self.members.store.keys.count
        document = cluster_document(
            self._membership, pending, oldest_at, region_count=region_count, now=self._membership.now()
        )
        if missing:
            document["missing_regions"] = sorted(missing)
        facts = self._replication.facts()
        return document | facts | {"warnings": [*facts["warnings"], *self._eviction.warnings]}

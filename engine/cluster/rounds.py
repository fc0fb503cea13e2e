"""What an engine does for the cluster again and again: taking over, progress, delay queues, leading."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engine.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.cluster.leader import Leader
    from engine.cluster.membership import Membership
    from engine.cluster.takeover import Takeover
    from engine.cluster.threads import Threads
    from engine.cluster.watch import Watch
    from engine.delivery.pauses import Pauses
    from engine.delivery.redelivery import Redelivery
    from engine.delivery.silences import Silences
    from engine.delivery.touched import Touched
    from engine.nodes.node import Node
    from engine.saver.saver import Saver
    from engine.store.redis.members import Members

_WATCH_ALL_EVERY: Final = 5  #: rounds between two looks at consumers that no engine speaks of
_LOST_EVERY: Final = 10  #: rounds between two looks for entries of our own that we do not know
_LATE_S: Final = 30.0  #: so long after a failed commit Redis may still do what it had received of it


@dataclass(frozen=True)
class Duties:
    """What is looked after."""

    watch: Watch
    takeover: Takeover
    leader: Leader


class Rounds:
    """Does one round at a time.

    Args:
        membership: tells who is gone, and who leads.
        members: the store's side.
        threads: where it is called.
        duties: what is looked after.
        redelivery: delivers delay queues, whichever engine has filled them.
        pauses: nodes that are paused, whichever engine was asked to.
        silences: of alerts, likewise.
        touched: tasks that have made progress.
        saver: the engine's only one.
    """

    def __init__(
        self,
        membership: Membership,
        members: Members,
        threads: Threads,
        duties: Duties,
        *,
        redelivery: Redelivery,
        pauses: Pauses,
        silences: Silences,
        touched: Touched | None,
        saver: Saver,
    ) -> None:
        self._membership = membership
        self._members = members
        self._threads = threads
        self._watch = duties.watch
        self._takeover = duties.takeover
        self._leader = duties.leader
        self._redelivery = redelivery
        self._pauses = pauses
        self._silences = silences
        self._touched = touched
        self._saver = saver
        self._loop = asyncio.get_running_loop()
        self._count = 0

    async def first(self, nodes: Mapping[str, Node]) -> None:
        """Keep *nodes* that have rows from being ready, and take over what gone engines left.

        Raises:
            StoreError: the store cannot be read or written.
        """
        depths = await self._threads.call(self._members.store.depths)
        waited_for = {name for name, depth in depths.items() if depth.ready}
        for about in self._membership.said().values():
            waited_for.update(about.keeps)
        for name in waited_for & nodes.keys():
            nodes[name].start_probe()
        self._redelivery.refresh(depths)
        await self._watch.look()

    async def look(self) -> None:
        """Take over what gone engines left.

        Raises:
            StoreError: the store cannot be read or written.
        """
        await self._watch.look()

    async def next(self) -> None:
        """Do a round: each part, also when one before it failed.

        Raises:
            StoreError: the store cannot be read or written; what the first of the parts failed with.
        """
        self._count += 1
        if self._touched:
            records = self._touched.take()
            if records:
                self._saver.save_progress(records)
        errors: list[StoreError] = []
        for part in (
            self._pauses.refresh,
            self._silences.refresh,
            self._take_over,
            self._find_lost,
            self._look_at_queues,
            self._lead,
        ):
            try:
                await part()
            except StoreError as exc:
                errors.append(exc)
        if errors:
            raise errors[0]

    async def _take_over(self) -> None:
        membership = self._membership
        if self._count % _WATCH_ALL_EVERY == 0 or any(map(membership.is_gone, membership.view.members)):
            await self._watch.look()

    async def _find_lost(self) -> None:
        failed_s = self._loop.time() - self._saver.failed_at
        if self._count % _LOST_EVERY == 0 or failed_s < _LATE_S:
            await self._takeover.find_lost()

    async def _look_at_queues(self) -> None:
        self._redelivery.refresh(await self._threads.call(self._members.store.depths))

    async def _lead(self) -> None:
        if self._membership.leads():
            await self._leader.lead()

"""The engine among others on one Redis: it lives, takes over, and sometimes leads.

Once a second, in threads of its own so that slow reads of clients do not make it look dead:

- *beat*: say that it lives, and learn who else does, whatever else takes time (`Membership`);
- *take over*: entries of engines that have left, or died (`Watch`, `Takeover`); each engine looks at its
  share of the regions, so the work of a dead one is spread over those that live;
- *progress* of tasks that take longer is written down, and delay queues are looked at;
- the *leader* lets stored tasks become partial at their time (`Leader`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from engine.base.backoff import backoff_s
from engine.cluster.document import cluster_document
from engine.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.cluster.claims import QueueClaims
    from engine.cluster.leader import Leader
    from engine.cluster.membership import Membership
    from engine.cluster.takeover import Takeover
    from engine.cluster.threads import Threads
    from engine.cluster.watch import Watch
    from engine.delivery.parts import Delivery
    from engine.nodes.node import Node
    from engine.saver.saver import Saver
    from engine.store.redis.members import Members
    from engine.tasks.region import RegionMap

_TICK_S: Final = 1.0
_INBOX_MAX_S: Final = 1.0
_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 1.0
_LISTEN_AGAIN_S: Final = 1.0
_WATCH_ALL_EVERY: Final = 5  #: ticks between two looks at consumers that no engine speaks of
_LOST_EVERY: Final = 10  #: ticks between two looks for entries of our own that we do not know
_LATE_S: Final = 30.0  #: so long after a failed commit Redis may still do what it had received of it
_LEAVE_LIMIT_S: Final = 10.0


@dataclass(frozen=True)
class Duties:
    """What an engine does for the cluster, apart from being there."""

    claims: QueueClaims
    takeover: Takeover
    watch: Watch
    leader: Leader


class Cluster:
    """This engine's part in the cluster: its life, and its regular work.

    Args:
        membership: this engine among the others.
        members: the store's side.
        threads: where it is called.
        duties: what is done for the cluster.
        delivery: works the tasks, and empties the delay queues.
        nodes: the configured nodes by name.
        regions: the tasks in memory.
        saver: the engine's only one.
        on_alert: told what an operator should know: key, level, message.
        ttl_s: ``store.takeover_s``.
        timeout_s: ``store.timeout_s``.
    """

    def __init__(
        self,
        membership: Membership,
        members: Members,
        threads: Threads,
        duties: Duties,
        *,
        delivery: Delivery,
        nodes: Mapping[str, Node],
        regions: RegionMap,
        saver: Saver,
        on_alert: Callable[[str, str, str], None],
        ttl_s: float,
        timeout_s: float,
    ) -> None:
        self.members = members
        self._membership = membership
        self._threads = threads
        self._claims = duties.claims
        self._takeover = duties.takeover
        self._watch = duties.watch
        self._leader = duties.leader
        self._dispatch = delivery.dispatch
        self._redelivery = delivery.redelivery
        self._touched = delivery.touched
        self._nodes = nodes
        self._regions = regions
        self._saver = saver
        self._on_alert = on_alert
        self._loop = asyncio.get_running_loop()
        self._tick_s = min(_TICK_S, ttl_s / 4)  # several in that time, or nobody is ever sure of anything
        self._inbox_s = min(_INBOX_MAX_S, timeout_s / 2)
        self._tasks: list[asyncio.Task[None]] = []
        self._ticks = 0

    def __repr__(self) -> str:
        return f"<Cluster with {self._membership!r}>"

    # Life

    async def join(self) -> None:
        """Be there for others, take over what an engine that has gone left, and go on.

        Raises:
            StoreError: the store cannot be read or written.
        """
        await self._membership.join()
        depths = await self._threads.call(self.members.store.depths)
        for name, depth in depths.items():
            if depth.ready and name in self._nodes:
                self._nodes[name].start_probe()
        self._redelivery.refresh(depths)
        await self._watch.look()
        for work in (self._live(), self._run(), self._listen()):
            self._tasks.append(self._loop.create_task(work))

    async def look(self) -> None:
        """An engine has gone: look at once for what it left.

        Raises:
            StoreError: the store cannot be read or written.
        """
        await self._watch.look()

    async def leave(self) -> None:
        """Say goodbye: what is unfinished here is taken over by others now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_LEAVE_LIMIT_S):
                await self._claims.give_back_all()
                await self._membership.leave()
        self._threads.close()

    def leads(self) -> bool:
        """Tell whether this engine leads, as far as it can know."""
        return self._membership.leads()

    async def _live(self) -> None:
        """Beat, and keep the nodes that are being delivered; what else takes time does not hold this up."""
        failures = 0
        while True:
            try:
                await self._membership.beat()
                await self._claims.keep_all()
                if failures:
                    self._on_alert("cluster", "resolved", "the cluster can be seen again")
                failures = 0
                await asyncio.sleep(self._tick_s)
            except StoreError as exc:
                failures += 1
                self._on_alert("cluster", "error", f"the cluster cannot be seen: {exc}")
                await asyncio.sleep(backoff_s(failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S))
            except Exception:  # noqa: BLE001 - without it this engine would be taken for dead
                logger.exception("the cluster's beat failed")
                await asyncio.sleep(self._tick_s)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            try:
                await self._tick()
            except StoreError as exc:
                logger.debug("the cluster's work has to wait: {}", exc)
            except Exception:  # noqa: BLE001 - without it nobody would take over anything
                logger.exception("the cluster's work failed")

    async def _tick(self) -> None:
        self._ticks += 1
        membership = self._membership
        if self._ticks % _WATCH_ALL_EVERY == 0 or any(map(membership.is_gone, membership.view.members)):
            await self._watch.look()
        failed_s = self._loop.time() - self._saver.failed_at
        if self._ticks % _LOST_EVERY == 0 or failed_s < _LATE_S:
            await self._takeover.find_lost()
        if self._touched:
            records = self._touched.take()
            if records:
                self._saver.save_progress(records)
        self._redelivery.refresh(await self._threads.call(self.members.store.depths))
        if membership.leads():
            await self._leader.lead()

    # Messages of other engines

    async def _listen(self) -> None:
        while True:
            try:
                message = await self._threads.call(self.members.receive, self._inbox_s)
                if message == "look":
                    await self._watch.look()
                elif message.startswith("cancel "):
                    self._cancel(message.partition(" ")[2])
            except StoreError:
                await asyncio.sleep(backoff_s(0, first_s=_LISTEN_AGAIN_S, max_s=_LISTEN_AGAIN_S))
            except Exception:  # noqa: BLE001 - the next message must be heard
                logger.exception("a message of another engine failed")
                await asyncio.sleep(self._tick_s)

    def _cancel(self, task_id: str) -> None:
        task = self._regions.get(task_id)
        if task is not None and task.is_committed and not task.is_handed:
            self._dispatch.cancel(task)

    # Asked by the interface

    async def cancel_elsewhere(self, consumer: str, task_id: str) -> None:
        """Ask the engine that works on a task to cancel it.

        Raises:
            StoreError: the store cannot be written.
        """
        await self._threads.call(self.members.send, consumer, f"cancel {task_id}")

    async def document(self) -> dict[str, Any]:
        """Return the body of ``GET /v1/engine/cluster``.

        Raises:
            StoreError: the store cannot be read.
        """
        await self._membership.beat()  # who has come since the last one is shown, too
        pending = await self._threads.call(self.members.pending)
        oldest_at = await self._threads.call(self.members.oldest, pending)
        region_count = self.members.store.keys.count
        return cluster_document(
            self._membership, pending, oldest_at, region_count=region_count, now=time.time()
        )

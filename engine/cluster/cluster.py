"""The engine among others on one Redis: it lives, takes over, and sometimes leads.

Once a second, in threads of its own so that slow reads of clients do not make it look dead:

- *beat*: say that it lives, and learn who else does, whatever else takes time;
- *take over*: entries of engines that have left, or died (`Takeover`); each engine looks at its share of the
  regions, so the work of a dead one is spread over those that live;
- *progress* of tasks that take longer is written down, and delay queues are looked at;
- the *leader* lets stored tasks become partial at their time.

An engine counts as dead only for one that has itself been beating without a gap for as long: after Redis
was away everybody looks dead to everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from engine import _version
from engine.base.backoff import backoff_s
from engine.cluster.takeover import Takeover
from engine.errors import StoreError
from engine.store.redis.members import About, Member, Members, View
from engine.tasks.progress import take_touched

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.process.lifecycle import Engine
    from engine.store.redis.store import RedisStore

_TICK_S: Final = 1.0
_INBOX_MAX_S: Final = 1.0
_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 1.0
_LISTEN_AGAIN_S: Final = 1.0
_THREADS: Final = 4  #: one waits for messages, one beats
_WATCH_ALL_EVERY: Final = 5  #: ticks between two looks at consumers that no engine speaks of
_LOST_EVERY: Final = 10  #: ticks between two looks for entries of our own that we do not know
_LATE_S: Final = 30.0  #: so long after a failed commit Redis may still do what it had received of it
_JOIN_LIMIT_S: Final = 10.0


class Cluster:
    """This engine's part in the cluster.

    Args:
        engine: whose tasks it is about.
        store: the engine's.
        ttl_s: ``store.takeover_s``.
        name: ``engine.name``.
    """

    def __init__(self, engine: Engine, store: RedisStore, *, ttl_s: float, name: str) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._ttl_s = ttl_s
        self._tick_s = min(_TICK_S, ttl_s / 4)  # several in that time, or nobody is ever sure of anything
        self._inbox_s = min(_INBOX_MAX_S, engine.config.store.timeout_s / 2)
        self.members = Members(store, ttl_s)
        self.consumer = store.consumer
        self.about = About(
            name=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            process=process_mark(os.getpid()),
            version=_version.__version__,
            listen=engine.config.engine.listen,
            started_at=time.time(),
            nodes=[node.name for node in engine.config.node],
        )
        self.view = View()
        self.pending: dict[str, dict[int, int]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="cluster")
        self._takeover = Takeover(engine, self.members, self.call)
        self._tasks: list[asyncio.Task[None]] = []
        self._looking = asyncio.Lock()
        self._beat_at = -1e9  # when the last one that was answered began
        self._steady_since = 0.0
        self._fenced = 0  # the number that all regions were told
        self._claimed: set[str] = set()
        self._ticks = 0
        self._is_leaving = False

    def __repr__(self) -> str:
        return f"<Cluster of {len(self.view.members)} engines, as {self.consumer}>"

    async def call(self, function: Callable[..., Any], *args: object, **named: object) -> Any:
        """Call a blocking function in a thread of the cluster's."""
        return await self._loop.run_in_executor(self._threads, lambda: function(*args, **named))

    # Life

    async def join(self) -> None:
        """Be there for others, take up what an engine that has gone left, and go on.

        Raises:
            StoreError: the store cannot be read or written.
        """
        self._steady_since = self._loop.time()
        await self._beat()
        depths = await self.call(self.members.store.depths)
        self._engine.delay.claims = self
        for name, depth in depths.items():
            if depth.ready and name in self._engine.dispatch.nodes:
                self._engine.dispatch.nodes[name].start_probe()
        self._engine.delay.refresh(depths)
        await self.look()
        for work in (self._live(), self._run(), self._listen()):
            self._tasks.append(self._loop.create_task(work))

    async def leave(self) -> None:
        """Say goodbye: what is unfinished here is taken up by others now."""
        self._is_leaving = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_JOIN_LIMIT_S):
                for node in list(self._claimed):
                    await self.give_back(node)
                await self.call(self.members.leave)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _live(self) -> None:
        """Beat, and keep the nodes that are being delivered; what else takes time does not hold this up."""
        failures = 0
        while True:
            try:
                await self._beat()
                for node in list(self._claimed):
                    await self._keep(node)
                if failures:
                    self._engine.dispatch.on_alert("cluster", "resolved", "the cluster can be seen again")
                failures = 0
                await asyncio.sleep(self._tick_s)
            except StoreError as exc:
                failures += 1
                self._engine.dispatch.on_alert("cluster", "error", f"the cluster cannot be seen: {exc}")
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
        if self._ticks % _WATCH_ALL_EVERY == 0 or any(map(self.is_gone, self.view.members)):
            await self.look()
        failed_s = self._loop.time() - self._engine.savers.savers[0].failed_at
        if self._ticks % _LOST_EVERY == 0 or failed_s < _LATE_S:
            await self._takeover.find_lost()
        touched = self._engine.dispatch.touched
        if touched:
            records = take_touched(touched)
            if records:
                self._engine.savers.savers[0].save_progress(records)
        self._engine.delay.refresh(await self.call(self.members.store.depths))
        if self.leads():
            await self._lead()

    async def _beat(self) -> None:
        began = self._loop.time()
        self.about.is_draining = self._engine.is_draining
        view = await self.call(self.members.beat, self.about, may_lead=True)
        if began - self._beat_at > self._ttl_s * 0.6:
            self._steady_since = began
        self._beat_at = began
        if view.leader != self.view.leader and view.leader:
            logger.info("engine {} leads, number {}", view.leader, view.fence)
        self.view = view

    async def _listen(self) -> None:
        while True:
            try:
                message = await self.call(self.members.receive, self._inbox_s)
                if message == "look":
                    await self.look()
                elif message.startswith("cancel "):
                    self._cancel(message.partition(" ")[2])
            except StoreError:
                await asyncio.sleep(backoff_s(0, first_s=_LISTEN_AGAIN_S, max_s=_LISTEN_AGAIN_S))
            except Exception:  # noqa: BLE001 - the next message must be heard
                logger.exception("a message of another engine failed")
                await asyncio.sleep(self._tick_s)

    def _cancel(self, task_id: str) -> None:
        task = self._engine.regions.get(task_id)
        if task is not None and task.is_committed and not task.is_handed:
            self._engine.dispatch.cancel(task)

    # Who lives

    @property
    def is_steady(self) -> bool:
        """Whether this engine has been heard for long enough to tell that others are dead."""
        return self._beat_at - self._steady_since >= self._ttl_s

    def is_gone(self, member: Member) -> bool:
        """Tell whether an engine has left or is dead."""
        if member.consumer == self.consumer:
            return False
        if member.has_left or (not member.lives and self.is_steady):
            return True
        about = member.about
        here = self.about.process.rpartition(":")[0]
        return about.process.rpartition(":")[0] == here and process_mark(about.pid) != about.process

    def workers(self) -> list[str]:
        """Return the consumers that live and are not about to end, this one included."""
        there = (one for one in self.view.members if not one.about.is_draining and not self.is_gone(one))
        return sorted({one.consumer for one in there} | {self.consumer})

    async def look(self) -> None:
        """Take up what engines that have gone left, in this engine's share of the regions.

        Raises:
            StoreError: the store cannot be read or written.
        """
        async with self._looking:
            if self._engine.is_draining:
                return  # what is unfinished goes to others soon
            self.view = await self.call(self.members.beat, self.about, may_lead=True)
            self.pending = await self.call(self.members.pending)
            known = {member.consumer: member for member in self.view.members}
            workers = self.workers()
            place = workers.index(self.consumer)
            for consumer, regions in self.pending.items():
                member = known.get(consumer)
                if consumer == self.consumer or (member is not None and not self.is_gone(member)):
                    continue
                if member is None and not self.is_steady:
                    continue
                for region in sorted(regions):
                    if region % len(workers) == place:
                        await self._takeover.take_from(consumer, region)
            for member in self.view.members:
                if self.is_gone(member) and not self.pending.get(member.consumer):
                    await self.call(self.members.bury, member.consumer)

    # The leader

    def leads(self) -> bool:
        """Tell whether this engine leads, as far as it can know."""
        return self.view.leader == self.consumer and self._loop.time() - self._beat_at < self._ttl_s

    async def _lead(self) -> None:
        fence = self.view.fence
        if self._fenced != fence:
            if not await self.call(self.members.fence, fence):
                return
            self._fenced = fence
        states, callbacks = await self.call(self.members.make_due, time.time(), fence)
        self._engine.stats.tasks_partial += len(states)
        self._engine.callbacks_written(0, callbacks)
        await self._drop_unknown()

    async def _drop_unknown(self) -> None:
        """Fail rows of nodes that no engine has in its configuration any more."""
        known = set().union(*(member.about.nodes for member in self.view.members))
        for name in self._engine.delay.names():
            if name not in known and await self.take(name):
                count = self._engine.delay.depth(name)
                logger.warning("{} is not configured any more; its {} delayed subtasks fail", name, count)
                try:
                    await self._engine.delay.drop_unknown(name)
                finally:
                    await self.give_back(name)

    # Delivery of delay queues, see `delay.Claims`

    async def take(self, node: str) -> bool:
        """See `delay.Claims`."""
        if await self.call(self.members.lock, node):
            self._claimed.add(node)
            return True
        self._claimed.discard(node)
        return False

    async def _keep(self, node: str) -> None:
        """Renew a claim; one that was given back meanwhile must not come to life again."""
        is_ours = await self.call(self.members.lock, node)
        if not is_ours:
            self._claimed.discard(node)
        elif node not in self._claimed:
            await self.call(self.members.unlock, node)

    async def give_back(self, node: str) -> None:
        """See `delay.Claims`."""
        if node in self._claimed:
            self._claimed.discard(node)
            await self.call(self.members.unlock, node)

    # Asked by the interface

    async def cancel_elsewhere(self, consumer: str, task_id: str) -> None:
        """Ask the engine that works on a task to cancel it."""
        await self.call(self.members.send, consumer, f"cancel {task_id}")

    async def document(self) -> dict[str, Any]:
        """Return the body of ``GET /v1/engine/cluster``.

        Raises:
            StoreError: the store cannot be read.
        """
        await self._beat()  # who has come since the last one is shown, too
        pending = await self.call(self.members.pending)
        oldest = await self.call(self.members.oldest, pending)
        now = time.time()
        engines = [
            {
                "consumer": member.consumer,
                "name": member.about.name,
                "host": member.about.host,
                "pid": member.about.pid,
                "listen": member.about.listen,
                "version": member.about.version,
                "started_at": member.about.started_at,
                "state": "gone" if self.is_gone(member) else "alive" if member.lives else "silent",
                "leader": member.consumer == self.view.leader,
                "pending": sum(pending.get(member.consumer, {}).values()),
                "lag_s": round(max(0.0, now - oldest.get(member.consumer, now)), 3),
            }
            for member in self.view.members
        ]
        known = {member.consumer for member in self.view.members}
        forgotten = sum(sum(counts.values()) for name, counts in pending.items() if name not in known)
        return {
            "mode": "cluster",
            "self": self.consumer,
            "leader": self.view.leader or None,
            "fence": self.view.fence,
            "region_count": self.members.store.keys.count,
            "engines": engines,
            "pending": sum(sum(counts.values()) for counts in pending.values()),
            "pending_of_nobody": forgotten,
        }


def process_mark(pid: int) -> str:
    """Return what tells a process from all others: boot, PID namespace and start; empty: it is not there."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it points nowhere
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return ""
    fields = stat.split()
    return "" if fields[0] in {"Z", "X"} else f"{boot}/{namespace}:{fields[19]}"

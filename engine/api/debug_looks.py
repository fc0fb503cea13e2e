"""The looks into one worker."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from engine.base import loop
from engine.config.hints import nearest
from engine.debugging import coroutines, heap, threads, tracing
from engine.debugging.collector import DebugGcOfWorker, Pauses, watching
from engine.debugging.coroutines import DebugTasksOfWorker
from engine.debugging.exchanges import DebugWireOfWorker
from engine.debugging.lag import DebugLoopOfWorker, LagWatch
from engine.debugging.sampler import Sampler
from engine.debugging.threads import DebugThreadsOfWorker
from engine.errors import RequestError
from engine.nodes.capture import Capture

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    import msgspec

    from engine.api.debug_queries import (
        HeapQuery,
        LoopQuery,
        ProfileQuery,
        SecondsQuery,
        WireQuery,
        WorkerQuery,
    )
    from engine.api.debug_task import DebugTaskOfWorker, TaskLook
    from engine.debugging.heap import DebugHeapOfWorker
    from engine.debugging.sampler import DebugProfileOfWorker
    from engine.nodes.node import Node

_TRACE_S: Final = 10.0  #: without another time


class Looks:
    """Takes looks into this worker.

    Args:
        worker: its name: slot and generation.
        nodes: name → node.
        task_look: looks for a task.
    """

    def __init__(self, worker: str, nodes: Mapping[str, Node], task_look: TaskLook) -> None:
        self.worker = worker
        self._task_look = task_look
        self._nodes = nodes
        self._under_way: set[str] = set()
        self._named: dict[str, Callable[..., Awaitable[msgspec.Struct]]] = {
            "threads": self.threads,
            "tasks": self.tasks,
            "gc": self.gc,
            "loop": self.loop,
            "profile": self.profile,
            "heap": self.heap,
            "wire": self.wire,
            "task": self.task,
        }

    async def take(self, name: str, asked: Any, more: dict[str, str]) -> msgspec.Struct:
        """Take the look that is called *name*.

        Raises:
            RequestError: 409, one like it is under way.
        """
        return await self._named[name](asked, **more)

    @contextlib.contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Be the only one that does so.

        Raises:
            RequestError: 409, another one does.
        """
        if what in self._under_way:
            raise RequestError(409, f"worker {self.worker}: {what} is looked at already, one at a time")
        self._under_way.add(what)
        try:
            yield
        finally:
            self._under_way.discard(what)

    async def threads(self, _asked: WorkerQuery) -> DebugThreadsOfWorker:
        """Show the threads."""
        return DebugThreadsOfWorker(self.worker, os.getpid(), await threads.look())

    async def tasks(self, _asked: WorkerQuery) -> DebugTasksOfWorker:
        """Show the tasks of the loop."""
        count, groups = await coroutines.look()
        return DebugTasksOfWorker(self.worker, os.getpid(), count, groups)

    async def gc(self, asked: SecondsQuery) -> DebugGcOfWorker:
        """Show the garbage collector, with its passes in a while."""
        pauses = Pauses()
        with watching(pauses):
            await asyncio.sleep(asked.seconds)
        return DebugGcOfWorker(
            self.worker,
            os.getpid(),
            gc.isenabled(),
            gc.get_freeze_count(),
            asked.seconds,
            pauses.generations(),
        )

    async def loop(self, asked: LoopQuery) -> DebugLoopOfWorker:
        """Show the lag of the loop, and what was slow in a while."""
        with self.alone("the loop"):
            watch = LagWatch(asked.threshold_ms / 1000)
            watch.start()
            try:
                await asyncio.sleep(asked.seconds)
            finally:
                watch.stop()
        slow, left_out = watch.slow()
        return DebugLoopOfWorker(
            self.worker,
            os.getpid(),
            loop.NAME,
            asked.seconds,
            asked.threshold_ms,
            watch.lag,
            slow,
            left_out,
        )

    async def profile(self, asked: ProfileQuery) -> DebugProfileOfWorker:
        """Show where the threads are, over a while."""
        with self.alone("the profile"):
            sampler = Sampler(asked.rate)
            sampler.start()
            try:
                await asyncio.sleep(asked.seconds)
            finally:
                sampler.stop()
            return await sampler.document(self.worker, os.getpid())

    async def heap(self, asked: HeapQuery) -> DebugHeapOfWorker:
        """Show what is in memory, and what has grown in a while; or who has allocated what meanwhile."""
        with self.alone("the heap"):
            if asked.trace:
                shown = heap.document(self.worker, os.getpid(), heap.Walk(), 0.0, types=[], seconds=0.0)
                shown.trace = await tracing.trace(asked.seconds or _TRACE_S, asked.top)
                return shown
            before = None
            if asked.seconds:
                before, _, _ = await heap.look(None, 0)
                await asyncio.sleep(asked.seconds)
            walk, walk_s, types = await heap.look(before, asked.top)
            return heap.document(self.worker, os.getpid(), walk, walk_s, types=types, seconds=asked.seconds)

    def node_of(self, name: str) -> Node:
        """Return a node.

        Raises:
            RequestError: 404, it is not configured.
        """
        node = self._nodes.get(name)
        if node is None:
            hint = partial(nearest, name, list(self._nodes))
            raise RequestError(404, f"there is no node {name!r} in the configuration", hint=hint)
        return node

    async def wire(self, asked: WireQuery, *, node: str) -> DebugWireOfWorker:
        """Show what passes between this worker and a node, until that is enough or the time is over."""
        chosen = self.node_of(node)
        with self.alone(f"the wire of {node}"):
            capture = Capture(asked.count)
            chosen.channels.watch(capture)
            chosen.proving.watch(capture.probed)
            try:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(capture.full.wait(), asked.seconds)
            finally:
                chosen.channels.watch(None)
                chosen.proving.watch(None)
        return DebugWireOfWorker(
            self.worker,
            os.getpid(),
            node,
            chosen.state.value,
            chosen.health.last_error,
            asked.seconds,
            capture.connections,
            await capture.documents(),
        )

    async def task(self, _asked: WorkerQuery, *, task: str) -> DebugTaskOfWorker:
        """Show what is known of a task."""
        return await self._task_look.look(self.worker, task)

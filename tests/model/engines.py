"""Engines in process: one, or workers with a stand-in for their supervisor; killed, restarted, reloaded."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from engine.base.protocols import streamed
from engine.config.load import parse
from engine.errors import EngineError
from engine.intake.fast_lane import ClientConnection
from engine.process.build import build
from engine.process.lifecycle import Lifecycle
from engine.workers.peers import Peer, Peers
from tests.model.inside import LOGS
from tests.model.pipes import Listening

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.process.build import Parts
    from tests.model.loop import VirtualLoop

_RESPAWN_S = 0.7


class Worker:
    """One process with an engine."""

    def __init__(
        self, engines: Engines, slot: int, generation: int, config: Any, *, has_predecessor: bool
    ) -> None:
        self.slot = slot
        self.generation = generation
        self.config = config
        self.has_predecessor = has_predecessor
        self.accepts = False
        self.was_sent_go = False
        self.is_announced = False
        self.is_leaving = False
        self._ended = asyncio.Event()
        self.path = f"/model/worker-{slot}.{generation}"
        self.address = ("worker", f"{slot}.{generation}")
        self.lifecycle: Lifecycle | None = None
        self.peers: Peers | None = None
        self._engines = engines
        self._loop = engines.loop
        self.process = engines.loop.spawn(f"worker {slot}.{generation}")

    def __repr__(self) -> str:
        return f"<Worker {self.slot}.{self.generation}{'' if self.is_alive else ' (dead)'}>"

    @property
    def is_alive(self) -> bool:
        return not self.process.is_dead

    @property
    def parts(self) -> Parts:
        assert self.lifecycle is not None
        return self.lifecycle.parts

    def do(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start *work* in this process."""
        return self._loop.create_task(work, context=self.process.context.copy())

    async def start(self) -> None:
        """Build and prepare."""
        await self._in_process(self._start())

    async def _in_process(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self.do(work)
        while not task.done() and self.is_alive:
            await asyncio.wait({task}, timeout=0.05)
        if task.done():
            task.result()

    async def _start(self) -> None:
        engines = self._engines
        if engines.count > 1 or engines.has_supervisor:
            self.peers = Peers(self.slot, engines.count, self.generation)
        parts = build(parse(self.config), LOGS, peers=self.peers, has_predecessor=self.has_predecessor)
        self.lifecycle = Lifecycle(parts)
        if self.peers is not None:
            runner = web.AppRunner(
                parts.interface.worker_app, handle_signals=False, access_log=None, shutdown_timeout=0.2
            )
            await runner.setup()
            self._loop.net.listen((self.path, 0), Listening(runner.server), self.process.context)
        await self.lifecycle.prepare()

    def go(self) -> None:
        """Accept connections."""
        if not self.is_alive:
            return
        self.accepts = self.was_sent_go = True
        factory = partial(ClientConnection, self.parts.interface.gate, self._loop)
        self._loop.net.listen(self.address, Listening(streamed(factory)), self.process.context)

    def take_over(self) -> None:
        """Go on with what others of this slot left."""
        self.do(self._take_over())

    async def _take_over(self) -> None:
        assert self.lifecycle is not None
        while True:
            try:
                await self.lifecycle.take_over()
            except EngineError:
                await asyncio.sleep(1)
            else:
                return

    async def drain(self) -> None:
        """End in order; one that is ending hears SIGTERM once more, and ends at once."""
        assert self.lifecycle is not None
        if self.is_leaving:
            self.process.context.copy().run(self.lifecycle.stop)
            await self._ended.wait()
            return
        self.is_leaving = True
        self.accepts = False
        self._loop.net.unlisten(self.address)
        await self._in_process(self._drain())
        if self.is_alive:
            self.kill()

    async def _drain(self) -> None:
        assert self.lifecycle is not None
        self.lifecycle.stop()
        await self.lifecycle.run_until_stopped()

    def kill(self) -> None:
        """End at once, as ``kill -9`` does."""
        if not self.is_alive:
            return
        self.accepts = False
        self._loop.kill(self.process)
        self._ended.set()
        self._loop.net.unlisten(self.address)
        self._loop.net.unlisten((self.path, 0))
        if self.lifecycle is None:
            return
        for saver in self.parts.core.savers.savers:
            saver.store.close()
        self.parts.elsewhere.close()  # its lock goes with a process
        sessions = [
            self.parts.core.outbox._poster.session,
            *(self.peers._sessions.values() if self.peers is not None else ()),
        ]
        for session in sessions:
            if session is not None:
                if session._connector is not None:
                    session._connector._conns.clear()
                session.detach()


class Engines:
    """All workers of one engine.

    Args:
        loop: they run on.
        count: of workers; with one there is no supervisor.
    """

    def __init__(self, loop: VirtualLoop, count: int) -> None:
        self.loop = loop
        self.count = count
        self.has_supervisor = count > 1
        self.workers: list[Worker] = []
        self.config: dict[str, Any] | None = None
        self.is_up = False
        self._free = asyncio.Event()  # no reload is under way
        self._free.set()
        self.start_failures: list[str] = []
        self._generation = 0
        self._leftovers: set[int] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.is_alive]

    def accepting(self) -> list[Worker]:
        """Return the workers that take connections."""
        return [worker for worker in self.alive if worker.accepts]

    def addresses(self) -> list[tuple[str, str]]:
        """Return where tasks can be handed in."""
        return [worker.address for worker in self.accepting()]

    def stable_config(self) -> dict[str, Any] | None:
        """Return the configuration that all workers have; None: they differ."""
        return self.config if all(worker.config is self.config for worker in self.alive) else None

    def _background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Start and end

    async def start(self, config: Any) -> None:
        """Start all workers, on what the store holds."""
        self.config = config
        self.is_up = True
        new = [self._spawn(slot, config) for slot in range(self.count)]
        await asyncio.gather(*(self._bring_up(worker) for worker in new))

    async def _bring_up(self, worker: Worker) -> None:
        try:
            await worker.start()
        except Exception as exc:  # noqa: BLE001 - it would end with an error
            self.start_failures.append(f"{worker}: {exc!r}")
            worker.kill()
            return
        if worker.is_alive:
            self.announce(worker)
            worker.go()
            self._settle(worker.slot)

    def kill_all(self) -> None:
        """Pull the plug."""
        self.is_up = False
        for worker in self.alive:
            worker.kill()
        self.workers.clear()
        self._leftovers.clear()

    async def crash(self) -> None:
        """Pull the plug."""
        self.kill_all()

    async def stop(self) -> None:
        """End in order, all workers."""
        self.is_up = False
        await asyncio.gather(*(worker.drain() for worker in self.alive if worker.lifecycle is not None))
        self.kill_all()

    # As a supervisor does

    def _spawn(self, slot: int, config: Any) -> Worker:
        self._generation += 1
        has_predecessor = any(worker.slot == slot for worker in self.alive)
        if not has_predecessor:
            self._leftovers.discard(slot)
        worker = Worker(self, slot, self._generation, config, has_predecessor=has_predecessor)
        self.workers.append(worker)
        return worker

    def announce(self, *new: Worker) -> None:
        """Tell all workers who there is, *new* ones included."""
        for worker in new:
            worker.is_announced = worker.peers is not None
        known = [worker for worker in self.alive if worker.is_announced]
        table = [Peer(worker.slot, worker.generation, worker.path) for worker in known]
        for worker in known:
            assert worker.peers is not None
            worker.process.context.copy().run(worker.peers.update, table)

    def _settle(self, slot: int) -> None:
        working = [worker for worker in self.alive if worker.slot == slot and worker.was_sent_go]
        if slot in self._leftovers and len(working) == 1 and not working[0].is_leaving:
            self._leftovers.discard(slot)
            working[0].take_over()

    async def kill_worker(self, slot: int) -> None:
        """Kill the newest worker of a slot; another is started soon."""
        there = [worker for worker in self.alive if worker.slot == slot % self.count]
        if not there:
            return
        worker = there[-1]
        worker.kill()
        self._exited(worker)

    def _exited(self, worker: Worker) -> None:
        slot = worker.slot
        if worker.was_sent_go or not worker.has_predecessor:
            self._leftovers.add(slot)
        if worker.is_announced:
            self.announce()
        self._settle(slot)
        if self.is_up and not any(other.slot == slot and not other.is_leaving for other in self.alive):
            self.loop.call_later(_RESPAWN_S, self._respawn, slot)

    def _respawn(self, slot: int) -> None:
        if self.is_up and not any(other.slot == slot and not other.is_leaving for other in self.alive):
            self._background(self._bring_up(self._spawn(slot, self.config)))

    async def reload(self, config: Any) -> None:
        """Bring up new workers beside the old ones, and drain those."""
        if not self._free.is_set() or not self.is_up:
            return
        self._free.clear()
        try:
            await self._reload(config)
        finally:
            self._free.set()

    async def settled(self) -> None:
        """Wait until no reload is under way."""
        await self._free.wait()

    async def _reload(self, config: Any) -> None:
        old = self.alive
        new = [self._spawn(slot, config) for slot in range(self.count)]
        results = await asyncio.gather(*(worker.start() for worker in new), return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        if failed or not all(worker.is_alive for worker in new) or not self.is_up:
            self.start_failures += [repr(exc) for exc in failed]
            for worker in new:
                worker.kill()
            return
        self.config = config
        self.announce(*new)
        for worker in new:
            worker.go()
            self._settle(worker.slot)
        for worker in old:
            if worker.is_alive and worker.lifecycle is not None:
                self._background(self._leave(worker))

    async def _leave(self, worker: Worker) -> None:
        with contextlib.suppress(Exception):
            await worker.drain()
        worker.kill()
        self._exited(worker)

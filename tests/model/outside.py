"""A run with real processes, real sockets and real time: ``python -m tests.model --processes``.

The engine is ``purgeline serve --workers N`` in a folder of its own, or two engines on one Redis. The caches
are those of every other run, behind sockets on loopback. A node that is *lost* takes connections and says
nothing on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from tests.model import plans
from tests.model.caches import Faults
from tests.model.clients import Clients
from tests.model.world import Pace, World
from tests.rigs.engine_process import EngineProcess
from tests.rigs.redis_servers import RedisServer
from tests.rigs.supervised_engine import SupervisedEngine
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.model.figures import Figures

_PACE: Final = Pace(
    engine={
        "request_timeout_s": 1,
        "connect_timeout_s": 0.5,
        "due_s": 5,
        "drain_timeout_s": 3,
        "prefetch_timeout_s": 2,
        "on_incapable": "skip",
        "region_count": 2,
        "connections_per_node": 2,
    },
    proof={"evidence_interval_s": 1},
    look_s=0.3,
    quiet_limit_s=180.0,
    refused_limit_s=90.0,
    moment_s=1.5,
)
_START_LIMIT_S: Final = 60.0
_RESPAWN_S: Final = 0.5
_CLUSTER_COUNT: Final = 2
_CHANGE_S: Final = 10.0  #: after a change of workers the state of a node may be that of any of them


class Processes:
    """The engine: a supervisor and its workers.

    Args:
        folder: of its configuration, data and log.
        workers: so many.
    """

    has_supervisor = True

    def __init__(self, folder: Path, workers: int) -> None:
        self.is_up = False
        self.start_failures: list[str] = []
        self.changed_at = 0.0  #: when processes came or went last, the loop's time
        self._folder = folder
        self._workers = workers
        self.config: dict[str, Any] | None = None
        self._engine: SupervisedEngine | None = None
        self._free = asyncio.Event()  # no reload is under way
        self._free.set()

    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", self._engine.port)] if self.is_up and self._engine is not None else []

    def stable_config(self) -> dict[str, Any] | None:
        return self.config

    def log(self) -> str:
        """Return what the engine has logged."""
        return "" if self._engine is None else self._engine.log()

    async def start(self, config: dict[str, Any]) -> None:
        self.config = config
        await asyncio.to_thread(self._start, config)
        self.is_up = True
        self._changed()

    def _start(self, config: dict[str, Any]) -> None:
        if self._engine is None:
            self._engine = SupervisedEngine(
                self._folder, _tables(config), workers=self._workers, **config["engine"]
            )
        self._engine.configure(_tables(config))
        _start_process(self._engine)

    def _changed(self) -> None:
        self.changed_at = asyncio.get_running_loop().time()

    async def stop(self) -> None:
        assert self._engine is not None
        self.is_up = False
        await asyncio.to_thread(self._engine.stop)
        await self._free.wait()

    async def crash(self) -> None:
        """End all processes by SIGKILL: the supervisor first, which would start others."""
        self.is_up = False
        await asyncio.to_thread(self._crash)
        await self._free.wait()

    def _crash(self) -> None:
        if self._engine is None or not self._engine.is_up:
            return
        workers = self._pids()
        self._engine.kill()
        for pid in workers:
            _kill(pid)

    def _pids(self, slot: int | None = None) -> list[int]:
        """Return the processes of workers, the newest last."""
        assert self._engine is not None
        with contextlib.suppress(OSError, AssertionError):
            found = self._engine.control(cmd="status")["workers"]
            found.sort(key=lambda worker: worker["generation"])
            return [worker["pid"] for worker in found if slot is None or worker["slot"] == slot]
        return []

    async def kill_worker(self, slot: int) -> None:
        pids = await asyncio.to_thread(self._pids, slot % self._workers)
        if pids:
            _kill(pids[-1])
        self._changed()

    async def reload(self, config: dict[str, Any]) -> None:
        """Change the configuration by SIGHUP; a reload whose new workers die goes back, and that is well."""
        if not self._free.is_set() or not self.is_up or self._engine is None:
            return
        self._free.clear()
        self.config = None  # which one is at work is known after the next start
        self._engine.configure(_tables(config))
        try:
            with contextlib.suppress(OSError, AssertionError):
                await asyncio.to_thread(self._hang_up)
        finally:
            self._changed()
            self._free.set()

    def _hang_up(self) -> None:
        assert self._engine is not None
        os.kill(self._engine.pid, signal.SIGHUP)
        time.sleep(0.2)  # it is under way
        wait_until(lambda: not self.is_up or self._is_quiet(), what="the reload", timeout_s=_START_LIMIT_S)

    def _is_quiet(self) -> bool:
        assert self._engine is not None
        return bool(self._engine.control(cmd="status")["state"] == "serving")

    async def settled(self) -> None:
        await self._free.wait()


class Cluster:
    """Two engines on one Redis, each a process of its own; what becomes of a worker becomes of one of them.

    Args:
        folder: of their configurations, logs, and the Redis.
        url: of the Redis.
    """

    has_supervisor = True  #: a reload is a restart of one after the other

    def __init__(self, folder: Path, url: str) -> None:
        self.is_up = False
        self.start_failures: list[str] = []
        self.changed_at = 0.0
        self._folder = folder
        self._url = url
        self.config: dict[str, Any] | None = None
        self._engines: list[EngineProcess] = []
        self._free = asyncio.Lock()  # one change at a time

    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", engine.port) for engine in self._engines if engine.is_up] if self.is_up else []

    def stable_config(self) -> dict[str, Any] | None:
        return self.config

    def log(self) -> str:
        """Return what the engines have logged."""
        return "".join(engine.log() for engine in self._engines)

    async def start(self, config: dict[str, Any]) -> None:
        self.config = config
        if not self._engines:
            self._engines = [self._make(number, config) for number in range(_CLUSTER_COUNT)]
        async with self._free:
            await asyncio.gather(*(self._start(engine, config) for engine in self._engines))
        self.is_up = True

    def _make(self, number: int, config: dict[str, Any]) -> EngineProcess:
        folder = self._folder / f"engine-{number}"
        folder.mkdir()
        return EngineProcess(folder, "", **config["engine"], name=f"engine-{number}")

    async def _start(self, engine: EngineProcess, config: dict[str, Any]) -> None:
        store = f'[store]\nurl = "{self._url}"\ntimeout_s = 2\ntakeover_s = 3\n'
        engine.configure(store + _tables(config))
        await asyncio.to_thread(_start_process, engine)
        self.changed_at = asyncio.get_running_loop().time()

    async def stop(self) -> None:
        self.is_up = False
        async with self._free:
            await asyncio.gather(*(asyncio.to_thread(engine.stop) for engine in self._engines))

    async def crash(self) -> None:
        """End all engines by SIGKILL."""
        self.is_up = False
        async with self._free:
            for engine in self._engines:
                if engine.process is not None:
                    await asyncio.to_thread(engine.kill)

    async def kill_worker(self, slot: int) -> None:
        """End one engine by SIGKILL, and start it again."""
        async with self._free:
            engine = self._engines[slot % len(self._engines)]
            await asyncio.to_thread(engine.kill)
            await asyncio.sleep(_RESPAWN_S)
            if self.is_up and self.config is not None:
                await self._start(engine, self.config)

    async def reload(self, config: dict[str, Any]) -> None:
        """Restart one engine after the other with another configuration."""
        for engine in self._engines:
            async with self._free:
                if not self.is_up:
                    return
                self.config = None if engine is self._engines[0] else self.config
                await asyncio.to_thread(engine.stop)
                await self._start(engine, config)
        self.config = config

    async def settled(self) -> None:
        async with self._free:
            pass


def _start_process(engine: EngineProcess) -> None:
    engine.start(wait=False)
    wait_until(engine._is_ready, what="the engine being ready", timeout_s=_START_LIMIT_S)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _tables(config: dict[str, Any]) -> str:
    """Return the configuration without ``[engine]`` as TOML."""
    tables = [("[proof]", config["proof"])]
    tables += [(f"[[{name}]]", table) for name in ("layer", "node") for table in config[name]]
    return "\n".join(
        "\n".join([head, *(f"{key} = {json.dumps(value)}" for key, value in table.items())])
        for head, table in tables
    )


class OutsideWorld(World):
    """One run.

    Args:
        plan: what happens.
        folder: of the engine.
        figures: counts.
        redis_url: of the store of two engines; empty: one engine has a file.
    """

    pace = _PACE
    engines: Processes | Cluster

    def __init__(self, plan: plans.Plan, folder: Path, figures: Figures, redis_url: str = "") -> None:
        loop = asyncio.get_running_loop()
        super().__init__(plan, random.Random(plan.seed), figures, wall_start_s=time.time() - loop.time())
        self.engines = Cluster(folder, redis_url) if redis_url else Processes(folder, plan.workers)
        self.clients = Clients(self)
        self._ports: dict[str, int] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._failures: list[str] = []
        loop.set_exception_handler(self._note_failure)

    def _note_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def failures(self) -> list[str]:
        return [*self._failures, *super().failures()]

    def url_of(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def is_configured_anew(self) -> bool:
        return True

    async def open_doors(self) -> None:
        for name in plans.NODES:
            await self.open_door(name)

    async def open_door(self, name: str) -> None:
        if name not in self._servers:
            loop, door = asyncio.get_running_loop(), self.doors[name]
            port = self._ports.get(name, 0)
            server = await loop.create_server(door.make_protocol, "127.0.0.1", port)
            self._servers[name] = server
            self._ports[name] = server.sockets[0].getsockname()[1]

    async def close_door(self, name: str) -> None:
        if self.caches[name].faults.door == "refused" and name in self._servers:
            self._servers.pop(name).close()

    async def _look(self) -> None:
        if any(cache.faults != Faults() or not cache.is_marked for cache in self.caches.values()):
            for record in self.records():  # some of it may go through a delay queue unseen
                record.was_delayed = True
        await super()._look()

    async def states(self) -> list[tuple[Any, str, str]]:
        changed_at = self.engines.changed_at
        is_ill = any(cache.ill_since is not None for cache in self.caches.values())
        if not is_ill or self.now() < changed_at + _CHANGE_S:
            return []
        reply = await self.clients.ask("GET", "/v1/engine/nodes")
        if reply is None or reply[0] != 200:
            return []
        nodes = json.loads(reply[1])["nodes"]
        return [(changed_at, node["name"], node["state"]) for node in nodes]

    async def close(self) -> None:
        """End everything."""
        await self.engines.crash()
        for server in self._servers.values():
            server.close()
        for door in self.doors.values():
            door.reset()
        log = self.engines.log()
        if "Traceback" in log and self.rules.broken is None:
            start = log.index("Traceback")
            self.rules.fail(f"the engine logged an error:\n{log[max(0, start - 500) : start + 3000]}")


async def _carry_out(plan: plans.Plan, folder: Path, figures: Figures, redis_url: str) -> None:
    world = OutsideWorld(plan, folder, figures, redis_url)
    try:
        await world.run()
    finally:
        world.count()
        await world.close()


def carry_out(plan: plans.Plan, folder: Path, figures: Figures, *, on_redis: bool = False) -> None:
    """Run a plan from start to end; *on_redis*: with two engines on one Redis.

    Raises:
        Violation: a rule was broken.
    """
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(RedisServer(folder)).url if on_redis else ""
        asyncio.run(_carry_out(plan, folder, figures, url))

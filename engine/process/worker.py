"""An engine under a supervisor: one worker, that takes over from the worker before it and hands over in turn.

The supervisor starts it with everything it needs to know in the environment (`Orders`, JSON) and
speaks with it over a socketpair (`Control`). The worker prepares itself whole, answers
``/readyz`` and ``/version`` on a Unix socket of its own, and accepts on the shared listening socket when
it is told ``go``. ``drain`` ends it: requests under way are answered, connections closed, and what is
unfinished is in the store for the worker after it, which is told ``adopt`` when this one has exited.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from loguru import logger

from engine.base.background import Background
from engine.errors import EngineError
from engine.process.build import build
from engine.process.control import Control
from engine.process.lifecycle import Lifecycle
from engine.process.orders import Orders, read_orders
from engine.process.running import cycle, running
from engine.process.sockets import bind_unix, take_doors, take_socket
from engine.workers.peers import Peers

if TYPE_CHECKING:
    from engine.config.tables import Config
    from engine.observe.logs import Logs

_SOCKET_GRACE_S: Final = 0.2
_REPORT_EVERY_S: Final = 1.0
_FAILED_DRAIN_S: Final = 2.0
"""For the requests of a worker that fails: new connections wait for the next worker meanwhile."""


def run(config: Config) -> int:
    """Work until the supervisor says otherwise. Returns the exit code.

    Raises:
        ConfigError: there is no supervisor.
    """
    orders = read_orders()
    with running(config) as (runner, log):
        worker = WorkerProcess(config, log, orders)
        try:
            return runner.run(worker.run())
        except (Exception, SystemExit) as exc:
            if not worker.is_serving:
                raise
            runner.run(worker.give_up(exc))
            return 1


class WorkerProcess:
    """The engine of a worker, the supervisor's line, and the socket that the other workers ask on."""

    def __init__(self, config: Config, log: Logs, orders: Orders) -> None:
        self._log = log
        self._orders = orders
        self._config = config
        self._engine: Lifecycle
        self._control: Control
        self._main: asyncio.Task[Any] | None = None
        self.is_serving = False

    def __repr__(self) -> str:
        return f"<WorkerProcess {self._orders.slot}/{self._orders.count} g{self._orders.generation}>"

    async def run(self) -> int:
        """Work until told to drain. Returns the exit code."""
        self._main = asyncio.current_task()
        orders = self._orders
        listener = take_socket(orders.listen_fd)
        doors = take_doors(orders.door_fds, self._config)
        peers = Peers(orders.slot, orders.count, orders.generation)
        try:
            parts = build(self._config, self._log, peers=peers, has_predecessor=orders.has_predecessor)
        except EngineError as exc:
            logger.error("cannot start: {}", exc)
            return 1
        self._engine = Lifecycle(parts)
        self._take_signals()
        reader, writer = await asyncio.open_connection(sock=take_socket(orders.control_fd))
        self._control = Control(
            self._engine, peers, listener, writer, doors=doors, canaries=parts.canaries.progress
        )
        own = Path(orders.socket)
        runner = await self._open_socket(own)
        background = Background()
        background.start(self._control.obey(reader))
        background.start(self._report_health())
        try:
            return await self._serve()
        finally:
            background.cancel()
            self._control.close()
            await runner.cleanup()
            own.unlink(missing_ok=True)  # noqa: ASYNC240 - the last thing this loop does

    async def _serve(self) -> int:
        try:
            await self._engine.prepare()
        except EngineError as exc:
            logger.error("cannot start: {}", exc)
            return 1
        else:
            reason = self._engine.parts.readiness.not_ready_reason()
            logger.info("worker {} is {}", self._orders.slot, f"not ready: {reason}" if reason else "ready")
            self.is_serving = True
            await self._engine.run_until_stopped()
            self._control.report("drained")
            return 0

    async def give_up(self, why: BaseException) -> None:
        """Finish the requests under way after an error that nobody caught; the supervisor does the rest."""
        logger.opt(exception=why).critical("the worker gives up: {}: {}", type(why).__name__, why)
        self._control.drain_within(_FAILED_DRAIN_S)
        if self._main is not None and not self._main.done():  # a callback raised it; the rest goes on
            await self._main
        else:
            await self._engine.run_until_stopped()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._engine.stop)
        loop.add_signal_handler(signal.SIGUSR1, cycle(self._log))
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the supervisor's; a terminal sends it to all

    async def _open_socket(self, path: Path) -> web.AppRunner:
        runner = web.AppRunner(
            self._engine.parts.interface.worker_app,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=_SOCKET_GRACE_S,  # whoever still asks turns to the next worker of this slot
        )
        await runner.setup()
        await web.SockSite(runner, bind_unix(path)).start()
        return runner

    async def _report_health(self) -> None:
        stats, readiness = self._engine.parts.core.stats, self._engine.parts.readiness
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            is_ready = not readiness.not_ready_reason()
            self._control.report(
                "health",
                requests=stats.requests,
                errors_5xx=stats.requests_failed,
                ready=is_ready,
                stale=self._engine.parts.canaries.stale(),
                canaries=self._engine.parts.canaries.progress(),
            )

"""The process around one engine: its listening socket, its log, its signals."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from loguru import logger

from engine import _version
from engine.base import form
from engine.errors import EngineError
from engine.process.build import build
from engine.process.lifecycle import Lifecycle
from engine.process.running import cycle, running
from engine.process.sockets import open_doors, open_listener

if TYPE_CHECKING:
    from engine.config.tables import Config
    from engine.observe.logs import Logs


def run(config: Config) -> int:
    """Serve in this process until a signal says otherwise. Returns the exit code.

    Raises:
        ConfigError: the engine cannot run with this configuration.
    """
    with running(config) as (runner, log):
        return runner.run(_main(config, log))


async def _main(config: Config, log: Logs) -> int:
    listener = open_listener(config)
    doors = open_doors(config)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, cycle(log))
    loop.add_signal_handler(signal.SIGHUP, _explain_hangup)
    try:
        engine = Lifecycle(build(config, log))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, engine.stop)
        await engine.start(listener, doors)
    except EngineError as exc:
        logger.error("cannot start: {}", exc)
        for sock in (listener, *doors.values()):
            sock.close()
        return 1
    address = listener.getsockname()
    where = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else address
    logger.info("purgeline {} ({}) listens on {}", _version.__version__, form.form(), where)
    for door in config.listening_doors():
        logger.info("a door for {} listens on {}", door.kind, door.socket_name)
    await engine.run_until_stopped()
    return 0


def _explain_hangup() -> None:
    logger.warning(
        "SIGHUP: the configuration is read at the start only; with --workers a supervisor reloads it"
    )

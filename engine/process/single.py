"""The process around one engine: its listening socket, its log, its signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

import uvloop
from loguru import logger

from engine import _version
from engine.errors import ConfigError, EngineError
from engine.observe import logs
from engine.process.build import build
from engine.process.lifecycle import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import Config

SWITCH_INTERVAL_S: Final = 0.001
"""A saver waits this long at most for the GIL of a busy loop; CPython's 5 ms made every batch pay it
several times."""


def open_listener(config: Config) -> socket.socket:
    """Return the listening socket: the one handed down (``LISTEN_FDS``), or a new one.

    Raises:
        ConfigError: the address cannot be bound.
    """
    if os.environ.get("LISTEN_FDS") == "1" and os.environ.get("LISTEN_PID", str(os.getpid())) == str(
        os.getpid()
    ):
        return _handed_down()
    host, port = config.listen_address()
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(config.engine.listen_backlog)
        except OSError:
            listener.close()
            raise
    except OSError as exc:
        raise ConfigError(
            f"engine.listen: {config.engine.listen} cannot be bound: {exc.strerror or exc}"
        ) from exc
    listener.setblocking(False)
    return listener


def _handed_down() -> socket.socket:
    try:
        listener = socket.socket(fileno=3)
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.detach()
            raise ConfigError("LISTEN_FDS=1: descriptor 3 does not listen")
    except OSError as exc:
        raise ConfigError(f"LISTEN_FDS=1: descriptor 3 is no socket: {exc.strerror or exc}") from exc
    listener.setblocking(False)
    return listener


def run(config: Config) -> int:
    """Serve in this process until a signal says otherwise. Returns the exit code.

    Raises:
        ConfigError: the engine cannot run with this configuration.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    log = logs.setup(
        log_format=config.engine.log_format, level=config.engine.log_level, version=_version.__version__
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_main(config, log))
    finally:
        log.close()


async def _main(config: Config, log: logs.Logs) -> int:
    listener = open_listener(config)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, cycle(log))
    loop.add_signal_handler(signal.SIGHUP, _explain_hangup)
    try:
        engine = Lifecycle(build(config, log))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, engine.stop)
        await engine.start(listener)
    except EngineError as exc:
        logger.error("cannot start: {}", exc)
        listener.close()
        return 1
    address = listener.getsockname()
    logger.info("purgeline {} listens on {}:{}", _version.__version__, *address[:2])
    await engine.run_until_stopped()
    return 0


def _explain_hangup() -> None:
    logger.warning(
        "SIGHUP: the configuration is read at the start only; with --workers a supervisor reloads it"
    )


def cycle(log: logs.Logs) -> Callable[[], None]:
    """Return what swaps to the next log format, for a signal."""
    return lambda: logger.info("log format is now {}", log.cycle())

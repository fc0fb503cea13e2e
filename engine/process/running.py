"""What a process that runs an engine sets up around it: its log, its loop, and what its threads wait."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine import _version
from engine.base import loop
from engine.observe import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.config.tables import Config

_SWITCH_INTERVAL_S: Final = 0.001
"""A saver waits this long at most for the GIL of a busy loop; CPython's 5 ms made every batch pay it
several times."""


@contextlib.contextmanager
def running(config: Config) -> Iterator[tuple[asyncio.Runner, logs.Logs]]:
    """Give a loop and a log for an engine with this configuration, and close both at the end."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    log = logs.setup(
        log_format=config.engine.log_format, level=config.engine.log_level, version=_version.__version__
    )
    try:
        with asyncio.Runner(loop_factory=loop.new_event_loop) as runner:
            yield runner, log
    finally:
        log.close()


def cycle(log: logs.Logs) -> Callable[[], None]:
    """Return what swaps to the next log format, for a signal."""
    return lambda: logger.info("log format is now {}", log.cycle())

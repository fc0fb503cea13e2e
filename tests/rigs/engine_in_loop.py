"""An engine inside the test's own loop, for what cannot be seen from outside."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from engine.base.loop import new_event_loop
from engine.config import load
from engine.observe import logs
from engine.process.build import build
from engine.process.lifecycle import Lifecycle


def run(scenario: Callable[[], Coroutine[Any, Any, None]], *, limit_s: float = 60) -> None:
    """Run *scenario* on the loop that the engine runs on in earnest."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), limit_s))


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    node_url: str,
    *,
    driver: str = "ats",
    tables: dict[str, object] | None = None,
    **settings: object,
) -> AsyncIterator[tuple[Lifecycle, int]]:
    """Start an engine with one node, and other *tables*; give it and its port, and stop it at the end."""
    table = {
        "engine": {"data_dir": str(folder / "var"), "drain_timeout_s": 1, **settings},
        "node": [{"name": "edge-1", "driver": driver, "url": node_url, "evidence": "any"}],
        **(tables or {}),
    }
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    with (folder / "log").open("ab") as file:
        log = logs.setup(log_format="struct", level="INFO", version="test", stream_fd=os.dup(file.fileno()))
    engine = Lifecycle(build(load.parse(table), log))
    try:
        await engine.start(listener)
        try:
            yield engine, listener.getsockname()[1]
        finally:
            await engine.drain()
    finally:
        log.close()

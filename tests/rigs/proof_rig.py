"""An engine in the test's loop, whose nodes are small caches that may lie; and what it says of tasks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from engine.config import load
from engine.observe import logs
from engine.process.build import build
from engine.process.lifecycle import Lifecycle
from tests.fakes.node import OK, FakeNode, Request, answer
from tests.waiting import POLL_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from release.lab.origin import Origin

HOST = "www.test"
URL = f"http://{HOST}/page"
_SETTLED_S = 30


class Cachelet(FakeNode):
    """A cache of one origin. What it keeps it answers with ``Age``; a purge drops it, unless it lies.

    Attributes:
        lies: it acks purges, and keeps what it has: so many of them, -1: all.
        age_ahead_s: its clock is so much ahead of the origin's.
        fields: of its answers, beside those of the origin.
    """

    def __init__(self, origin: Origin, **more: Any) -> None:
        super().__init__(self._answer, **more)
        self.origin = origin
        self.lies = 0
        self.age_ahead_s = 0
        self.fields: list[str] = []
        self.kept: dict[str, tuple[int, bytes, list[str], float]] = {}

    def _answer(self, request: Request) -> list[bytes]:
        if request.method != "GET":
            if self.lies:
                self.lies -= 1
            else:
                self.kept.pop(request.url, None)
            return [OK]
        if request.url not in self.kept:
            content = self.origin.content(request.host, request.path)
            if content.status < 500:
                fields = [f"{name}: {value}" for name, value in content.headers.items()]
                self.kept[request.url] = (content.status, content.body, fields, time.monotonic())
            else:
                return [answer(502)]
        status, body, fields, since = self.kept[request.url]
        age_s = int(time.monotonic() - since) + self.age_ahead_s
        return [answer(status, body, *fields, f"Age: {age_s}", *self.fields)]

    def visits(self) -> list[str]:
        """Return what was asked for by others than the engine's purges, in order."""
        return [request.path for request in self.requests if request.method == "GET"]


class ProofRig:
    """The engine and its port."""

    def __init__(self, engine: Lifecycle, port: int, session: aiohttp.ClientSession) -> None:
        self.engine = engine
        self.alerts: list[tuple[str, str, str]] = []
        self._base = f"http://127.0.0.1:{port}"
        self._session = session

    async def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        async with self._session.get(f"{self._base}{path}") as response:
            return json.loads(await response.read())

    async def post(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Hand a task in; return status and answer."""
        async with self._session.post(f"{self._base}/v1/engine/task", json=body) as response:
            return response.status, json.loads(await response.read())

    async def submit(self, **fields: Any) -> str:
        """Hand a task in that must be accepted; return its id."""
        status, said = await self.post({"targets": [URL], **fields})
        assert status == 202, said
        return str(said["task_id"])

    async def purged(self, *states: str, **fields: Any) -> dict[str, Any]:
        """Hand a task in, and return its document when it has settled, or is in one of *states*."""
        task_id = await self.submit(**fields)
        return await self.settled(task_id, *states)

    async def settled(self, task_id: str, *states: str) -> dict[str, Any]:
        """Return the document of a task that has settled, or is in one of *states*."""
        deadline = time.monotonic() + _SETTLED_S
        while True:
            found: dict[str, Any] = await self.get(f"/v1/engine/task/{task_id}")
            if found["state"] in (states or ("done", "failed", "cancelled")):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(POLL_S)  # each look keeps the engine busy, too


def table_of(name: str, node: FakeNode, **extra: Any) -> dict[str, Any]:
    """Return the table of a node."""
    return {"name": name, "driver": "varnish", "url": node.url, "evidence": "any", **extra}


@contextlib.asynccontextmanager
async def proof_of(
    folder: Path,
    nodes: list[dict[str, Any]],
    *,
    origin: Origin | None = None,
    origins: list[dict[str, Any]] | None = None,
    **tables: Any,
) -> AsyncIterator[ProofRig]:
    """Start an engine with these nodes; *origin* becomes an ``[[origin]]`` for every host.

    Args:
        folder: of its data.
        nodes: their tables, see `table_of`.
        origin: runs.
        origins: their tables, in place of *origin*.
        tables: further ones.
    """
    table: dict[str, Any] = {"node": nodes, **tables}
    layers = list(dict.fromkeys(node.get("layer", "edge") for node in nodes))
    table.setdefault("layer", [{"name": layer} for layer in layers])
    table["engine"] = {"data_dir": str(folder / "var"), "drain_timeout_s": 1, **tables.get("engine", {})}
    table["origin"] = origins or ([] if origin is None else [{"host": "*", "url": origin.url}])
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    with (folder / "log").open("ab") as file:
        log = logs.setup(log_format="struct", level="INFO", version="test", stream_fd=os.dup(file.fileno()))
    engine = Lifecycle(build(load.parse(table), log))
    try:
        async with aiohttp.ClientSession() as session:
            await engine.start(listener)
            rig = ProofRig(engine, listener.getsockname()[1], session)
            outbox_alert = engine.parts.proof.lookout._on_alert

            def alert(key: str, level: str, message: str, /, **facts: Any) -> None:
                rig.alerts.append((key, level, message))
                outbox_alert(key, level, message, **facts)

            engine.parts.proof.lookout._on_alert = alert
            try:
                yield rig
            finally:
                await engine.drain()
    finally:
        log.close()

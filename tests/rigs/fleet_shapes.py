"""Two shapes of one fleet: engines on one Redis that reach all nodes; and a tree, a root above regions."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from tests.rigs.engine_process import EngineProcess
from tests.rigs.fleet_nodes import HOST
from tests.rigs.redis_servers import RedisServer
from tests.rigs.tree import region_table
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.rigs.fleet_process import Nodes

_START_S: Final = 900  #: until nodes are ready, and engines, on cores that others keep busy
_AT_ONCE: Final = 4  #: engines that start


class Shape(Protocol):
    """A fleet at work; everything is started on entering."""

    name: str

    def __enter__(self) -> Self:
        """Start."""

    def __exit__(self, *exc: object) -> None:
        """Stop."""

    @property
    def heads(self) -> Sequence[EngineProcess]:
        """Engines that clients hand tasks in at."""

    @property
    def roles(self) -> Mapping[str, Sequence[int]]:
        """Processes by what they do; the first role is that of the heads."""


class Flat:
    """Engines on one Redis.

    Args:
        folder: for all of it.
        nodes: the processes of the nodes.
        count: of nodes.
        engines: how many.
        extra: keys of ``[engine]``.
    """

    name = "flat"

    def __init__(self, folder: Path, nodes: Nodes, *, count: int, engines: int, **extra: Any) -> None:
        self._redis = RedisServer(_made(folder))
        tables = f'[store]\nurl = "{self._redis.url}"\n' + origin_tables(nodes) + nodes.tables(range(count))
        self._engines = [
            EngineProcess(_made(folder / name), tables, is_forked=False, **{**_KEYS, "name": name, **extra})
            for name in (f"engine-{number}" for number in range(engines))
        ]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(self._redis)
            start(self._stack, self._engines)
            for engine in self._engines:
                wait_ready(engine)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def heads(self) -> Sequence[EngineProcess]:
        """All of them: each takes tasks."""
        return self._engines

    @property
    def roles(self) -> Mapping[str, Sequence[int]]:
        """Engines, and their Redis."""
        return {"engines": [engine.pid for engine in self._engines], "Redis": [self._redis.pid]}


class Tree:
    """A root, and an engine of its own for each region.

    Args:
        folder: for all of it.
        nodes: the processes of the nodes.
        regions: how many.
        leaves: of each.
        extra: keys of ``[engine]`` of the root.
    """

    name = "tree"

    def __init__(self, folder: Path, nodes: Nodes, *, regions: int, leaves: int, **extra: Any) -> None:
        self._folder = _made(folder)
        self._extra = extra
        self._origin = origin_tables(nodes)
        self.regions = [
            EngineProcess(
                _made(folder / name),
                self._origin + nodes.tables(range(number * leaves, (number + 1) * leaves)),
                is_forked=True,  # they share what they have imported, and their start costs less
                **{**_KEYS, "name": name},
            )
            for number, name in ((number, f"region-{number:03}") for number in range(regions))
        ]
        self._leaves = leaves
        self.root: EngineProcess
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            start(self._stack, self.regions)
            for region in self.regions:
                wait_ready(region)
            tables = "".join(region_table(region, name=region.folder.name) for region in self.regions)
            keys = {**_KEYS, "name": "root", **self._extra}
            folder = _made(self._folder / "root")
            self.root = EngineProcess(folder, self._origin + tables, is_forked=False, **keys)
            start(self._stack, [self.root])
            wait_ready(self.root)
            wait_until(
                lambda: (
                    len(self.root.get("/v1/engine/nodes?leaves=1")["leaves"])
                    == self._leaves * len(self.regions)
                ),
                what="all leaves being known",
                timeout_s=_START_S,
            )
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def heads(self) -> Sequence[EngineProcess]:
        """The root."""
        return [self.root]

    @property
    def roles(self) -> Mapping[str, Sequence[int]]:
        """The root, and the regions."""
        return {"root": [self.root.pid], "regions": [region.pid for region in self.regions]}


_KEYS: Final[dict[str, Any]] = {"connections_per_node": 1, "drain_timeout_s": 2, "due_s": 600}


def origin_tables(nodes: Nodes) -> str:
    """Return where the truth is, and a layer."""
    origin = f'[[origin]]\nhost = "{HOST}"\nurl = "{nodes.origin}"\n'
    return origin + '[proof]\nrate_per_s = 1000\n[[layer]]\nname = "edge"\n'


def start(stack: contextlib.ExitStack, engines: Sequence[EngineProcess]) -> None:
    """Start engines, some at a time."""

    def begin(engine: EngineProcess) -> None:
        engine.start(timeout_s=_START_S)

    for engine in engines:
        stack.callback(_end, engine)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(begin, engines))


def _end(engine: EngineProcess) -> None:
    if engine.process is not None:
        engine.kill()


def wait_ready(engine: EngineProcess) -> None:
    """Wait until all nodes of an engine are ready."""
    left: list[dict[str, Any]] = []

    def are_ready() -> bool:
        left[:] = [node for node in engine.get("/v1/engine/nodes")["nodes"] if node["state"] != "ready"]
        return not left

    until = time.monotonic() + _START_S
    while not are_ready():
        assert time.monotonic() < until, f"{len(left)} are not ready: {left[:2]}"
        time.sleep(1)  # of thousands of nodes it is long to tell


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder

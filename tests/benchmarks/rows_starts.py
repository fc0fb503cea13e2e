"""Rows of starts: how long a user waits for the command line, and until an engine is ready."""

import http.client
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from release.lab.caches import free_port
from tests.benchmarks.figures import Figure, Side
from tests.benchmarks.harness import Bench
from tests.rigs.engine_process import node_table

_COMMAND_MS = 60.0
_ENGINE_MS = 250.0
_LIMIT_S = 60.0
_POLL_S = 0.002


def starts(bench: Bench) -> Iterator[Figure]:
    """The command line, alone and with an engine that it asks; an engine of one cache, to ready."""
    purgeline = str(Path(sys.executable).with_name("purgeline"))
    with bench.cache() as cache, bench.engine(node_table(cache, name="edge-1")) as engine:
        url = f"http://127.0.0.1:{engine.port}"
        for case, words in (
            ("purgeline --version", ("--version",)),
            ("purgeline nodes", ("nodes", "--engine", url)),
        ):
            took = _repeated(bench, 21, lambda words=words: _ended([purgeline, *words]))  # type: ignore[misc]
            yield _figure(case, took, _COMMAND_MS)
        tables = node_table(cache, name="edge-1")
        took = _repeated(bench, 9, lambda: _ready(purgeline, bench.new_folder("start"), tables))
        yield _figure("engine, to ready", took, _ENGINE_MS)


def _repeated(bench: Bench, count: int, act: Callable[[], float]) -> Side:
    act()  # bytecode is written, files are in memory
    return Side(values=[act() for _ in range(3 if bench.is_quick else count)])


def _environ() -> dict[str, str]:
    """Return an environment in which bytecode is kept, as where the engine is installed."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _ended(command: Sequence[str]) -> float:
    """Run a command to its end, and return how long it took, in milliseconds."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_environ())
    return (time.perf_counter() - began) * 1000


def _ready(purgeline: str, folder: Path, tables: str) -> float:
    """Start an engine, and return the milliseconds until it says that it is ready."""
    port = free_port()
    keys = f'[engine]\nlisten = "127.0.0.1:{port}"\ndata_dir = "{folder / "var"}"\n'
    (folder / "engine.toml").write_text(keys + tables)
    began = time.perf_counter()
    command = [purgeline, "serve", "--config", str(folder / "engine.toml")]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=_environ()) as process:
        try:
            while not _is_ready(port):
                if process.poll() is not None or time.perf_counter() - began > _LIMIT_S:
                    raise RuntimeError("the engine did not become ready")
                time.sleep(_POLL_S)
            return (time.perf_counter() - began) * 1000
        finally:
            process.terminate()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _figure(case: str, took: Side, most_ms: float) -> Figure:
    median = statistics.median(took.values)
    return Figure(
        "starts", case, median, "ms", target=f"<= {most_ms:g} ms", ok=median <= most_ms, spread=took.spread
    )

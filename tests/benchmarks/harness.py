"""What every benchmark needs: the clocks of processes, servers, wrk.

A figure is taken in rounds, we and the peer in turn (A B A B …), after a warm-up; shown is the median. CPU
seconds and peak memory are those of the whole process tree of a side, the peer's or the engine's, with its
Redis if it has one, without the caches and the load.
"""

import contextlib
import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from release.lab import caches
from release.lab.caches import Cache
from release.lab.origin import Origin
from tests.benchmarks.figures import Side
from tests.rigs.engine_process import EngineProcess, node_table
from tests.waiting import wait_until

HERE = Path(__file__).parent
HOST = "img.example.com"
PATH = "/v1/engine/task"
_TICKS = os.sysconf("SC_CLK_TCK")


class Clock:
    """CPU seconds and peak memory of process trees, from now until `stop`."""

    def __init__(self, *roots: int) -> None:
        self._roots = roots
        for pid in self._tree():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        self._before = self._cpu_s()

    def stop(self, side: Side) -> None:
        """Add what was used to a side."""
        side.cpu_s += self._cpu_s() - self._before
        side.peak_rss_bytes = max(side.peak_rss_bytes, sum(map(peak_rss, self._tree())))

    def _tree(self) -> list[int]:
        found: list[int] = []
        left = list(self._roots)
        while left:
            pid = left.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                left += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def _cpu_s(self) -> float:
        total = 0.0
        for pid in self._tree():
            with contextlib.suppress(OSError, IndexError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ended = sum(map(int, fields[13:15])) / _TICKS  # of children
                total += time.clock_gettime(_cpu_clock(pid)) + ended
        return total


def _cpu_clock(pid: int) -> int:
    """Return the clock of a process's CPU time, as clock_getcpuclockid(3) does: /proc has ticks of 10 ms."""
    return (~pid << 3) | 2


def status_bytes(pid: int, name: str) -> int:
    """Return a value of ``/proc/PID/status`` that is given in kB; 0 when the process has gone."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    return 0


def peak_rss(pid: int) -> int:
    """Return the most memory a process had resident."""
    return status_bytes(pid, "VmHWM")


def rss(pid: int) -> int:
    """Return the memory a process has resident."""
    return status_bytes(pid, "VmRSS")


def in_turn(rounds: int, *sides: tuple[Callable[[], float], Side, Sequence[int]]) -> None:
    """Take a value of each side in turn, *rounds* times.

    Args:
        rounds: how often.
        sides: what gives the value, where it goes, and the processes to watch.
    """
    for _ in range(rounds):
        for act, side, pids in sides:
            clock = Clock(*pids) if pids else None
            side.values.append(act())
            if clock is not None:
                clock.stop(side)


# Load


def wrk(
    url: str, *, seconds: float, script: str, connections: int = 800, args: Sequence[str] = ()
) -> dict[str, int]:
    """Run wrk for whole seconds; return what its script reports."""
    threads = min(2, connections)
    options = [f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    command = ["wrk", *options, "-s", script, url, "--", *args]
    done = subprocess.run(command, cwd=HERE / "wrk", capture_output=True, text=True, check=False)
    report = re.search(r"RESULT (.*)", done.stdout)
    if report is None:
        raise RuntimeError(f"wrk: {done.stdout}{done.stderr}")
    return {key: int(value) for key, value in (pair.split("=") for pair in report[1].split())}


def rate(report: Mapping[str, int]) -> float:
    """Return requests per second."""
    return report["requests"] / (report["duration_us"] / 1e6)


def url_of(engine: EngineProcess, path: str = PATH) -> str:
    """Return the address that load goes to."""
    return f"http://127.0.0.1:{engine.port}{path}"


def load(
    engine: EngineProcess,
    side: Side,
    *,
    seconds: float,
    connections: int,
    script: str = "tasks.lua",
    args: Sequence[str] = (),
    per_request: int = 1,
    until_idle: Callable[[], object] = bool,
    url: str = "",
) -> float:
    """Let wrk hand tasks in, and wait until they have settled; return tasks per second.

    What failed, and what wrk saw answered although the engine did not accept it, are errors of *side*.

    Args:
        engine: gets the load.
        side: keeps the errors.
        seconds: of load.
        connections: of wrk.
        script: in ``wrk/``.
        args: of the script.
        per_request: tasks in a request.
        until_idle: called when the load is over, before the wait.
        url: where the load goes to; empty: the route of tasks.
    """
    before = counted(engine, "tasks_accepted")
    report = wrk(url or url_of(engine), seconds=seconds, script=script, connections=connections, args=args)
    until_idle()
    wait_until_idle(engine)
    missing = report["requests"] * per_request - (counted(engine, "tasks_accepted") - before)
    side.errors += errors_of(report) + max(0, missing)
    side.done += report["requests"] * per_request
    return rate(report) * per_request


def counted(engine: EngineProcess, name: str) -> int:
    """Return a counter of the engine's metrics."""
    page = engine.request("GET", "/metrics")[2].decode()
    start = f"purgeline_{name}_total "
    return int(float(next(line for line in page.splitlines() if line.startswith(start)).removeprefix(start)))


def errors_of(report: Mapping[str, int]) -> int:
    """Return how many requests failed in any way."""
    return sum(report[key] for key in ("status", "connect", "read", "write", "timeout"))


def wait_until_idle(*engines: EngineProcess, timeout_s: float = 240) -> None:
    """Wait until engines have nothing left to do or to write."""

    def is_idle(engine: EngineProcess) -> bool:
        stats = engine.get("/v1/engine/stats")
        return not any(
            stats[key] for key in ("pushing_queue", "tasks_in_cache", "saver_queue", "input_task_queue")
        )

    for engine in engines:
        wait_until(lambda: is_idle(engine), timeout_s=timeout_s, what="every task settling")  # noqa: B023


# Servers


class Bench:
    """What rows work with: a folder, an origin, whether it has to be quick."""

    def __init__(self, folder: Path, origin: Origin, *, is_quick: bool) -> None:
        self.folder = folder
        self.origin = origin
        self.is_quick = is_quick
        self.compiled: bool | None = None  #: of the engines that ran; None: none yet
        self._number = 0

    @property
    def rounds(self) -> int:
        """How often a figure is taken."""
        return 1 if self.is_quick else 3

    def seconds(self, wanted: float) -> float:
        """Return how long a load runs."""
        return max(1.0, wanted / 3) if self.is_quick else wanted

    def new_folder(self, name: str) -> Path:
        """Make a folder nobody else has."""
        self._number += 1
        made = self.folder / f"{name}-{self._number}"
        made.mkdir()
        made.chmod(0o755)
        return made

    @contextlib.contextmanager
    def cache(self, driver: str = "varnish", name: str = "edge-1") -> Iterator[Cache]:
        """Run a cache in front of the origin."""
        options = {"is_optimised": True} if driver == "varnish" else {}
        with caches.start_cache(
            driver, self.new_folder(name), name=name, backend=self.origin.address, **options
        ) as made:
            yield made

    @contextlib.contextmanager
    def engine(self, tables: str, **settings: Any) -> Iterator[EngineProcess]:
        """Run an engine of this tree."""
        with EngineProcess(self.new_folder("engine"), tables, **settings) as made:
            self.note_form(made)
            yield made

    def note_form(self, engine: EngineProcess) -> None:
        """Keep whether an engine runs compiled."""
        self.compiled = engine.get("/version")["compiled"]

    @contextlib.contextmanager
    def site(self, *, store: str = "", **settings: Any) -> Iterator[tuple[EngineProcess, list[Cache]]]:
        """Run a parent, two edges behind it and an engine."""
        start = functools.partial(caches.start_varnish, self.new_folder("site"), is_optimised=True)
        with (
            start(name="parent-1", backend=self.origin.address, is_parent=True) as parent,
            start(name="edge-1", backend=parent.address) as edge1,
            start(name="edge-2", backend=parent.address) as edge2,
            self.engine(store + site_tables(parent, edge1, edge2), **settings) as engine,
        ):
            yield engine, [parent, edge1, edge2]


def site_tables(parent: Cache, *edges: Cache) -> str:
    """Return the tables of a parent and the edges behind it."""
    layers = '[[layer]]\nname = "parent"\n[[layer]]\nname = "edge"\n'
    behind = "".join(
        node_table(edge, name=f"edge-{number}", parents=["parent-1"]) for number, edge in enumerate(edges, 1)
    )
    return layers + node_table(parent, name="parent-1", layer="parent") + behind


@contextlib.contextmanager
def bench(*, is_quick: bool) -> Iterator[Bench]:
    """Give a `Bench`; its folder is gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="purgeline-bench-"))
    folder.chmod(0o755)
    try:
        with Origin() as origin:
            yield Bench(folder, origin, is_quick=is_quick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

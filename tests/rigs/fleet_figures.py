"""What the shapes of a fleet cost: read from the system while they work, and shown beside each other."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from dataclasses import dataclass, field
from os import sysconf
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.rigs.engine_process import EngineProcess
    from tests.rigs.fleet_shapes import Shape

_TICKS: Final = sysconf("SC_CLK_TCK")
_MB: Final = 1024 * 1024
_ALIVE_S: Final = 0.02  #: between two requests of a client that asks whether the head lives
_LONG_S: Final = 900


class Memory(NamedTuple):
    """Of the processes of a role."""

    processes: int
    largest_mb: float  #: resident, what is shared among processes included
    all_mb: float  #: of all, what is shared counted once


class Spent(NamedTuple):
    """By the processes of a role."""

    cpu_s: float
    within_s: float

    @property
    def share(self) -> float:
        """Of a core."""
        return self.cpu_s / self.within_s if self.within_s else 0.0


@dataclass(kw_only=True)
class Plan:
    """What a run does."""

    regions: int = 100
    leaves: int = 100  #: of each
    engines: int = 2  #: of the flat shape
    rate: float = 1.0  #: tasks a second
    batch: int = 1  #: URLs of a task
    seconds: float = 60.0  #: of that, and as long again at most of what waits
    idle_s: float = 10.0
    burst: int = 4  #: tasks that are handed in at once
    burst_urls: int = 100  #: of each
    fresh: int = 5  #: purges that are verified, one after the other
    shapes: str = "flat,tree"

    @property
    def nodes(self) -> int:
        """How many there are."""
        return self.regions * self.leaves

    @property
    def urls(self) -> int:
        """How many the origin has."""
        return max(400, self.burst * self.burst_urls)  # nothing that waits is for one URL twice


@dataclass
class Figures:
    """What one shape came to."""

    shape: str
    idle: dict[str, Spent] = field(default_factory=dict)  #: by role
    memory: dict[str, Memory] = field(default_factory=dict)
    peak: dict[str, Memory] = field(default_factory=dict)  #: after all the work
    steady: dict[str, Spent] = field(default_factory=dict)
    steady_purges: int = 0
    steady_s: list[float] = field(default_factory=list)  #: POST to the last ack, of each task
    wait_s: list[float] = field(default_factory=list)  #: of a client that asks the head whether it lives
    burst: dict[str, Spent] = field(default_factory=dict)
    burst_purges: int = 0
    burst_s: float = 0.0
    burst_wait_s: list[float] = field(default_factory=list)
    fresh_s: list[float] = field(default_factory=list)  #: POST to verified on every node
    views: dict[str, tuple[float, int]] = field(default_factory=dict)  #: seconds, bytes
    connections: int = 0
    wrong: list[str] = field(default_factory=list)


class Watch:
    """Reads the CPU time of a shape's processes, and asks its head whether it lives, meanwhile."""

    def __init__(self, shape: Shape) -> None:
        self.spent: dict[str, Spent] = {}
        self.wait_s: list[float] = []
        self._shape = shape
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._before = self._read()
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        within_s = time.monotonic() - self._began
        self.spent = {role: Spent(now - self._before[role], within_s) for role, now in self._read().items()}
        self._is_over.set()
        self._thread.join()

    def _read(self) -> dict[str, float]:
        return {role: sum(map(cpu_s, pids)) for role, pids in self._shape.roles.items()}

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._shape.heads[0].port, timeout=_LONG_S)
        while not self._is_over.wait(_ALIVE_S):
            began = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            self.wait_s.append(time.perf_counter() - began)
        connection.close()


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_of(pids: Sequence[int]) -> Memory:
    """Return the memory of processes."""
    resident = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return Memory(len(pids), max(resident) * sysconf("SC_PAGE_SIZE") / _MB, sum(map(_own_mb, pids)))


def _own_mb(pid: int) -> float:
    """Return a process's memory, of what it shares its part alone."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def asked(engine: EngineProcess, path: str) -> tuple[float, bytes]:
    """Ask an engine; return the seconds that it took, and the answer."""
    return _requested(engine, "GET", path, None, 200)


def handed_in(engine: EngineProcess, task: dict[str, object]) -> None:
    """Hand a task in, however long that takes."""
    _requested(engine, "POST", "/v1/engine/task", json.dumps(task).encode(), 202)


def _requested(
    engine: EngineProcess, method: str, path: str, body: bytes | None, wanted: int
) -> tuple[float, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=_LONG_S)
    try:
        began = time.perf_counter()
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        answer = response.read()
        assert response.status == wanted, (path, response.status, answer[:300])
        return time.perf_counter() - began, answer
    finally:
        connection.close()


def percentile(took_s: Sequence[float], part: float) -> float:
    """Return what *part* of the times are below; not a number of none."""
    ordered = sorted(took_s)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


def table(plan: Plan, found: Sequence[Figures]) -> str:
    """Return the figures of all shapes, in Markdown."""
    columns = [dict(_lines(plan, figures)) for figures in found]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [["what", *(figures.shape for figures in found)], ["---"] * (len(found) + 1)]
    rows += [[name, *(column.get(name, "") for column in columns)] for name in names]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _lines(plan: Plan, figures: Figures) -> Iterator[tuple[str, str]]:
    roles = list(figures.idle)
    head = roles[0]
    engines = [role for role in roles if role != "Redis"]
    for role in roles:
        before, after = figures.memory[role], figures.peak[role]
        what = f"{role}: {before.processes}"
        yield (
            f"memory, {_of(role)}",
            (
                f"{what}, {before.largest_mb:.0f} MB the largest, {before.all_mb:.0f} MB all; "
                f"at the end {after.largest_mb:.0f}, {after.all_mb:.0f}"
            ),
        )
    yield "CPU, idle", _shares(figures, roles)
    per = [
        ("steady", figures.steady, figures.steady_purges),
        ("at once", figures.burst, figures.burst_purges),
    ]
    for name, spent, purges in per:
        if not purges:
            continue
        load = f"{plan.rate:g} tasks/s of {plan.batch} URLs"
        if name == "at once":
            load = f"{plan.burst} tasks of {plan.burst_urls} URLs"
        yield f"leaf purges, {name}", f"{purges:,}: {load}"
        own = {role: _without_idle(spent[role], figures.idle[role]) / purges * 1e6 for role in roles}
        texts = ", ".join(f"{role} {own[role]:.2f}" for role in roles)
        both = sum(own[role] for role in engines)
        yield f"CPU of a leaf purge, {name}", f"{both:.2f} µs of engines: {texts}"
    if figures.burst_s:
        yield "leaf purges/s, at once", f"{figures.burst_purges / figures.burst_s:,.0f}"
    yield "all leaves have it, steady", _times(figures.steady_s)
    yield "time to fresh", _times(figures.fresh_s)
    yield "the head answers /healthz, steady", _times(figures.wait_s)
    yield "the head answers /healthz, at once", _times(figures.burst_wait_s)
    for name, (took_s, size) in figures.views.items():
        yield f"view: {name}", f"{took_s * 1000:,.0f} ms, {size / 1024:,.0f} KB"
    yield "connections to nodes", f"{figures.connections:,}"
    _ = head


def _of(role: str) -> str:
    return {"engines": "head", "root": "head", "Redis": "beside", "regions": "beside"}[role]


def _shares(figures: Figures, roles: Sequence[str]) -> str:
    return ", ".join(f"{role} {figures.idle[role].share:.3f}" for role in roles)


def _without_idle(spent: Spent, idle: Spent) -> float:
    return max(0.0, spent.cpu_s - idle.share * spent.within_s)


def _times(took_s: Sequence[float]) -> str:
    if not took_s:
        return ""
    middle, worst = statistics.median(took_s), max(took_s)
    return (
        f"p50 {middle * 1000:,.1f}, p99 {percentile(took_s, 0.99) * 1000:,.1f}, worst {worst * 1000:,.1f} ms"
    )

"""What a run of the fleet cost, measured; and what a larger one would cost, counted from that."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import sysconf
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.rigs.engine_process import EngineProcess
from tests.rigs.redis_servers import RedisServer

_TICKS: Final = sysconf("SC_CLK_TCK")
_MB: Final = 1024 * 1024
#: What is counted: nodes, engines, URL/s, share of the nodes that is away.
FLEETS: Final = (
    (1_000, 8, 20, 0.0),
    (1_000, 8, 20, 0.01),
    (10_000, 40, 20, 0.0),
    (10_000, 40, 20, 0.01),
    (10_000, 40, 200, 0.0),
    (10_000, 40, 200, 0.01),
)


class Bare(NamedTuple):
    """An engine with one node and without work."""

    cpu: float  #: seconds a second
    rss_mb: float


class Reading(NamedTuple):
    """What had been spent at one moment."""

    at: float
    engine_cpu_s: float
    redis_cpu_s: float
    commands: float  #: of Redis, those inside of scripts too
    rows: float  #: subtasks put into delay queues

    def since(self, before: "Reading") -> "Reading":
        """Return what was spent between the two."""
        return Reading(*(now - then for now, then in zip(self, before, strict=True)))

    def without(self, idle: "Reading") -> "Reading":
        """Return what is left without what idle engines spend in that time."""
        return Reading(
            self.at, *(spent - self.at * one for spent, one in zip(self[1:], idle[1:], strict=True))
        )


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What was measured."""

    nodes: int
    engines: int
    batch: int  #: URLs of a task
    bare: Bare
    idle_engine_cpu: float  #: CPU seconds a second of one engine without work
    idle_redis_cpu: float  #: of Redis, all engines idle
    idle_commands: float  #: a second, all engines idle
    start_cpu_s: float  #: of one engine
    subtask_us: float  #: CPU of an engine, without faults
    subtask_with_faults_us: float
    redis_task_us: float  #: without faults
    task_commands: float
    rows: float
    redis_row_us: float  #: a row of a delay queue, in and out
    row_commands: float
    start_rss_mb: float  #: of one engine before its first purge
    end_rss_mb: float
    connections: int  #: of all engines to all nodes, at the end
    nodes_cpu: float  #: CPU seconds a second of the simulated nodes

    @property
    def node_mb(self) -> float:
        """Memory that a node takes in an engine."""
        return max(0.0, self.start_rss_mb - self.bare.rss_mb) / self.nodes

    @property
    def idle_node_cpu(self) -> float:
        """CPU that an engine spends on a node without work, in seconds a second."""
        return max(0.0, self.idle_engine_cpu - self.bare.cpu) / self.nodes

    def __str__(self) -> str:
        subtask = f"{self.subtask_us:.1f} µs of an engine, {self.subtask_with_faults_us:.1f} with faults"
        row = f"{self.redis_row_us:.0f} µs of Redis, {self.row_commands:.1f} commands; {self.rows:.0f} rows"
        memory = f"{self.bare.rss_mb:.0f} MB with one node, {self.start_rss_mb:.0f} MB with all"
        lines = {
            "an idle engine": f"{self.idle_engine_cpu:.3f} CPU, with one node {self.bare.cpu:.3f}",
            "Redis of idle engines": f"{self.idle_redis_cpu:.3f} CPU, {self.idle_commands:.0f} commands/s",
            "an engine's start": f"{self.start_cpu_s:.2f} s of CPU",
            "a subtask": subtask,
            "a task": f"{self.redis_task_us:.0f} µs of Redis, {self.task_commands:.1f} commands",
            "a row": row,
            "memory of an engine": f"{memory}, {self.end_rss_mb:.0f} MB at the end",
            "memory of a node": f"{self.node_mb * 1024:.0f} KB in each engine",
            "connections": f"{self.connections} of all engines",
            "simulated nodes": f"{self.nodes_cpu:.2f} CPU",
        }
        return "measured:\n" + "\n".join(f"  {name}: {text}" for name, text in lines.items())


@dataclass
class Meter:
    """Reads what engines and Redis spend; what a start costs is left out.

    Args:
        engines: all of them, started.
        redis: theirs.
        nodes: how many each has.
        batch: URLs of a task.
        bare: an engine with one node.
    """

    engines: Sequence[EngineProcess]
    redis: RedisServer
    nodes: int
    batch: int
    bare: Bare
    _spent: float = 0.0  #: by engines that were killed
    _rows: float = 0.0
    _rows_of: dict[int, float] = field(default_factory=dict)
    _start_cpu: dict[int, float] = field(default_factory=dict)
    _readings: list[Reading] = field(default_factory=list)
    _rss_mb: float = 0.0
    _calm_tasks: int = 0

    def idle(self, seconds: float) -> None:
        """Measure engines that do nothing; what they still have to do after their start is left out."""
        time.sleep(seconds / 2)
        self._start_cpu = {number: _cpu_s(engine.pid) for number, engine in enumerate(self.engines)}
        self._rss_mb = max(_rss_mb(engine.pid) for engine in self.engines)
        self._readings = [self._read()]
        time.sleep(seconds)
        self._readings.append(self._read())

    def calm(self, tasks: int) -> None:
        """Note what a load without faults has cost; so many tasks were accepted."""
        self._calm_tasks = tasks
        self._readings.append(self._read())

    def before_kill(self, number: int) -> None:
        """Keep what an engine spent that is about to die."""
        engine = self.engines[number]
        self._spent += _cpu_s(engine.pid) - self._start_cpu[number]
        self._rows += self._rows_by(number)
        self._rows_of[number] = 0.0

    def after_start(self, number: int) -> None:
        """Begin anew with an engine; its start is no cost of the load."""
        self._start_cpu[number] = _cpu_s(self.engines[number].pid)

    def _read(self) -> Reading:
        engine_cpu_s, rows = self._spent, self._rows
        for number, engine in enumerate(self.engines):
            engine_cpu_s += _cpu_s(engine.pid) - self._start_cpu[number]
            rows += self._rows_by(number)
        cpu = self.redis.info("cpu")
        commands = sum(int(entry["calls"]) for entry in self.redis.info("commandstats").values())
        redis_cpu_s = float(cpu["used_cpu_sys"]) + float(cpu["used_cpu_user"])
        return Reading(time.monotonic(), engine_cpu_s, redis_cpu_s, commands, rows)

    def _rows_by(self, number: int) -> float:
        """Return the rows that an engine has written; as of the time before, when it is too busy to tell."""
        with contextlib.suppress(OSError):
            self._rows_of[number] = _rows(self.engines[number])
        return self._rows_of.get(number, 0.0)

    def costs(self, tasks: int, told: dict[str, Any]) -> Costs:
        """Return what everything cost; *told* is what the nodes said."""
        first, second, third = self._readings
        end = self._read()
        waited = second.since(first)
        idle = Reading(1.0, *(one / waited.at for one in waited[1:]))
        calm = third.since(second).without(idle)
        rest = end.since(third).without(idle)
        calm_tasks, rest_tasks = max(1, self._calm_tasks), max(1, tasks - self._calm_tasks)
        task_s, task_commands = (max(0.0, one) / calm_tasks for one in (calm.redis_cpu_s, calm.commands))
        rows = max(1.0, rest.rows)
        subtasks = self.nodes * self.batch
        return Costs(
            nodes=self.nodes,
            engines=len(self.engines),
            batch=self.batch,
            bare=self.bare,
            idle_engine_cpu=idle.engine_cpu_s / len(self.engines),
            idle_redis_cpu=idle.redis_cpu_s,
            idle_commands=idle.commands,
            start_cpu_s=sum(self._start_cpu.values()) / len(self.engines),
            subtask_us=calm.engine_cpu_s / calm_tasks / subtasks * 1e6,
            subtask_with_faults_us=rest.engine_cpu_s / rest_tasks / subtasks * 1e6,
            redis_task_us=task_s * 1e6,
            task_commands=task_commands,
            rows=rest.rows,
            redis_row_us=max(0.0, rest.redis_cpu_s - task_s * rest_tasks) / rows * 1e6,
            row_commands=max(0.0, rest.commands - task_commands * rest_tasks) / rows,
            start_rss_mb=self._rss_mb,
            end_rss_mb=max(_rss_mb(engine.pid) for engine in self.engines),
            connections=int(told["connections"]),
            nodes_cpu=float(told["cpu_s"]) / (end.at - first.at),
        )


def measure_bare(engine: EngineProcess, seconds: float) -> Bare:
    """Measure an engine without work."""
    before = _cpu_s(engine.pid)
    time.sleep(seconds)
    return Bare((_cpu_s(engine.pid) - before) / seconds, _rss_mb(engine.pid))


def table(costs: Costs) -> str:
    """Return what other fleets would cost, in proportion, as a table."""
    names = (
        "nodes", "engines", "URL/s", "nodes away", "CPU of an engine", "CPU of all", "CPU of Redis",
        "commands/s", "rows/s", "memory of an engine", "connections of an engine, of all",
    )  # fmt: skip
    lines = [
        f"counted from that, in proportion, {costs.batch} URLs a task:",
        _line(names),
        _line(["---"] * len(names)),
    ]
    subtask_us = max(costs.subtask_us, costs.subtask_with_faults_us)
    for nodes, engines, rate, away in FLEETS:
        idle_cpu = costs.bare.cpu + costs.idle_node_cpu * nodes
        each = idle_cpu + rate * nodes * subtask_us * 1e-6 / engines
        rows = rate * nodes * away
        idle_redis, idle_commands = (
            one * engines / costs.engines for one in (costs.idle_redis_cpu, costs.idle_commands)
        )
        tasks = rate / costs.batch
        redis = idle_redis + (tasks * costs.redis_task_us + rows * costs.redis_row_us) * 1e-6
        commands = idle_commands + tasks * costs.task_commands + rows * costs.row_commands
        memory = costs.bare.rss_mb + costs.node_mb * nodes
        values = (
            f"{nodes:,}", f"{engines}", f"{rate}", f"{away:.0%}", f"{each:.2f}", f"{each * engines:.1f}",
            f"{redis:.2f}", f"{commands:,.0f}", f"{rows:,.0f}", f"{memory:,.0f} MB",
            f"{nodes:,}, {nodes * engines:,}",
        )  # fmt: skip
        lines.append(_line(values))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cpu_s(pid: int) -> float:
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / _TICKS


def _rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * sysconf("SC_PAGE_SIZE") / _MB


def _rows(engine: EngineProcess) -> float:
    status, _, page = engine.request("GET", "/metrics")
    for line in page.splitlines():
        if line.startswith(b"purgeline_subtasks_delayed_total "):
            return float(line.split()[1])
    print(f"engine at port {engine.port}: GET /metrics answers {status}: {page[:200]!r}", flush=True)
    raise ConnectionError(f"no such counter in an answer {status}")

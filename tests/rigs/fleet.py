"""A fleet: many simulated nodes behind several real engines on one real Redis, faults, and what it costs.

URLs change at the origin and are purged at a steady rate; nodes are down, sick, slow or refuse, engines are
killed. At the end every task that was accepted has to be done, and no node may hold a version of a URL from
before its last purge. What it cost is measured: CPU of engines and Redis, commands, memory, connections; and
from that a larger fleet is counted (`fleet_costs`).

``python -m tests.rigs.fleet --nodes 1000 --engines 8 --rate 20 --minutes 10``
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import uvloop

from tests.rigs.cluster_load import Task, Wire, wait_until_settled
from tests.rigs.engine_process import EngineProcess
from tests.rigs.fleet_costs import Bare, Costs, Meter, measure_bare, table
from tests.rigs.fleet_nodes import HOST, MODES, Versions
from tests.rigs.fleet_process import Nodes
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

_SHOWN = 10
_START_TIMEOUT_S = 60


@dataclass(kw_only=True)
class Plan:
    """What a run does."""

    nodes: int = 1000
    engines: int = 8
    rate: float = 20.0  #: URLs a second
    batch: int = 1  #: URLs of a task
    minutes: float = 10.0
    urls: int = 600
    bad_nodes: float = 0.03  #: share of the nodes that have a fault at a time
    fault_s: float = 20.0  #: how long
    kill_every_s: float = 60.0  #: an engine is killed; 0: none
    dead_for_s: float = 5.0
    calm: float = 0.2  #: share of the time without faults, first: it tells what a task costs by itself
    settle_s: float = 180.0
    seed: int = 1


class Accepted(NamedTuple):
    """A purge that was accepted."""

    task: Task
    versions: list[int]  #: of its URLs at the origin, before it was handed in


@dataclass
class Report:
    """What came of a run."""

    plan: Plan
    accepted: int = 0
    seconds: float = 0.0  #: of load
    late: int = 0  #: tasks that were handed in more than a second after their time
    answers: Counter[int] = field(default_factory=Counter)  #: 0: no answer
    states: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    stale: dict[str, list[int]] = field(default_factory=dict)  #: node → URLs
    faults: Counter[str] = field(default_factory=Counter)
    settled_after_s: float = 0.0
    nodes: dict[str, Any] = field(default_factory=dict)  #: what they say
    costs: Costs | None = None

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost and every node holds what it may."""
        return bool(self.accepted) and not self.lost and not self.stale

    def __str__(self) -> str:
        plan = self.plan
        lines = [
            f"{plan.nodes} nodes, {plan.engines} engines",
            f"{plan.rate:g} URL/s for {self.seconds:.0f} s, {plan.batch} URLs a task",
            f"tasks accepted {self.accepted}, done {self.states['done']}, lost {len(self.lost)}",
            f"stale nodes {len(self.stale)}; all settled {self.settled_after_s:.1f} s after the load",
            f"faults {dict(self.faults)}; answers to clients {dict(self.answers)}; late {self.late}",
            f"answers of nodes {self.nodes.get('answers')}",
        ]
        lines += [f"lost: {text}" for text in self.lost[:_SHOWN]]
        lines += [f"stale: {name}: {urls[:_SHOWN]}" for name, urls in list(self.stale.items())[:_SHOWN]]
        return "\n".join(lines + ([str(self.costs), table(self.costs)] if self.costs else []))


class Clients:
    """Hands in purges at the rate of the plan, on a thread of its own; each engine in turn."""

    def __init__(self, plan: Plan, ports: Sequence[int], versions: Versions) -> None:
        self.accepted: list[Accepted] = []
        self.answers: Counter[int] = Counter()
        self.late = 0
        self._plan = plan
        self._ports = list(ports)
        self._versions = versions.now
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._hand_all_in())

    async def _hand_all_in(self) -> None:
        began, number, running = time.monotonic(), 0, set()
        while not self._is_over.is_set():
            due = began + number * self._plan.batch / self._plan.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.late += time.monotonic() > due + 1
            task = asyncio.create_task(self._hand_in(number))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
        await asyncio.gather(*running)

    async def _hand_in(self, number: int) -> None:
        """Change some URLs at the origin, and purge them."""
        first = number * self._plan.batch % self._plan.urls
        task = Task(f"fleet-{number}", range(first, min(first + self._plan.batch, self._plan.urls)))
        for url in task.numbers:
            self._versions[url] += 1
        versions = [self._versions[url] for url in task.numbers]
        targets = [f"http://{HOST}/{url}" for url in task.numbers]
        body = json.dumps({"id": task.id, "targets": targets}).encode()
        wire = Wire(self._ports, number)
        while True:
            status, text = await wire.ask(b"POST", b"/v1/engine/task", body)
            self.answers[status] += 1
            if status in {200, 202}:
                break
            assert status in {0, 503}, (status, text)
            wire.go_on()
            await asyncio.sleep(0.1)
        wire.close()
        self.accepted.append(Accepted(task._replace(total=json.loads(text)["total"]), versions))


class Run:
    """One run; everything is started on entering."""

    def __init__(self, plan: Plan, folder: Path, *, say: Callable[[str], None] = lambda text: None) -> None:
        self.plan = plan
        self.nodes = Nodes(folder, nodes=plan.nodes, urls=plan.urls)
        self.redis = RedisServer(folder)
        self.engines: list[EngineProcess] = []
        self.faults: Counter[str] = Counter()
        self._folder = folder
        self._say = say
        self._rng = random.Random(plan.seed)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.callback(self.nodes.close)
            self._stack.enter_context(self.redis)
            for number in range(self.plan.engines):
                engine = self._engine(number)
                self._stack.callback(engine.kill)
                self.engines.append(engine)
                engine.start()
            for engine in self.engines:
                self._wait_for_nodes(engine)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _engine(self, number: int) -> EngineProcess:
        folder = self._folder / f"engine-{number}"
        folder.mkdir()
        tables = f'[store]\nurl = "{self.redis.url}"\n[[layer]]\nname = "edge"\n'
        keys: dict[str, Any] = {"name": folder.name, "connections_per_node": 1, "drain_timeout_s": 2}
        return EngineProcess(folder, tables + self.nodes.tables(range(self.plan.nodes)), **keys)

    def _wait_for_nodes(self, engine: EngineProcess) -> None:
        left: list[dict[str, Any]] = []

        def are_ready() -> bool:
            left[:] = [node for node in engine.get("/v1/engine/nodes")["nodes"] if node["state"] != "ready"]
            return not left

        wait_until(are_ready, what=lambda: f"these being ready: {left[:3]}", timeout_s=_START_TIMEOUT_S)
        self._say(f"{engine.folder.name} is ready")

    def _bare(self, seconds: float) -> Bare:
        """Measure an engine that has one node, on a Redis of its own."""
        folder = self._folder / "bare"
        folder.mkdir()
        with RedisServer(folder) as redis:
            tables = f'[store]\nurl = "{redis.url}"\n[[layer]]\nname = "edge"\n' + self.nodes.tables(range(1))
            with EngineProcess(folder, tables, name="bare", connections_per_node=1) as engine:
                self._wait_for_nodes(engine)
                return measure_bare(engine, seconds)

    def check(self) -> Report:
        """Have it work for the time of the plan, and judge."""
        idle_s = min(10.0, self.plan.minutes * 60 / 10)
        meter = Meter(self.engines, self.redis, self.plan.nodes, self.plan.batch, self._bare(idle_s))
        meter.idle(idle_s)
        began = time.monotonic()
        with Clients(self.plan, [engine.port for engine in self.engines], self.nodes.versions) as clients:
            total_s = self.plan.minutes * 60
            time.sleep(total_s * self.plan.calm)
            meter.calm(len(clients.accepted))
            self._make_faults(total_s * (1 - self.plan.calm), meter)
        ended = time.monotonic()
        self._say(f"the load is over: {len(clients.accepted)} accepted")
        tasks = [one.task for one in clients.accepted]
        states, lost = wait_until_settled(
            [engine.port for engine in self.engines], tasks, timeout_s=self.plan.settle_s
        )
        settled_after_s = time.monotonic() - ended
        told = self.nodes.report(self._wanted(clients.accepted))
        return Report(
            plan=self.plan,
            accepted=len(tasks),
            seconds=ended - began,
            late=clients.late,
            answers=clients.answers,
            states=states,
            lost=lost,
            stale=told.pop("stale"),
            faults=self.faults,
            settled_after_s=settled_after_s,
            nodes=told,
            costs=meter.costs(len(tasks), told),
        )

    def _wanted(self, accepted: Sequence[Accepted]) -> list[int]:
        wanted = [0] * self.plan.urls
        for one in accepted:
            for url, version in zip(one.task.numbers, one.versions, strict=True):
                wanted[url] = max(wanted[url], version)
        return wanted

    # Faults

    def _make_faults(self, seconds: float, meter: Meter) -> None:
        """Have nodes fall ill and recover, and engines die, for so long; all are well at the end."""
        acts = sorted(self._acts(seconds), key=lambda act: act[0])
        began = time.monotonic()
        for at_s, kind, number in acts:
            time.sleep(max(0.0, began + at_s - time.monotonic()))
            if kind == "kill":
                meter.before_kill(number)
                self.engines[number].kill()
                self.faults["engine killed"] += 1
            elif kind == "start":
                self.engines[number].start(timeout_s=_START_TIMEOUT_S)
                meter.after_start(number)
            else:
                self.nodes.say(f"{kind} {number}")
                self.faults[kind] += kind != "up"

    def _acts(self, seconds: float) -> Iterator[tuple[float, str, int]]:
        plan = self.plan
        at_a_time = max(1, round(plan.nodes * plan.bad_nodes))
        for place in range(at_a_time):
            nodes = range(place, plan.nodes, at_a_time)  # no node has two faults at a time
            at_s = plan.fault_s * place / at_a_time
            while at_s + plan.fault_s < seconds:
                number = self._rng.choice(nodes)
                yield at_s, self._rng.choice(MODES[:-1]), number
                yield at_s + plan.fault_s * 0.95, "up", number
                at_s += plan.fault_s
        kills = int((seconds - plan.dead_for_s) / plan.kill_every_s) if plan.kill_every_s else 0
        for count in range(kills):
            at_s = (count + 0.5) * plan.kill_every_s
            yield at_s, "kill", count % plan.engines
            yield at_s + plan.dead_for_s, "start", count % plan.engines


def main(argv: Sequence[str]) -> int:
    """Make one run and print it; the exit code is 1 when something was lost."""
    parser = argparse.ArgumentParser(prog="tests.rigs.fleet", description=__doc__)
    plan = Plan()
    for name, value in vars(plan).items():
        flag = "--" + name.removesuffix("_s").replace("_", "-")
        parser.add_argument(flag, dest=name, type=type(value), default=value)
    plan = Plan(**vars(parser.parse_args(argv)))
    with (
        tempfile.TemporaryDirectory(prefix="purgeline-fleet-") as folder,
        Run(plan, Path(folder), say=lambda text: print(text, flush=True)) as run,
    ):
        report = run.check()
    print(report)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

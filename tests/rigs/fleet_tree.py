"""One fleet in two shapes, flat and a tree of regions: the same work for both, and the same figures.

The nodes are simulated (`fleet_nodes`), the engines real: a process for each region. Each shape is measured
idle, under a steady rate, with tasks of many URLs at once, with purges that are verified on every leaf, and
with the questions of operators. At the end no node may hold a version from before its last purge, and no
node may have been purged twice.

``python -m tests.rigs.fleet_tree --regions 100 --leaves 100 --seconds 60``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.rigs.fleet_figures import Figures, Plan, Watch, asked, handed_in, memory_of, table
from tests.rigs.fleet_nodes import HOST
from tests.rigs.fleet_process import Nodes
from tests.rigs.fleet_shapes import Flat, Shape, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.rigs.engine_process import EngineProcess

_FILES = 65_536
_IDLE_S = 300  #: until a task is over


class Work:
    """Has a shape work, and measures it.

    Args:
        plan: of the run.
        shape: started.
        nodes: the processes of the nodes.
        say: told how far it is.
    """

    def __init__(self, plan: Plan, shape: Shape, nodes: Nodes, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._shape = shape
        self._nodes = nodes
        self._say = say
        self._number = 0
        self._purged = [0] * plan.urls  #: times
        self.figures = Figures(shape.name)

    def all(self) -> Figures:
        """Do all of it."""
        for act in (self._idle, self._steady, self._burst, self._fresh, self._views, self._judge):
            began = time.monotonic()
            act()
            self._say(f"{self._shape.name}: {act.__name__.strip('_')}, {time.monotonic() - began:.0f} s")
        return self.figures

    def _idle(self) -> None:
        self.figures.memory = {role: memory_of(pids) for role, pids in self._shape.roles.items()}
        time.sleep(self._plan.idle_s)
        with Watch(self._shape) as watch:
            time.sleep(self._plan.idle_s)
        self.figures.idle = watch.spent

    def _steady(self) -> None:
        plan, figures = self._plan, self.figures
        ids: list[tuple[EngineProcess, str]] = []
        with Watch(self._shape) as watch:
            began = time.monotonic()
            for number in range(int(plan.seconds * plan.rate)):
                time.sleep(max(0.0, began + number / plan.rate - time.monotonic()))
                ids.append(self._hand_in(plan.batch))
            documents = self._documents(ids)
        figures.steady, figures.wait_s = watch.spent, watch.wait_s
        figures.steady_purges = len(ids) * plan.batch * plan.nodes
        figures.steady_s = [document["updated_at"] - document["created_at"] for document in documents]

    def _burst(self) -> None:
        plan, figures = self._plan, self.figures
        with Watch(self._shape) as watch:
            ids = [self._hand_in(plan.burst_urls) for _ in range(plan.burst)]
            documents = self._documents(ids)
        figures.burst, figures.burst_wait_s = watch.spent, watch.wait_s
        figures.burst_purges = plan.burst * plan.burst_urls * plan.nodes
        first = min(document["created_at"] for document in documents)
        figures.burst_s = max(document["updated_at"] for document in documents) - first

    def _fresh(self) -> None:
        for _ in range(self._plan.fresh):
            (document,) = self._documents([self._hand_in(1, verify=True)])
            verify = document["verify"] or {}
            if verify.get("verified") != verify.get("checked") or not verify.get("verified"):
                self.figures.wrong.append(f"{document['task_id']}: verify {verify}")
            self.figures.fresh_s.append(document["updated_at"] - document["created_at"])

    def _views(self) -> None:
        head = self._shape.heads[0]
        last = f"fleet-{self._number - 1}"
        paths = {
            "nodes": "/v1/engine/nodes",
            "nodes, each leaf": "/v1/engine/nodes?leaves=1",
            "metrics": "/metrics",
            "a task": f"/v1/engine/task/{last}",
            "a task, each leaf": f"/v1/engine/task/{last}?leaves=1",
            "history of a URL": f"/v1/engine/history?target=http://{HOST}/0",
            "why": f"/v1/engine/why?url=http://{HOST}/0",
        }
        for name, path in paths.items():
            took = [asked(head, path) for _ in range(3)]
            self.figures.views[name] = (min(each[0] for each in took), len(took[0][1]))

    def _judge(self) -> None:
        self.figures.peak = {role: memory_of(pids) for role, pids in self._shape.roles.items()}
        told = self._nodes.report(list(self._nodes.versions.now))
        self.figures.connections = told["connections"]
        for node, urls in told["stale"].items():
            self.figures.wrong.append(f"{node} holds old versions of {urls[:5]}")
        expected, got = sum(self._purged) * self._plan.nodes, told["answers"].get("purge", 0)
        if got != expected:
            self.figures.wrong.append(f"nodes took {got:,} purges of {expected:,}")

    def _hand_in(self, urls: int, **fields: object) -> tuple[EngineProcess, str]:
        """Change URLs at the origin, and purge them; return where, and the task."""
        heads = self._shape.heads
        head = heads[self._number % len(heads)]
        first = self._number * urls % self._plan.urls
        numbers = [(first + place) % self._plan.urls for place in range(urls)]
        for number in numbers:
            self._nodes.versions.now[number] += 1
            self._purged[number] += 1
        name = f"fleet-{self._number}"
        self._number += 1
        targets = [f"http://{HOST}/{number}" for number in numbers]
        handed_in(head, {"id": name, "targets": targets, **fields})
        return head, name

    def _documents(self, ids: Sequence[tuple[EngineProcess, str]]) -> list[dict[str, Any]]:
        """Wait until nothing is left to do, then return the tasks: of 10,000 nodes they are large."""
        until = time.monotonic() + _IDLE_S + self._plan.seconds
        for head in self._shape.heads:
            while any(asked_json(head, "/v1/engine/stats")[key] for key in ("tasks_in_cache", "saver_queue")):
                assert time.monotonic() < until, f"not idle: {asked_json(head, '/v1/engine/stats')}"
                time.sleep(0.1)
        documents = [asked_json(head, f"/v1/engine/task/{name}") for head, name in ids]
        for document in documents:
            if document["state"] != "done":
                self.figures.wrong.append(
                    f"{document['task_id']}: {document['state']} {document['errors'][:1]}"
                )
        return documents


def asked_json(engine: EngineProcess, path: str) -> Any:
    """Return a document, not held to its description: that takes long of 10,000 nodes."""
    return json.loads(asked(engine, path)[1])


def run(plan: Plan, folder: Path, say: Callable[[str], None]) -> Iterator[Figures]:
    """Measure each shape."""
    for name in plan.shapes.split(","):
        (folder / name).mkdir()
        nodes = Nodes(folder / name, nodes=plan.nodes, urls=plan.urls)
        try:
            began = time.monotonic()
            with shape_of(name, plan, folder / name, nodes) as shape:
                say(f"{name}: all is ready after {time.monotonic() - began:.0f} s")
                yield Work(plan, shape, nodes, say).all()
        finally:
            nodes.close()


def shape_of(name: str, plan: Plan, folder: Path, nodes: Nodes) -> Shape:
    """Return a shape, not started."""
    subtasks = {"live_subtasks_max": 100_000_000, "connections_per_node": 1}
    if name == "flat":
        return Flat(folder, nodes, count=plan.nodes, engines=plan.engines, **subtasks)
    return Tree(folder, nodes, regions=plan.regions, leaves=plan.leaves, **subtasks)


def _raise_files() -> None:
    """Let engines and nodes have as many sockets as there are nodes; needs root, where the limit is lower."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(_FILES, most)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))


def main(argv: Sequence[str]) -> int:
    """Make one run and print it; the exit code is 1 when something was lost, or came twice."""
    parser = argparse.ArgumentParser(prog="tests.rigs.fleet_tree", description=__doc__)
    plan = Plan()
    for name, value in vars(plan).items():
        flag = "--" + name.removesuffix("_s").replace("_", "-")
        parser.add_argument(flag, dest=name, type=type(value), default=value)
    plan = Plan(**vars(parser.parse_args(argv)))
    _raise_files()
    with tempfile.TemporaryDirectory(prefix="purgeline-fleet-") as folder:
        found: list[Figures] = []
        for figures in run(plan, Path(folder), say=lambda text: print(text, flush=True)):
            found.append(figures)
            print(table(plan, found), flush=True)  # also of the first one alone: the next may not come so far
    wrong = [f"{figures.shape}: {text}" for figures in found for text in figures.wrong]
    print("\n".join(wrong[:20]) or "nothing was lost, nothing came twice, no node holds an old version")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A run in one process, on a virtual clock: it depends on its seed alone, and an hour passes in a moment."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.tasks import documents
from tests.model import plans
from tests.model.clients import Clients
from tests.model.engines import Engines
from tests.model.inside import installed
from tests.model.loop import WALL_START_S, BusyError, VirtualLoop, run
from tests.model.processes import Process
from tests.model.world import Pace, World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.model.figures import Figures
    from tests.model.inside import Heard
    from tests.model.rules import Record

_PACE: Final = Pace(
    engine={
        "request_timeout_s": 2,
        "connect_timeout_s": 1,
        "due_s": 30,
        "drain_timeout_s": 4,
        "prefetch_timeout_s": 30,
        "on_incapable": "skip",
        "region_count": 2,
        "connections_per_node": 2,
    },
    proof={},
    look_s=2.0,
    quiet_limit_s=9000.0,
    refused_limit_s=600.0,
    moment_s=0.01,
)


class VirtualWorld(World):
    """One run.

    Args:
        plan: what happens.
        folder: for stores.
        loop: virtual.
        figures: counts.
    """

    pace = _PACE
    engines: Engines

    def __init__(self, plan: plans.Plan, folder: Path, loop: VirtualLoop, figures: Figures) -> None:
        super().__init__(plan, loop.rng, figures, wall_start_s=WALL_START_S)
        self.loop = loop
        self.engines = Engines(loop, plan.workers)
        self.clients = Clients(self, self._is_at_work)
        self._folder = folder
        self._outside = Process("the world")

    def url_of(self, name: str) -> str:
        return f"http://127.0.0.1:{_port_of(name)}"

    def config(self, variant: str = "") -> dict[str, Any]:
        config = super().config(variant)
        config["engine"] = {**config["engine"], "data_dir": str(self._folder / "var")}
        return config

    async def open_doors(self) -> None:
        (self._folder / "var").mkdir()
        for name, door in self.doors.items():
            self.loop.net.listen(("127.0.0.1", _port_of(name)), door, self._outside.context.copy())

    def failures(self) -> list[str]:
        return [*self.loop.failures, *super().failures()]

    async def states(self) -> list[tuple[Any, str, str]]:
        return [
            (worker, node.name, str(node.health.state))
            for worker in self.engines.alive
            if worker.lifecycle is not None
            for node in worker.parts.core.nodes.values()
        ]

    def _is_at_work(self, record: Record) -> bool:
        """Tell without asking: a task in the memory of a worker is not settled."""
        for worker in self.engines.alive:
            task = None if worker.lifecycle is None else worker.parts.core.regions.get(record.task_id)
            if task is not None:
                if task.total != record.total:
                    self.rules.fail(f"the total of {record} was {record.total} and is {task.total}")
                if any(share.delayed_count for share in task.shares):
                    record.was_delayed = True
                if task.is_committed:
                    self.rules.check_numbers(record, msgspec.to_builtins(documents.document(task)))
                return True
        return False


def _port_of(name: str) -> int:
    return 8001 + plans.NODES.index(name)


def carry_out(plan: plans.Plan, folder: Path, figures: Figures, heard: Heard) -> None:
    """Run a plan from start to end.

    Raises:
        Violation: a rule was broken.
    """
    loop = VirtualLoop(random.Random(plan.seed))
    with installed(loop, plan.seed, heard):
        world = VirtualWorld(plan, folder, loop, figures)
        try:
            try:
                run(world.run(), loop, world.engines.kill_all)
            except BusyError as exc:
                world.rules.fail(str(exc))
            if heard.errors:
                world.rules.fail("\n".join(["the engine logged errors:", *heard.errors]))
        finally:
            world.count()

"""Dispatch, nodes, delay queues and a store on a running loop, without intake."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from engine.base.buffers import BufferPool
from engine.base.clock import SteadyClock
from engine.base.timer import Timer
from engine.config.load import parse
from engine.delivery.parts import Surroundings, build_delivery
from engine.intake.topology import Topology
from engine.intake.validate import Validator, all_hosts
from engine.nodes.node import Node
from engine.nodes.underway import link
from engine.observe.counters import Stats
from engine.saver.pool import SaverPool
from engine.saver.reader import StoreReader
from engine.saver.saver import Saver
from engine.saver.sinks import Sinks
from engine.store.sqlite.store import SqliteStore
from engine.tasks.region import RegionMap
from tests.fakes.audit import audit_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from engine.tasks.records import JournalKey
    from engine.tasks.task import Task
    from tests.fakes.node import FakeNode


class Rig:
    """The engine's middle.

    Args:
        nodes: name → fake cache, in this order; a name that begins with ``parent`` is of the first layer.
        tables: name → further keys of a node's table.
        store_kind: class of its store.
        evidence_interval_s: between two questions to a node that is ready, once it is started.
        settings: keys of ``[engine]``.
    """

    def __init__(
        self,
        folder: Path,
        nodes: dict[str, FakeNode],
        tables: dict[str, Any] | None = None,
        *,
        store_kind: type[SqliteStore] = SqliteStore,
        evidence_interval_s: float = 300,
        **settings: Any,
    ) -> None:
        config = parse(
            {
                "engine": {"request_timeout_s": 20, "connect_timeout_s": 20, **settings},
                "layer": [{"name": "parent"}, {"name": "edge"}],
                "node": [
                    {
                        "name": name,
                        "driver": "ats",
                        "url": fake.url,
                        "evidence": "any",  # scripted answers bear no sign of a cache
                        "layer": "parent" if name.startswith("parent") else "edge",
                        **(tables or {}).get(name, {}),
                    }
                    for name, fake in nodes.items()
                ],
            }
        )
        loop = asyncio.get_running_loop()
        self.stats = Stats()
        self.timer = Timer(loop, granularity_s=0.01)
        self.dues = Timer(loop, granularity_s=0.01)
        self.alerts: list[tuple[str, str, str]] = []
        self.refused: dict[str, Exception | None] = {}
        self.regions = RegionMap(4)
        self.nodes: dict[str, Node] = {}
        self.reader = StoreReader(2)
        savers = SaverPool([])
        clock = SteadyClock()
        self.delivery = build_delivery(
            Surroundings(
                regions=self.regions,
                nodes=self.nodes,
                savers=savers,
                reader=self.reader,
                dues=self.dues,
                timer=self.timer,
                clock=clock,
                stats=self.stats,
                audit=audit_of(),
                on_alert=lambda *alert, **facts: self.alerts.append(alert),
            ),
            ttl_s=config.engine.delay_ttl_s,
            rows_max=config.engine.delay_rows_max,
        )
        self.dispatch = self.delivery.dispatch
        self.load = self.delivery.load
        self.queues = self.delivery.queues
        self.store = store_kind(folder / "tasks-0.db", clock=clock)
        self.store.open()
        self.saver = Saver(
            self.store,
            loop,
            Sinks(
                accepted=self._accepted,
                known=lambda task, digest, document: None,
                saved=self.delivery.endings.saved,
            ),
            backlog_count=1000,
            push_timeout_s=1,
        )
        savers.savers.append(self.saver)
        self.validator = Validator(
            Topology(config), due_s=config.engine.due_s, allows_callback=lambda url: None
        )
        self.buffers = BufferPool()
        for node in config.node:
            self.nodes[node.name] = Node(
                node,
                self.dispatch,
                self.delivery.events,
                settings=config.engine,
                buffers=self.buffers,
                timer=self.timer,
                stats=self.stats,
                evidence_interval_s=evidence_interval_s,
            )
        link(self.nodes)
        self.saver.start()

    def node(self, name: str) -> Node:
        """Return one of the nodes."""
        return self.nodes[name]

    def submit(self, **body: Any) -> Task:
        """Take a task in as the intake does; it goes on after its commit."""
        task = self.validator.task(json.dumps(body).encode(), all_hosts)
        assert self.regions.add(task) is task
        self.load.reserve(task.total)
        self.saver.push(task)
        return task

    def _accepted(self, task: Task, key: JournalKey, error: Exception | None) -> None:
        assert error is None
        self.dispatch.submit(task, key)

    async def stored(self, task: Task, state: str) -> dict[str, Any]:
        """Wait until the task's stored document is in this state, and return it."""
        found: dict[str, Any] = {}

        def is_there() -> bool:
            text = self.store.document(task.id)
            found.update(json.loads(text) if text else {})
            return found.get("state") == state

        await until(is_there, lambda: f"{task} {state}, found {found}")
        return found

    async def close(self) -> None:
        """Stop everything."""
        self.dispatch.stop()
        await self.delivery.redelivery.stop()
        for node in self.nodes.values():
            node.close()
        await self.saver.drain(20)
        self.saver.stop()
        self.timer.close()
        self.dues.close()
        self.reader.close()
        self.store.close()


@contextlib.asynccontextmanager
async def rig_of(
    folder: Path, nodes: dict[str, FakeNode], tables: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Rig]:
    """Run a rig."""
    rig = Rig(folder, nodes, tables, **settings)
    try:
        yield rig
    finally:
        await rig.close()

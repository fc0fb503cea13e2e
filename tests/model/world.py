"""A run: an origin, caches, an engine and clients, and a plan that is carried out on a virtual clock."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any, Final

from tests.model import plans
from tests.model.cache_wire import CacheDoor
from tests.model.caches import Cache, Faults, Origin
from tests.model.engines import Engines, Worker
from tests.model.inside import installed
from tests.model.loop import VirtualLoop, run
from tests.model.processes import Process
from tests.model.rules import Record, Rules, urls_of

if TYPE_CHECKING:
    from pathlib import Path

_QUIET_LIMIT_S: Final = 9000.0  #: within which everything must have come to an end
_ANSWER_LIMIT_S: Final = 25.0
_WIDE_DRIVERS: Final = frozenset({"varnish", "nginx"})


class World:
    """One run.

    Args:
        plan: what happens.
        folder: for stores.
        loop: virtual.
    """

    def __init__(self, plan: plans.Plan, folder: Path, loop: VirtualLoop) -> None:
        self.plan = plan
        self.loop = loop
        self.rng = loop.rng
        self.trace: list[str] = []
        self.origin = Origin()
        self.caches = self._make_caches()
        self.rules = Rules(self.caches, self.trace)
        self.doors: dict[str, CacheDoor] = {}
        self.configured = set(plans.NODES)
        self.changed: set[str] = set()  #: nodes whose cache became another one
        self.engines = Engines(loop, folder, plan.workers)
        self.faults = 0
        self._folder = folder
        self._outside = Process("the world")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._number = 0

    def _make_caches(self) -> dict[str, Cache]:
        caches: dict[str, Cache] = {}
        for name, driver in zip(plans.NODES, self.plan.drivers, strict=True):
            parents = [] if name.startswith("parent") else [caches["parent-1"]]
            caches[name] = Cache(name, driver, self.origin, parents, rng=self.rng, is_marked=self.plan.marked)
        return caches

    def note(self, what: object) -> None:
        """Add to the trace."""
        self.trace.append(f"{self.loop.time():10.3f}  {what}")

    def config(self, variant: str = "") -> dict[str, Any]:
        """Return a configuration, and have the caches be what it says."""
        names = [name for name in plans.NODES if not (variant == "no-edge-2" and name == "edge-2")]
        if variant == "other-driver":
            cache = self.caches["edge-1"]
            self.changed.add("edge-1")
            cache.driver = "squid" if self.plan.drivers[1] != "squid" else "varnish"
        elif not variant:
            self.caches["edge-1"].driver = self.plan.drivers[1]
        self.configured = set(names)
        return {
            "engine": {
                "data_dir": str(self._folder / "var"),
                "request_timeout_s": 2,
                "connect_timeout_s": 1,
                "due_s": 30,
                "drain_timeout_s": 4,
                "prefetch_timeout_s": 30,
                "on_incapable": "skip",
                "region_count": 2,
                "connections_per_node": 2,
            },
            "layer": [{"name": "parent"}, {"name": "edge"}],
            "node": [
                {
                    "name": name,
                    "layer": name.partition("-")[0],
                    "driver": self.caches[name].driver,
                    "url": f"http://127.0.0.1:{8001 + plans.NODES.index(name)}",
                    **({"wildcard": True} if self.caches[name].driver == "nginx" else {}),
                }
                for name in names
            ],
        }

    # The run

    async def run(self) -> None:
        """Carry the plan out, mend everything, wait until all is quiet, and check."""
        (self._folder / "var").mkdir()
        for name, cache in self.caches.items():
            cache.on_serve = self.rules.check_object
            door = self.doors[name] = CacheDoor(cache)
            address = ("127.0.0.1", 8001 + plans.NODES.index(name))
            self.loop.net.listen(address, door, self._outside.context.copy())
        await self.engines.start(self.config())
        for gap_s, action in self.plan.steps:
            await self._wait(gap_s)
            self.note(action)
            await self._act(action)
            await self._look()
        await self._end()

    async def _wait(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while (left := until - self.loop.time()) > 1e-9:
            await asyncio.sleep(min(left, 2.0))
            self._check_failures()
            await self._look()

    def _check_failures(self) -> None:
        if self.rules.broken is not None:
            raise self.rules.broken
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()
        if self.loop.failures or self.engines.start_failures:
            self.rules.fail("\n".join([*self.loop.failures, *self.engines.start_failures]))

    async def _end(self) -> None:
        self.note("everything is mended")
        self.origin.latency_s, self.origin.is_failing = 0.01, False
        for name, cache in self.caches.items():
            self._heal(name)
            cache.is_marked = True  # as the reason of an unproven node says
        await self.engines.settled()
        if self.rng.random() < 0.5:
            self.note("and is configured as in the beginning")
            await self.engines.stop()
            await self.engines.start(self.config())
        step_s, until = 0.5, self.loop.time() + _QUIET_LIMIT_S
        while self.loop.time() < until:
            await asyncio.sleep(step_s)
            self._check_failures()
            await self._look()
            if all(record.is_over for record in self.rules.records.values() if record.is_accepted):
                break
            step_s = min(60.0, step_s * 1.5)
        await asyncio.sleep(self.rules.rebounds_s())
        self._check_failures()
        self.rules.is_end = True
        self.rules.check_all_objects()
        self.rules.check_end(gone=set(plans.NODES) - self.configured, changed=self.changed)

    def _start(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)

    # Looking

    async def _look(self) -> None:
        """See what became of tasks that are not over."""
        for record in list(self.rules.records.values()):
            if record.is_accepted and not record.is_over and not self._is_at_work(record):
                await self._see(record)

    def _is_at_work(self, record: Record) -> bool:
        """Tell without asking: a task in the memory of a worker is not settled."""
        for worker in self.engines.alive:
            task = None if worker.lifecycle is None else worker.parts.core.regions.get(record.task_id)
            if task is not None:
                if task.total != record.total:
                    self.rules.fail(f"the total of {record} was {record.total} and is {task.total}")
                return True
        return False

    async def _see(self, record: Record) -> None:
        reply = await self._ask("GET", f"/v1/engine/task/{record.task_id}")
        if reply is None or reply[0] >= 500:
            return  # it is starting or ending
        if reply[0] != 200:
            self.rules.fail(f"{record} was accepted, and the engine answers {reply}")
        self.rules.saw(record, json.loads(reply[1]), self.loop.time())

    # Clients

    async def _ask(
        self, method: str, path: str, body: bytes = b"", *, worker: Worker | None = None
    ) -> tuple[int, bytes] | None:
        """Ask a worker that accepts; None when there is none, or it does not answer."""
        accepting = self.engines.accepting()
        if not accepting:
            return None
        worker = worker or self.rng.choice(accepting)
        try:
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                reader, writer = await asyncio.open_connection(*worker.address)
                head = f"{method} {path} HTTP/1.1\r\nHost: engine\r\nContent-Length: {len(body)}\r\n"
                writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
                try:
                    text = await reader.readuntil(b"\r\n\r\n")
                    length = next(
                        int(line.split(b":")[1])
                        for line in text.split(b"\r\n")
                        if line.lower().startswith(b"content-length:")
                    )
                    return int(text.split()[1]), await reader.readexactly(length)
                finally:
                    writer.close()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return None

    async def _act(self, action: plans.Action) -> None:
        match action:
            case plans.Submit():
                await self._submit(action)
            case plans.Visit():
                self._start(self._visit(action))
            case plans.Fault():
                self.faults += 1
                self._break(action)
            case plans.Heal():
                self._heal(action.node)
            case plans.Origin():
                self.origin.latency_s, self.origin.is_failing = action.latency_s, action.is_failing
            case plans.Cancel():
                await self._cancel(action.number)
            case plans.Engine():
                self.faults += 1
                await self._engine(action)

    async def _submit(self, action: plans.Submit) -> None:
        urls = [plans.URLS[number] for number in action.urls]
        body: dict[str, Any] = {"action": action.action, "kind": "url", "targets": urls}
        if action.action == "purge" and action.kind != "url":
            hosts = sorted({url.split("/")[2] for url in urls})
            targets = hosts if action.kind == "host" else [f"http://{host}/x/" for host in hosts]
            body |= {"kind": action.kind, "targets": targets}
        elif action.action == "purge" and action.prefetch:
            body["prefetch"] = True
        if action.action == "purge" and action.kind == "url" and action.rebound_s:
            body["rebound_s"] = action.rebound_s
        if action.nodes:
            body["nodes"] = [name for name in action.nodes if name in self.configured] or ["edge-1"]
        self._number += 1
        body["id"] = f"task-{self._number}"
        covered = urls_of(body)
        if not action.is_unchanged:
            for url in covered:
                self.origin.change(url)
        record = Record(
            body["id"],
            body,
            tuple(name for name in plans.NODES if name in body.get("nodes", self.configured)),
            self.loop.time(),
            {url: self.origin.version(url) for url in covered},
        )
        accepting = self.engines.accepting()
        worker = accepting[action.worker % len(accepting)] if accepting else None
        reply = await self._ask("POST", "/v1/engine/task", json.dumps(body).encode(), worker=worker)
        self.note(f"  → {reply}")
        if reply is None or reply[0] in {503, 422}:
            return
        if reply[0] != 202:
            self.rules.fail(f"{body} was answered {reply}")
        answer = json.loads(reply[1])
        record.is_accepted, record.total = True, answer["total"]
        await self._plan_of(record)
        self.rules.records[record.task_id] = record

    async def _plan_of(self, record: Record) -> None:
        """Leave out the nodes that could not do what was asked."""
        reply = await self._ask("GET", f"/v1/engine/task/{record.task_id}")
        skipped: set[str] = set()
        if reply is not None and reply[0] == 200:
            skipped = {skip["name"] for skip in json.loads(reply[1])["skipped"]}
        else:
            wide = record.body["kind"] != "url"
            skipped = {
                name for name in record.nodes if wide and self.caches[name].driver not in _WIDE_DRIVERS
            }
        record.nodes = tuple(name for name in record.nodes if name not in skipped)

    async def _visit(self, action: plans.Visit) -> None:
        cache = self.caches[action.node]
        if cache.faults.door != "refused" and not cache.faults.hangs:
            await cache.get(plans.URLS[action.url], "visitor")

    async def _cancel(self, number: int) -> None:
        live = [record for record in self.rules.records.values() if not record.is_over]
        if number >= len(live):
            return
        record = live[-1 - number]
        record.is_cancel_asked = True
        reply = await self._ask("DELETE", f"/v1/engine/task/{record.task_id}")
        self.note(f"  → {reply}")
        if reply is not None and reply[0] == 200:
            self.rules.saw(record, json.loads(reply[1]), self.loop.time())

    # Faults

    def _break(self, action: plans.Fault) -> None:
        cache = self.caches[action.node]
        if action.kind == "wiped":
            cache.wipe()
            return
        if action.kind != "forward" or cache.driver != "squid":  # never does
            cache.faults.begin(action.kind, plans.HOSTS, self.rng)
        if action.kind in {"down", "lost"}:
            self.doors[action.node].reset()

    def _heal(self, name: str) -> None:
        cache = self.caches[name]
        was_stuck = cache.faults.hangs
        cache.faults = Faults()
        if was_stuck:
            self.doors[name].reset()

    async def _engine(self, action: plans.Engine) -> None:
        engines = self.engines
        if action.kind == "worker-killed":
            engines.kill(action.slot % engines.count)
        elif action.kind == "reload":
            if engines.has_supervisor and engines.is_up:
                self._start(engines.reload(self.config(action.config)))
        elif engines.is_up:
            if action.kind == "crash":
                engines.kill_all()
            else:
                await engines.stop()
            await self._wait(action.down_s)
            await engines.start(self.config(action.config))


def carry_out(plan: plans.Plan, folder: Path) -> World:
    """Run a plan from start to end.

    Raises:
        Violation: a rule was broken.
    """
    loop = VirtualLoop(random.Random(plan.seed))
    with installed(loop, plan.seed) as errors:
        world = World(plan, folder, loop)
        run(world.run(), loop, world.engines.kill_all)
        if errors:
            world.rules.fail("\n".join(["the engine logged errors:", *errors]))
    return world

"""A run: an origin, caches, an engine and clients, and a plan that is carried out."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from tests.model import plans
from tests.model.cache_wire import CacheDoor
from tests.model.caches import Cache, Origin
from tests.model.rules import Rules

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.model.clients import Address, Clients
    from tests.model.figures import Figures
    from tests.model.rules import Record

_AWAY: Final = frozenset({"down", "sick"})
_BACK: Final = frozenset({"ready", "returning", "catching_up"})


@dataclass(frozen=True)
class Pace:
    """How fast a run goes.

    Attributes:
        engine: keys of ``[engine]``.
        proof: keys of ``[proof]``.
        look_s: between two looks at tasks.
        quiet_limit_s: within which everything must have come to an end when all is mended.
        refused_limit_s: the same of what is not refused, when all else is mended.
        moment_s: within which an engine knows what its node has answered.
    """

    engine: dict[str, Any]
    proof: dict[str, Any]
    look_s: float
    quiet_limit_s: float
    refused_limit_s: float
    moment_s: float


class Engines(Protocol):
    """The engine of a run: its processes, and what becomes of them."""

    has_supervisor: bool
    is_up: bool
    start_failures: list[str]
    config: dict[str, Any] | None  #: of its newest processes; None: not known

    def addresses(self) -> list[Address]:
        """Return where tasks can be handed in."""

    def stable_config(self) -> dict[str, Any] | None:
        """Return the configuration that all processes have; None: it is changing."""

    async def start(self, config: dict[str, Any]) -> None:
        """Start, on what the store holds."""

    async def stop(self) -> None:
        """End in order."""

    async def crash(self) -> None:
        """End at once, all processes."""

    async def kill_worker(self, slot: int) -> None:
        """End one worker at once; another is started soon."""

    async def reload(self, config: dict[str, Any]) -> None:
        """Change the configuration of an engine that goes on."""

    async def settled(self) -> None:
        """Wait until no reload is under way."""


class World(ABC):
    """One run.

    Args:
        plan: what happens.
        rng: draws what the plan does not say.
        figures: counts.
        wall_start_s: UNIX time when the loop's time is 0.
    """

    pace: Pace
    engines: Engines
    clients: Clients

    def __init__(
        self, plan: plans.Plan, rng: random.Random, figures: Figures, *, wall_start_s: float
    ) -> None:
        self.plan = plan
        self.rng = rng
        self.figures = figures
        self.trace: list[str] = []
        self.origin = Origin(wall_start_s)
        self.caches = self._make_caches()
        self.rules = Rules(self.caches, self.trace)
        self.doors = {name: CacheDoor(cache) for name, cache in self.caches.items()}
        self.configured = set(plans.NODES)
        self.wanted: dict[str, Any] = {}  #: the configuration that the engine was given last
        self.changed: set[str] = set()  #: nodes whose cache became another one
        self.paused: dict[str, float | None] = {}  #: nodes that operators paused → since when; None: perhaps
        self._states: dict[Any, tuple[str, float]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def _make_caches(self) -> dict[str, Cache]:
        caches: dict[str, Cache] = {}
        for name, driver in zip(plans.NODES, self.plan.drivers, strict=True):
            parents = [] if name.startswith("parent") else [caches["parent-1"]]
            caches[name] = Cache(name, driver, self.origin, parents, rng=self.rng, is_marked=self.plan.marked)
        return caches

    def now(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def note(self, what: object) -> None:
        """Add to the trace."""
        self.trace.append(f"{self.now():10.3f}  {what}")

    @abstractmethod
    def url_of(self, name: str) -> str:
        """Return the URL of a node."""

    def config(self, variant: str = "") -> dict[str, Any]:
        """Return a configuration, and have the caches be what it says."""
        names = [name for name in plans.NODES if not (variant == "no-edge-2" and name == plans.REMOVED)]
        if variant == "other-driver":
            cache = self.caches["edge-1"]
            self.changed.add("edge-1")
            cache.driver = "squid" if self.plan.drivers[1] != "squid" else "varnish"
            cache.faults.forwards &= cache.driver != "squid"  # that never does
        elif not variant:
            self.caches["edge-1"].driver = self.plan.drivers[1]
        self.configured = set(names)
        self.wanted = {
            "engine": self.pace.engine,
            "proof": self.pace.proof,
            "layer": [{"name": "parent"}, {"name": "edge"}],
            "node": [
                {
                    "name": name,
                    "layer": name.partition("-")[0],
                    "driver": self.caches[name].driver,
                    "url": self.url_of(name),
                    **({"wildcard": True} if self.caches[name].driver == "nginx" else {}),
                }
                for name in names
            ],
        }
        return self.wanted

    # The run

    async def run(self) -> None:
        """Carry the plan out, mend everything, wait until all is quiet, and check."""
        for cache in self.caches.values():
            cache.on_serve = self.rules.check_object
        await self.open_doors()
        await self.engines.start(self.config())
        for gap_s, action in self.plan.steps:
            await self._wait(gap_s)
            self.note(action)
            await self._act(action)
            await self._look()
        await self._end()

    @abstractmethod
    async def open_doors(self) -> None:
        """Let the caches listen."""

    async def _wait(self, seconds: float) -> None:
        until = self.now() + seconds
        while (left := until - self.now()) > 1e-9:
            await asyncio.sleep(min(left, self.pace.look_s))
            self._check_failures()
            await self._look()

    def failures(self) -> list[str]:
        """Return what went wrong that no rule is about: exceptions that nobody caught."""
        return self.engines.start_failures

    def _check_failures(self) -> None:
        if self.rules.broken is not None:
            raise self.rules.broken
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()
        self.rules.check_pauses()
        self.rules.check_paused({name: at for name, at in self.paused.items() if at is not None})
        failures = self.failures()
        if failures:
            self.rules.fail("\n".join(failures))

    async def _look(self) -> None:
        """See what became of tasks and nodes."""
        await self._look_at_states()
        await self.clients.look()

    async def _end(self) -> None:
        self.note("everything is mended but what is refused")
        self.origin.latency_s, self.origin.is_failing = 0.01, False
        for name, cache in self.caches.items():
            await self._heal(name, but_for_refusals=True)
            cache.is_marked = True  # as the reason of an unproven node says
        await self.engines.settled()
        for name in list(self.paused):
            await self._until_resumed(name)
        if self.engines.config is not self.wanted:
            self.note("a reload went back, as one of its workers was killed: the engine is configured again")
            await self._configure(self.wanted)
        rules = self.rules
        if any(cache.faults.refuses_some for cache in self.caches.values()):
            but_for = {*plans.NODES} - self.configured | self.changed
            await self._until(lambda: not rules.waiting(but_for), self.pace.refused_limit_s)
            rules.check_unrefused(but_for)
            self.note("what is refused is mended")
            for name in self.caches:
                await self._heal(name)
        if self.is_configured_anew():
            self.note("and is configured as in the beginning")
            await self._configure(self.config())
        accepted = [record for record in rules.records.values() if record.is_accepted]
        await self._until(lambda: all(record.is_over for record in accepted), self.pace.quiet_limit_s)
        await asyncio.sleep(rules.rebounds_s())
        self._check_failures()
        rules.is_end = True
        rules.check_all_objects()
        rules.check_end(gone={*plans.NODES} - self.configured, changed=self.changed)

    async def _configure(self, config: dict[str, Any]) -> None:
        """Start the engine again with a configuration."""
        await self._look()
        await self.engines.stop()
        await self.engines.start(config)

    def is_configured_anew(self) -> bool:
        """Tell whether the engine ends with the configuration that it began with."""
        return self.rng.random() < 0.5

    async def _until(self, is_so: Callable[[], bool], limit_s: float) -> None:
        step_s, until = self.pace.look_s / 4, self.now() + limit_s
        while not is_so() and self.now() < until:
            await asyncio.sleep(step_s)
            self._check_failures()
            await self._look()
            step_s = min(30 * self.pace.look_s, step_s * 1.5)

    def count(self) -> None:
        """Add what came of the run to the figures."""
        seen = self.figures.seen
        for record in self.rules.records.values():
            seen[f"tasks {record.document.get('state', 'accepted')}"] += 1
        seen["objects checked"] += self.rules.checks
        for cache in self.caches.values():
            seen["purges at caches"] += len(cache.acts)
            for root, times in cache.purged_beside.items():
                what = "own prefetch" if root == "engine" else "visitor's fetch"
                self.figures.faults[f"{what} beside purge"] += times

    async def _pause(self, name: str, *, is_paused: bool) -> None:
        """Pause a node, or resume it; nothing is asked of it from the answer on until it is resumed."""
        if not is_paused and name in self.paused:
            self.paused[name] = None
        is_done = await self.clients.pause(name, is_paused=is_paused)
        if is_done and not is_paused:
            self.paused.pop(name, None)
        elif is_paused and is_done is not False and self.paused.get(name) is None:
            self.figures.faults["pause"] += 1
            self.paused[name] = self.now() if is_done else None

    async def _until_resumed(self, name: str) -> None:
        """Resume a node, unless no engine knows it; what is asked of it then is no violation."""
        while name in self.paused:
            self.paused[name] = None
            is_done = await self.clients.pause(name, is_paused=False)
            if is_done is not None:
                del self.paused[name]
            else:
                await self._wait(self.pace.look_s)

    # Nodes

    async def states(self) -> list[tuple[Any, str, str]]:
        """Return the states of nodes as processes see them: whatever tells those apart, node, state."""
        return []

    async def _look_at_states(self) -> None:
        """Refuse a node that counts as back while its cache does nothing of what it is asked."""
        now = self.now()
        for process, name, state in await self.states():
            before, at = self._states.get((process, name), ("", 0.0))
            ill_since = self.caches[name].ill_since
            if (
                before in _AWAY
                and state in _BACK
                and ill_since is not None
                and ill_since < at - self.pace.moment_s
            ):
                self.rules.fail(f"{name} does nothing since {ill_since:.3f}, was {before}, and is {state}")
            self._states[process, name] = (state, now)

    # What happens

    def _start(self, work: Any) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def _act(self, action: plans.Action) -> None:
        faults = self.figures.faults
        match action:
            case plans.Submit():
                await self.clients.submit(action)
            case plans.Visit():
                self._start(self.clients.visit(self.caches[action.node], action.url))
            case plans.Fault():
                faults[action.kind] += 1
                await self._break(action)
            case plans.Heal():
                await self._heal(action.node)
            case plans.Pause():
                await self._pause(action.node, is_paused=not action.is_over)
            case plans.Origin():
                faults["origin-fails"] += action.is_failing
                faults["origin-slow"] += action.latency_s > 0.1
                self.origin.latency_s, self.origin.is_failing = action.latency_s, action.is_failing
            case plans.Cancel():
                faults["cancel"] += await self.clients.cancel(action.number)
            case plans.Engine():
                await self._engine(action)

    async def _break(self, action: plans.Fault) -> None:
        cache = self.caches[action.node]
        if action.kind == "wiped":
            cache.wipe()
            return
        if action.is_alone:
            await self._heal(action.node)
        if action.kind != "forward" or cache.driver != "squid":  # never does
            cache.fall_ill(action.kind, plans.HOSTS)
        if action.kind in {"down", "lost"}:
            self.doors[action.node].reset()
            await self.close_door(action.node)

    async def _heal(self, name: str, *, but_for_refusals: bool = False) -> None:
        cache = self.caches[name]
        was_stuck, was_open = cache.faults.hangs, cache.faults.door == "open"
        cache.heal(but_for_refusals=but_for_refusals)
        if was_stuck:
            self.doors[name].reset()
        if not was_open:
            await self.open_door(name)

    async def close_door(self, name: str) -> None:  # noqa: B027 - a door in memory looks at its cache itself
        """A node cannot be reached any more; its cache says how that is."""

    async def open_door(self, name: str) -> None:  # noqa: B027 - as above
        """A node can be reached again."""

    async def _engine(self, action: plans.Engine) -> None:
        engines, kind = self.engines, action.kind
        if not engines.is_up or (kind == "reload" and not engines.has_supervisor):
            return
        self.figures.faults[kind] += 1
        if kind == "worker-killed":
            await engines.kill_worker(action.slot)
            return
        self.figures.faults["node-removed"] += action.config == "no-edge-2"
        self.figures.faults["driver-changed"] += action.config == "other-driver"
        if kind == "reload":
            self._start(engines.reload(self.config(action.config)))
            return
        await self._look()
        await (engines.crash() if kind == "crash" else engines.stop())
        await self._wait(action.down_s)
        await engines.start(self.config(action.config))

    def records(self) -> list[Record]:
        """Return the tasks that were accepted and are not over."""
        return [record for record in self.rules.records.values() if record.is_accepted and not record.is_over]

"""Several engines on one store, and everything that can die dies: accepted = settled, lost = 0.

Clients without pause hand tasks in; caches write down every purge they get. Meanwhile engines are killed one
after the other, Redis is restarted and killed, a cache is away. At the end each task that was accepted has to
be ``done`` for whichever engine is asked, each of its targets has to have reached every cache, and each purge
that came twice has to have a reason: a fault between the two that explains it. With ``--files differ`` some
engines' files lack a cache, and each engine that starts again has the other file: a rolling change. A task
goes to what its total said when it was accepted, whoever works it, and its total never changes.

``python -m tests.rigs.cluster_checker --seconds 300 --engines 3`` makes a long run and prints what it saw;
the suite's version is in ``test_cluster_checker``.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.fakes.log_cache import LogCache, Repeat
from tests.rigs.cluster_load import Clients, Seen, never_came, wait_until_settled
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.redis_servers import RedisCluster, RedisServer, SentinelGroup
from tests.rigs.supervised_engine import SupervisedEngine

NODES = ("edge-1", "edge-2")
STORES = ("sqlite", "redis", "sentinel", "cluster")
FILES = ("same", "differ")
WAYS = ("kill", "stop", "pause", "hup")

LEAVING_S = 3.0  #: after a reload the old worker is there for a while
SEEN_LIMIT = 10  #: how many of what is wrong are shown


class Fault(NamedTuple):
    """Something that was away for a while; ``time.monotonic()``."""

    kind: str  #: ``engine``, ``redis`` or ``cache``
    number: int
    began_at: float
    ended_at: float


@dataclass(kw_only=True)
class Plan:
    """What happens in a run; seconds from its start."""

    seconds: float = 300.0
    engines: int = 3
    clients: int = 12
    store: str = "redis"
    fsync: str = "everysec"
    files: str = "same"  #: of the engines; or they *differ*
    ways: str = "kill"  #: how engines go, in turn: `WAYS`, with commas; ``hup`` goes with ``stop`` only
    kill_every_s: float = 10.0
    dead_for_s: float = 5.0  #: how long a killed engine stays away
    drain_timeout_s: float = 10.0
    redis_restarts: int = 2  #: the first in order, the second by kill -9, and so on
    redis_away_s: float = 1.0
    cache_down_at_s: float = 60.0
    cache_down_for_s: float = 60.0
    all_down_at_s: float = 0.0  #: when every engine and a single Redis are killed at once; 0: never
    cache_delay_s: float = 0.0  #: before each answer of the last cache
    pause_s: float = 0.0  #: of a client between two tasks
    settle_timeout_s: float = 120.0
    engine_keys: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ways = set(self.ways.split(","))
        if not ways <= set(WAYS) or ("hup" in ways and not ways <= {"hup", "stop"}):
            raise ValueError(f"ways are of {WAYS}, and hup goes with stop only: {self.ways}")


@dataclass
class Report:
    """What came of a run."""

    seconds: float
    seen: Seen
    states: Counter[str]
    lost: list[str]
    purges: int
    again: Counter[str]  #: purges that came again, by the reason
    unexplained: list[str]
    settled_after_s: float
    faults: list[Fault]

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost and everything is explained."""
        wrong = self.lost or self.unexplained or self.seen.wrong or self.seen.not_found
        return bool(self.seen.accepted) and not wrong and self.states["done"] == len(self.seen.accepted)

    def __str__(self) -> str:
        seen = self.seen
        kinds = Counter(fault.kind for fault in self.faults)
        restarts = f"Redis restarted {kinds['redis']} times, {kinds['cache']} cache away"
        gap = f"longest time without an accept {seen.longest_gap_s:.2f} s"
        lines = [
            f"ran {self.seconds:.0f} s: {kinds['engine']} engines away, {restarts}",
            f"accepted {len(seen.accepted)}, settled {self.states['done']}, lost {len(self.lost)}",
            f"states {dict(self.states)}, the last {self.settled_after_s:.1f} s after the load",
            f"purges {self.purges}, again {self.again.total()}: {dict(self.again)}",
            f"answers {dict(seen.answers)}, connections broken {seen.broken}, {gap}",
            f"accept p50/p99 {_percentiles(seen.accept_s)}, GET p50/p99 {_percentiles(seen.read_s)}",
        ]
        for what, found in (
            ("lost", self.lost),
            ("unexplained", self.unexplained),
            ("not found", seen.not_found),
            ("wrong", seen.wrong),
        ):
            lines += [f"{what}: {one}" for one in found[:SEEN_LIMIT]]
        return "\n".join(lines)


def _percentiles(values: list[float]) -> str:
    ordered = sorted(values) or [0.0]
    half, most = (ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99))
    return f"{half * 1000:.1f}/{most * 1000:.1f} ms"


class Run:
    """One run of the checker: starts everything, makes the faults, and looks at what came of it."""

    def __init__(self, plan: Plan, folder: Path, *, say: Callable[[str], None] = lambda text: None) -> None:
        self.plan = plan
        self.faults: list[Fault] = []
        self._folder = folder
        self._say = say
        self._stack = contextlib.ExitStack()
        self._redis: RedisServer | SentinelGroup | RedisCluster | None = None
        self._engines: list[EngineProcess] = []
        self._caches: list[LogCache] = []
        self._knows_all = [plan.files == "same" or number % 2 == 0 for number in range(plan.engines)]
        self._ways = plan.ways.split(",")

    def __enter__(self) -> Self:
        with self._stack:
            if self.plan.store != "sqlite":
                servers = {"redis": RedisServer, "sentinel": SentinelGroup, "cluster": RedisCluster}
                self._redis = self._stack.enter_context(
                    servers[self.plan.store](self._folder, fsync=self.plan.fsync)
                )
            addresses = [f"127.0.0.{number + 1}" for number in range(self.plan.engines)]
            self._caches = [self._stack.enter_context(LogCache(name, addresses)) for name in NODES]
            self._caches[-1].delay_s = self.plan.cache_delay_s
            kind = SupervisedEngine if "hup" in self._ways else EngineProcess
            for number in range(self.plan.engines):
                engine = kind(self._make(number), self._tables(number), **self._keys(number))
                self._stack.callback(engine.stop)
                self._engines.append(engine)
                engine.start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _make(self, number: int) -> Path:
        folder = self._folder / f"engine-{number}"
        folder.mkdir()
        return folder

    def _keys(self, number: int) -> dict[str, Any]:
        name = {} if self._redis is None else {"name": f"engine-{number}"}
        drain_timeout_s = self.plan.drain_timeout_s
        return {"due_s": 30, "drain_timeout_s": drain_timeout_s, **name, **self.plan.engine_keys}

    def _tables(self, number: int) -> str:
        store = f'[store]\nurl = "{self._redis.url}"\n' if self._redis is not None else ""
        caches = self._caches if self._knows_all[number] else self._caches[:-1]
        nodes = "".join(fake_table(cache.url(number), name=cache.name) for cache in caches)
        return store + '[[layer]]\nname = "edge"\n' + nodes

    def check(self) -> Report:
        """Run it and judge."""
        clients = Clients(
            [engine.port for engine in self._engines], count=self.plan.clients, pause_s=self.plan.pause_s
        )
        began = time.monotonic()
        clients.start()
        try:
            self._make_faults(began)
        finally:
            seen = clients.stop()
        ended = time.monotonic()
        self._say(f"{ended - began:6.1f} s  the load is over: {len(seen.accepted)} accepted")
        ports = [engine.port for engine in self._engines if engine.is_up]
        states, lost = wait_until_settled(ports, seen.accepted, timeout_s=self.plan.settle_timeout_s)
        settled_after_s = time.monotonic() - ended
        again, unexplained = self._explain()
        return Report(
            seconds=ended - began,
            seen=seen,
            states=states,
            lost=lost + never_came(seen.accepted, self._caches, known_to_all=self._known_to_all()),
            purges=sum(cache.total for cache in self._caches),
            again=again,
            unexplained=unexplained,
            settled_after_s=settled_after_s,
            faults=self.faults,
        )

    def _known_to_all(self) -> int:
        return len(self._caches) - (self.plan.files == "differ")

    # Faults

    def _make_faults(self, began: float) -> None:
        """Do what the plan says when it is time, one thing after the other."""
        for at_s, act in sorted(self._timetable(), key=lambda entry: entry[0]):
            time.sleep(max(0.0, began + at_s - time.monotonic()))
            act()
            self._say(f"{time.monotonic() - began:6.1f} s  {act.__doc__}")
        time.sleep(max(0.0, began + self.plan.seconds - time.monotonic()))

    def _timetable(self) -> Iterator[tuple[float, Callable[[], None]]]:
        plan = self.plan
        kills = int((plan.seconds - 1) / plan.kill_every_s) if plan.kill_every_s else 0
        for count in range(kills):
            number, at_s = count % plan.engines, (count + 1) * plan.kill_every_s
            down, up = self._engine_acts(number, self._ways[count % len(self._ways)])
            yield at_s, self._fault("engine", number, down, "down")
            yield at_s + plan.dead_for_s, self._fault("engine", number, up, "up")
        for count in range(plan.redis_restarts if self._redis is not None else 0):
            at_s = plan.seconds * (count + 1) / (plan.redis_restarts + 1) + 0.37 * plan.kill_every_s
            down, up = self._redis_acts(is_kill=bool(count % 2))
            yield at_s, self._fault("redis", 0, down, "down")
            yield at_s + plan.redis_away_s, self._fault("redis", 0, up, "up")
        if plan.all_down_at_s:
            yield plan.all_down_at_s, self._all_down_and_up
        if plan.cache_down_for_s:
            at_s = plan.cache_down_at_s
            yield at_s, self._fault("cache", 0, self._caches[0].down, "down")
            yield at_s + plan.cache_down_for_s, self._fault("cache", 0, self._caches[0].up, "up")

    def _all_down_and_up(self) -> None:
        """All are killed, and up again."""
        assert isinstance(self._redis, RedisServer)
        began_at = time.monotonic()
        for engine in self._engines:
            if engine.is_up:
                engine.kill()
        self._redis.kill()
        self._redis.start()
        for engine in self._engines:
            engine.start()
        ended_at = time.monotonic()
        self.faults.append(Fault("redis", 0, began_at, ended_at))
        self.faults += [Fault("engine", number, began_at, ended_at) for number in range(self.plan.engines)]

    def _engine_acts(self, number: int, way: str) -> tuple[Callable[[], object], Callable[[], None]]:
        """Return how an engine goes, and how it comes back: with the other file, where these differ."""
        engine = self._engines[number]

        def change() -> None:
            if self.plan.files == "differ":
                self._knows_all[number] = not self._knows_all[number]
                engine.configure(self._tables(number))

        def start() -> None:
            change()
            engine.start()

        def hang_up() -> None:
            assert isinstance(engine, SupervisedEngine)
            change()
            engine.hang_up()

        if way == "hup":
            return lambda: None, hang_up
        if way == "pause":
            return lambda: os.kill(engine.pid, signal.SIGSTOP), lambda: os.kill(engine.pid, signal.SIGCONT)
        return (engine.kill if way == "kill" else engine.stop), start

    def _redis_acts(self, *, is_kill: bool) -> tuple[Callable[[], None], Callable[[], None]]:
        servers: list[RedisServer] = []

        def down() -> None:
            assert self._redis is not None
            if isinstance(self._redis, RedisServer):
                servers.append(self._redis)
            elif isinstance(self._redis, SentinelGroup):
                servers.append(self._redis.master())
            else:
                servers.append(self._redis.masters()[0])
            if is_kill:
                servers[0].kill()
            else:
                servers[0].stop()

        def up() -> None:
            servers[0].start()

        return down, up

    def _fault(self, kind: str, index: int, act: Callable[[], object], way: str) -> Callable[[], None]:
        """Return *act* that also writes down when it was."""

        def do() -> None:
            if way == "down":
                self.faults.append(Fault(kind, index, time.monotonic(), float("inf")))
            act()
            if way == "up":
                place = max(n for n, one in enumerate(self.faults) if one[:2] == (kind, index))
                self.faults[place] = self.faults[place]._replace(ended_at=time.monotonic())

        do.__doc__ = f"{kind} {index} {way}"
        return do

    # Judging

    def _explain(self) -> tuple[Counter[str], list[str]]:
        """Find the reason of each purge that came again."""
        again: Counter[str] = Counter()
        unexplained = []
        for place, cache in enumerate(self._caches):
            for repeat in cache.repeats:
                reason = self._reason(place, repeat)
                again[reason or "unexplained"] += 1
                if not reason:
                    later_s = repeat.at - repeat.before_at
                    unexplained.append(
                        f"target {repeat.number} at {cache.name}: engine {repeat.before}, "
                        f"{later_s:.3f} s later engine {repeat.sender}"
                    )
        return again, unexplained

    def _reason(self, cache: int, repeat: Repeat) -> str:
        """Return what happened between the two purges, or just before, that made the second one necessary."""

        def was(kind: str, index: int, margin_s: float = 0.0) -> bool:
            return any(
                fault.began_at <= repeat.at and fault.ended_at + margin_s >= repeat.before_at
                for fault in self.faults
                if (fault.kind, fault.number) == (kind, index)
            )

        if was("engine", repeat.before, LEAVING_S if "hup" in self._ways else 0.0):
            whose = "its own" if repeat.before == repeat.sender else "another engine's"
            return f"in the work of an engine that was away, {whose} restart or takeover"
        if was("cache", cache, 1.0):
            return "the cache broke the connection before it answered"
        if was("redis", 0, 5.0):
            return "Redis was away when it was to be written down"
        return ""


def main(argv: Sequence[str]) -> int:
    """Make one run and print it; the exit code is 1 when something was lost or is not explained."""
    parser = argparse.ArgumentParser(prog="tests.rigs.cluster_checker", description=__doc__)
    plan = Plan()
    for name, value in vars(plan).items():
        if name in {"store", "files"}:
            choices = STORES if name == "store" else FILES
            parser.add_argument(f"--{name}", choices=choices, default=value)
        elif isinstance(value, int | float | str):
            flag = "--" + name.removesuffix("_s").replace("_", "-")
            parser.add_argument(flag, dest=name, type=type(value), default=value)
    plan = Plan(**vars(parser.parse_args(argv)))
    with (
        tempfile.TemporaryDirectory(prefix="purgeline-checker-") as folder,
        Run(plan, Path(folder), say=lambda text: print(text, flush=True)) as run,
    ):
        report = run.check()
    print(report)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

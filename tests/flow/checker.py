"""Several engines on one store, and everything that can die dies: accepted = settled, lost = 0.

Clients without pause hand tasks in; caches write down every purge they get. Meanwhile engines are killed one
after the other, Redis is restarted and killed, a cache is away. At the end each task that was accepted has to
be ``done`` for whichever engine is asked, each of its targets has to have reached every cache, and each purge
that came twice has to have a reason: a fault between the two that explains it.

``python -m tests.flow.checker --seconds 300 --engines 3`` makes a long run and prints what it saw; the
suite's version is in ``test_cluster_checker``.

A client that gets no answer, or 503, does what a client should: it sends the same id again, to another
engine.
"""

import argparse
import asyncio
import contextlib
import itertools
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

from tests.fakes.log_cache import LogCache, Repeat
from tests.fakes.redis_servers import RedisCluster, RedisServer, SentinelGroup
from tests.flow.engine_process import EngineProcess, fake_table

SITE = "img.example.com"
NODES = ("edge-1", "edge-2")
STORES = ("sqlite", "redis", "sentinel", "cluster")

SEEN_LIMIT = 10  #: how many of what is wrong are shown


class Task(NamedTuple):
    """A task that was accepted: its targets are the *numbers*."""

    id: str
    numbers: range


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
    kill_every_s: float = 10.0
    dead_for_s: float = 5.0  #: how long a killed engine stays away
    redis_restarts: int = 2  #: the first in order, the second by kill -9, and so on
    redis_away_s: float = 1.0
    cache_down_at_s: float = 60.0
    cache_down_for_s: float = 60.0
    pause_s: float = 0.0  #: of a client between two tasks
    settle_timeout_s: float = 120.0
    engine_keys: dict[str, object] = field(default_factory=dict)


@dataclass
class Seen:
    """What the clients saw."""

    accepted: list[Task] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    broken: int = 0  #: connections that ended without an answer
    not_found: list[str] = field(default_factory=list)  #: accepted tasks that an engine did not know
    wrong: list[str] = field(default_factory=list)  #: answers that no client should get
    accept_s: list[float] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)
    longest_gap_s: float = 0.0  #: without any task accepted
    last_accepted_at: float = 0.0


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
            f"ran {self.seconds:.0f} s: {kinds['engine']} engines killed, {restarts}",
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


class Clients:
    """Clients without pause on one thread; half of them ask for their tasks, too, any engine.

    Args:
        ports: of the engines.
        count: how many.
        pause_s: between two tasks of a client.
    """

    def __init__(self, ports: Sequence[int], *, count: int, pause_s: float = 0.0) -> None:
        self.seen = Seen()
        self._ports = list(ports)
        self._count = count
        self._pause_s = pause_s
        self._ids = itertools.count()
        self._next_target = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.seen.last_accepted_at = time.monotonic()
        self._thread.start()

    def stop(self) -> Seen:
        """Let every client have its last task accepted; return what they saw."""
        self._is_over.set()
        self._thread.join(60)
        if self._thread.is_alive():
            self.seen.wrong.append("a client still waits, 60 s after the end")
        return self.seen

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._work())

    async def _work(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._count)))

    async def _client(self, number: int) -> None:
        wire = Wire(self._ports, number)
        chooser = random.Random(number)
        while not self._is_over.is_set():
            count = chooser.randint(1, 3)
            task = Task(f"t{next(self._ids)}", range(self._next_target, self._next_target + count))
            self._next_target += count
            await self._hand_in(wire, task)
            if number % 2 and self.seen.accepted:
                await self._look_up(wire, chooser.choice(self.seen.accepted[-2000:]))
            if self._pause_s:
                await asyncio.sleep(self._pause_s)
        wire.close()

    async def _hand_in(self, wire: "Wire", task: Task) -> None:
        targets = [f"http://{SITE}/{number}" for number in task.numbers]
        body = json.dumps({"id": task.id, "targets": targets}).encode()
        seen = self.seen
        began = time.monotonic()
        while True:
            status, text = await wire.ask(b"POST", b"/v1/engine/task", body)
            if status in {200, 202}:
                break
            if status == 0:
                seen.broken += 1
            elif status != 503:
                seen.wrong.append(f"{task.id}: {status} {text[:200]!r}")
                return
            else:
                seen.answers[503] += 1
            wire.go_on()
            await asyncio.sleep(0.05)
        now = time.monotonic()
        seen.answers[status] += 1
        seen.accepted.append(task)
        seen.accept_s.append(now - began)
        seen.longest_gap_s = max(seen.longest_gap_s, now - seen.last_accepted_at)
        seen.last_accepted_at = now

    async def _look_up(self, wire: "Wire", task: Task) -> None:
        began = time.monotonic()
        status, _ = await wire.ask(b"GET", f"/v1/engine/task/{task.id}".encode())
        if status == 200:
            self.seen.read_s.append(time.monotonic() - began)
        elif status == 404:
            self.seen.not_found.append(f"{task.id} at engine {wire.place}")


class Wire:
    """A client's connection to one of the engines, and to the next one when that is gone."""

    def __init__(self, ports: Sequence[int], place: int) -> None:
        self._ports = ports
        self.place = place % len(ports)
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
            self._stream = None

    def go_on(self) -> None:
        """Ask another engine from now on."""
        self.close()
        self.place = (self.place + 1) % len(self._ports)

    async def ask(self, method: bytes, path: bytes, body: bytes = b"") -> tuple[int, bytes]:
        """Return status and body; status 0: no answer."""
        try:
            async with asyncio.timeout(20):
                return await self._ask(method, path, body)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.close()
            return 0, b""

    async def _ask(self, method: bytes, path: bytes, body: bytes) -> tuple[int, bytes]:
        if self._stream is None:
            self._stream = await asyncio.open_connection("127.0.0.1", self._ports[self.place])
        reader, writer = self._stream
        writer.write(
            b"%b %b HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n\r\n%b" % (method, path, len(body), body)
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        answer = await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
        if "connection: close" in head:
            self.close()
        return int(head.split(" ", 2)[1]), answer


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

    def __enter__(self) -> Self:
        with self._stack:
            if self.plan.store != "sqlite":
                kind = {"redis": RedisServer, "sentinel": SentinelGroup, "cluster": RedisCluster}
                self._redis = self._stack.enter_context(
                    kind[self.plan.store](self._folder, fsync=self.plan.fsync)
                )
            addresses = [f"127.0.0.{number + 1}" for number in range(self.plan.engines)]
            self._caches = [self._stack.enter_context(LogCache(name, addresses)) for name in NODES]
            for number in range(self.plan.engines):
                engine = EngineProcess(self._make(number), self._tables(number), **self._keys(number))
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
        return {"due_s": 30, "drain_timeout_s": 10, **name, **self.plan.engine_keys}

    def _tables(self, number: int) -> str:
        store = f'[store]\nurl = "{self._redis.url}"\n' if self._redis is not None else ""
        nodes = "".join(fake_table(cache.url(number), name=cache.name) for cache in self._caches)
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
        states, lost = self._wait_until_settled(seen.accepted)
        settled_after_s = time.monotonic() - ended
        again, unexplained = self._explain()
        return Report(
            seconds=ended - began,
            seen=seen,
            states=states,
            lost=lost + self._missing(seen.accepted),
            purges=sum(cache.total for cache in self._caches),
            again=again,
            unexplained=unexplained,
            settled_after_s=settled_after_s,
            faults=self.faults,
        )

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
            yield at_s, self._fault("engine", number, self._engines[number].kill, "down")
            start = self._engines[number].start
            yield at_s + plan.dead_for_s, self._fault("engine", number, start, "up")
        for count in range(plan.redis_restarts if self._redis is not None else 0):
            at_s = plan.seconds * (count + 1) / (plan.redis_restarts + 1) + 0.37 * plan.kill_every_s
            down, up = self._redis_acts(is_kill=bool(count % 2))
            yield at_s, self._fault("redis", 0, down, "down")
            yield at_s + plan.redis_away_s, self._fault("redis", 0, up, "up")
        if plan.cache_down_for_s:
            at_s = plan.cache_down_at_s
            yield at_s, self._fault("cache", 0, self._caches[0].down, "down")
            yield at_s + plan.cache_down_for_s, self._fault("cache", 0, self._caches[0].up, "up")

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

    def _fault(self, kind: str, index: int, act: Callable[[], None], way: str) -> Callable[[], None]:
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

    def _wait_until_settled(self, accepted: Sequence[Task]) -> tuple[Counter[str], list[str]]:
        """Ask for each accepted task, each time another engine, until it is settled or time is up."""
        until = time.monotonic() + self.plan.settle_timeout_s
        states = dict.fromkeys((task.id for task in accepted), "")

        async def ask(wire: Wire, names: list[str]) -> None:
            for name in names:
                status, text = await wire.ask(b"GET", b"/v1/engine/task/" + name.encode())
                states[name] = str(json.loads(text)["state"]) if status == 200 else f"status {status}"

        async def ask_all() -> None:
            ports = [engine.port for engine in self._engines if engine.is_up]
            while True:
                left = [name for name, state in states.items() if state not in {"done", "failed"}]
                if not left or time.monotonic() > until:
                    return
                wires = [Wire(ports, number) for number in range(8)]
                await asyncio.gather(*(ask(wire, left[place::8]) for place, wire in enumerate(wires)))
                for wire in wires:
                    wire.close()
                ports.append(ports.pop(0))
                await asyncio.sleep(0.2)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(ask_all())
        lost = [f"{name}: {state}" for name, state in states.items() if state != "done"]
        return Counter(states.values()), lost

    def _missing(self, accepted: Sequence[Task]) -> list[str]:
        """Return the targets of accepted tasks that a cache has not been asked to purge."""
        return [
            f"{task.id}: target {number} never came to {cache.name}"
            for task in accepted
            for number in task.numbers
            for cache in self._caches
            if not cache.has(number)
        ]

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

        if was("engine", repeat.before):
            whose = "its own" if repeat.before == repeat.sender else "another engine's"
            return f"in the work of a killed engine, {whose} restart or takeover"
        if was("cache", cache, 1.0):
            return "the cache broke the connection before it answered"
        if was("redis", 0, 5.0):
            return "Redis was away when it was to be written down"
        return ""


def main(argv: Sequence[str]) -> int:
    """Make one run and print it; the exit code is 1 when something was lost or is not explained."""
    parser = argparse.ArgumentParser(prog="tests.flow.checker", description=__doc__)
    plan = Plan()
    for name, value in vars(plan).items():
        if name == "store":
            parser.add_argument("--store", choices=STORES, default=plan.store)
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

"""Clients of several engines on one store, and what became of the tasks they handed in.

A client that gets no answer, or 503, does what a client should: it sends the same id again, to another
engine.
"""

import asyncio
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

import uvloop

from tests.fakes.log_cache import LogCache

SITE = "img.example.com"


class Task(NamedTuple):
    """A task that was accepted: its targets are the *numbers*."""

    id: str
    numbers: range
    total: int = 0  #: subtasks, as the engine said when it accepted the task


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

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

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
        seen.accepted.append(task._replace(total=json.loads(text)["total"]))
        seen.accept_s.append(now - began)
        seen.longest_gap_s = max(seen.longest_gap_s, now - seen.last_accepted_at)
        seen.last_accepted_at = now

    async def _look_up(self, wire: "Wire", task: Task) -> None:
        began = time.monotonic()
        status, text = await wire.ask(b"GET", f"/v1/engine/task/{task.id}".encode())
        if status == 200:
            self.seen.read_s.append(time.monotonic() - began)
            if wrong := _other_total(task, text):
                self.seen.wrong.append(f"{task.id}: {wrong}")
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


def _other_total(task: Task, text: bytes) -> str:
    """Say what is wrong with a task's total, which never changes; empty: nothing."""
    total = json.loads(text)["total"]
    return "" if total == task.total else f"total {total}, and it was accepted with {task.total}"


def wait_until_settled(
    ports: Sequence[int], accepted: Sequence[Task], *, timeout_s: float
) -> tuple[Counter[str], list[str]]:
    """Ask for each accepted task, each time another engine, until it is settled or time is up.

    Returns:
        How many are in which state, and which are not done, or have another total than they had.
    """
    until = time.monotonic() + timeout_s
    tasks = {task.id: task for task in accepted}
    states = dict.fromkeys(tasks, "")

    async def ask(wire: Wire, names: list[str]) -> None:
        for name in names:
            status, text = await wire.ask(b"GET", b"/v1/engine/task/" + name.encode())
            if status == 200:
                states[name] = _other_total(tasks[name], text) or str(json.loads(text)["state"])
            else:
                states[name] = f"status {status}"

    async def ask_all() -> None:
        for turn in itertools.count():
            left = [name for name, state in states.items() if state not in {"done", "failed"}]
            if not left or time.monotonic() > until:
                return
            wires = [Wire(ports, turn + number) for number in range(8)]
            await asyncio.gather(*(ask(wire, left[place::8]) for place, wire in enumerate(wires)))
            for wire in wires:
                wire.close()
            await asyncio.sleep(0.2)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask_all())
    return Counter(states.values()), [f"{name}: {state}" for name, state in states.items() if state != "done"]


def never_came(
    accepted: Sequence[Task], caches: Sequence[LogCache], *, known_to_all: int | None = None
) -> list[str]:
    """Return the targets of accepted tasks that a cache has not been asked to purge.

    Args:
        accepted: the tasks.
        caches: all of them.
        known_to_all: so many, the first ones, are in every engine's file, and get every task; the others get
            the tasks whose total says so. Left out: all are.
    """
    least = len(caches) if known_to_all is None else known_to_all
    return [
        f"{task.id}: target {number} never came to {cache.name}"
        for task in accepted
        for number in task.numbers
        for cache in caches[: max(least, task.total // len(task.numbers))]
        if not cache.has(number)
    ]

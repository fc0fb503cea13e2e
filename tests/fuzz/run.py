"""Runs of both fuzzers against a real engine, and what must hold throughout."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from release.lab.caches import free_port
from tests.fuzz import groups
from tests.fuzz.bus import bus_engine, publish
from tests.fuzz.cases import TOKEN, Cases, others, purges, request, tasks
from tests.fuzz.datagrams import SECRET, DatagramClient, Datagrams
from tests.fuzz.prober import Probes, probing
from tests.fuzz.triggers import cdni_door, post_triggers
from tests.fuzz.wire import STATUS, Client, HangError, QuickNode, answers, last_purge
from tests.rigs.door import access, door_table
from tests.rigs.engine_process import EngineProcess, fake_table

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

CLIENTS: Final = 16
_FAULTS_MAX: Final = 20  #: then a run ends
_GROWTH_MAX: Final = 64 * 1024 * 1024  #: bytes of memory, after the first quarter of the cases
_MASKED: Final = re.compile(
    rb'"(?:task_id":"[^"]*|(?:created|updated|due|settled)_at":[0-9.e+]+|timestamp":[0-9.]+|uptime_s":[0-9.]+)'
)
_TASKS: Final = re.compile(rb"HTTP/1\.1 200 [^\r\n]*\r\n(?:[^\r\n]+\r\n)*?Purgeline-Task: ([^\r\n]+)\r\n")
_IS_ONE: Final = re.compile(rb'\{"reports":\[\{"(?:task_id|ignored)":"(?:[^"\\]|\\.)*"\}\]\}')
_BEHIND_LAST: Final = b"Data after `Connection: close`"
"""What aiohttp says of a request with bytes behind it that asked for the end; the fast lane answers it."""
_COMPARED: Final = (b"content-type", b"server", b"allow", b"www-authenticate", b"retry-after")


@dataclass
class Report:
    """What a run found."""

    seed: int
    cases: int = 0
    connections: int = 0
    took_s: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    probes: Probes = field(default_factory=Probes)  #: good requests in between
    outcomes: dict[str, int] = field(default_factory=dict)  #: of datagrams
    memory: list[int] = field(default_factory=list)  #: bytes, at each tenth of the run

    def __str__(self) -> str:
        counts = [*sorted(self.statuses.items()), *sorted(self.outcomes.items())]
        counted = ", ".join(f"{what}: {count}" for what, count in counts)
        memory = " ".join(f"{size / 2**20:.0f}" for size in self.memory)
        return (
            f"seed {self.seed}: {self.cases} cases on {self.connections} connections in {self.took_s:.0f} s; "
            f"{counted}; {self.probes}; "
            f"memory {memory} MiB; {len(self.faults)} faults"
        )


class Run:
    """One engine, and the clients that send it cases.

    Args:
        engine: is running.
        report: is filled.
        answer_within_s: a good request must be answered by then.
    """

    def __init__(self, engine: EngineProcess, report: Report, *, answer_within_s: float) -> None:
        self._engine = engine
        self._report = report
        self._answer_within_s = answer_within_s
        self._next = 0

    async def all(
        self, count: int, work: Callable[[int], Coroutine[object, object, None]], clients: int
    ) -> None:
        """Have *work* done for each number below *count*, some at a time, with good requests in between."""
        began = time.monotonic()
        tenth = max(1, count // 10)

        async def worker() -> None:
            while self._next < count and len(self._report.faults) < _FAULTS_MAX:
                number, self._next = self._next, self._next + 1
                if number % tenth == 0:
                    self._report.memory.append(self._memory())
                try:
                    await work(number)
                except (HangError, OSError) as exc:
                    self.fault(number, repr(exc))
                self._report.cases += 1

        async with probing(self._engine.port, self._engine.pid) as self._report.probes:
            await asyncio.gather(*(worker() for _ in range(clients)))
        self._check_probes()
        self._report.took_s = time.monotonic() - began
        self._check_engine()

    def fault(self, number: int, what: str, case: bytes = b"") -> None:
        """Note what should not have been."""
        shown = repr(case if len(case) < 3000 else case[:3000] + b"...") if case else ""
        self._report.faults.append(f"case {number}: {what}\n  {shown}")

    def count(self, number: int, case: bytes, answered: bytes) -> None:
        """Count what was answered; no 5xx but 503 may be among it."""
        for text in STATUS.findall(answered):
            status = int(text)
            self._report.statuses[status] = self._report.statuses.get(status, 0) + 1
            if status >= 500 and status != 503:
                self.fault(number, f"answered {answered!r}", case)

    def _check_probes(self) -> None:
        for number, probe in enumerate(self._report.probes.found):
            which = f"good request {number}"
            if not probe.answered.startswith("HTTP/1.1 202 "):
                self._report.faults.append(f"{which} was answered {probe.answered!r}")
            elif probe.own_s > self._answer_within_s:
                self._report.faults.append(
                    f"{which} was answered after {probe.took_s:.3f} s, {probe.own_s:.3f} s its own"
                )

    def _memory(self) -> int:
        for line in Path(f"/proc/{self._engine.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def _check_engine(self) -> None:
        if not self._engine.is_up:
            self.fault(0, "the engine has ended")
            return
        memory = [*self._report.memory, self._memory()]
        self._report.memory = memory
        early = max(memory[: max(1, len(memory) // 4 + 1)])
        if memory[-1] > early + _GROWTH_MAX:
            self.fault(0, f"the engine's memory grew from {early} to {memory[-1]} bytes")
        before, found, after = self._engine.log().partition("Traceback")
        if found:
            self.fault(0, f"a traceback in the log:\n{before[-1000:]}{found}{after[:3000]}")


def run(folder: Path, kind: str, *, seed: int, cases: int, answer_within_s: float) -> Report:
    """Fuzz an engine of its own; return what was found.

    Args:
        folder: for the engine's data.
        kind: one of `KINDS`.
        seed: of the cases.
        cases: how many.
        answer_within_s: a good request in between must be answered by then.
    """

    async def scenario() -> Report:
        report = Report(seed)
        loop = asyncio.get_running_loop()
        node = await loop.create_server(QuickNode, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{node.sockets[0].getsockname()[1]}"
        tables = _tables(url)
        with bus_engine(folder, tables) if kind == "redis" else _engine(folder, tables) as engine:
            fuzzed = Run(engine, report, answer_within_s=answer_within_s)
            await KINDS[kind](fuzzed, report, engine, seed, cases)
        node.close()
        return report

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(scenario())


def _tables(url: str) -> str:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    tables = (
        f'[[auth.tokens]]\nname = "fuzz"\nsha256 = "{digest}"\nscopes = ["submit", "read", "admin"]\n'
        '[[site]]\nhost = "*"\n' + fake_table(url, name="edge-1", key_mode="ban")
    )
    return tables + access("*.example.com", "b.org", name="cms", sha256="0" * 64).partition("[[site]]")[0]


def _engine(folder: Path, tables: str) -> EngineProcess:
    tables += door_table(free_port(), names=["varnish"], default_hosts=["img.example.com"])
    keys = folder / "htcp.keys"
    keys.write_text(f"fuzz {base64.b64encode(SECRET).decode()}\n")
    keys.chmod(0o600)
    tables += door_table(free_port(), kind="htcp")
    tables += door_table(free_port(), kind="htcp", key_file=str(keys)) + cdni_door()
    return EngineProcess(folder, tables, header_timeout_s=60, body_timeout_s=60)


async def _send(fuzzed: Run, report: Report, engine: EngineProcess, seed: int, cases: int) -> None:
    made = Cases(seed, tasks() * 2 + others())
    free = [Client(engine.port, is_handed=number % 2 == 1) for number in range(CLIENTS)]
    clients = list(free)

    async def work(number: int) -> None:
        case = made.case(number)
        client = free.pop()
        try:
            fuzzed.count(number, case, await client.send(case, number))
        except HangError as exc:
            fuzzed.fault(number, repr(exc), case)
        finally:
            free.insert(0, client)

    await fuzzed.all(cases, work, CLIENTS)
    report.connections = sum(client.connections for client in clients)


async def _compare(fuzzed: Run, report: Report, engine: EngineProcess, seed: int, cases: int) -> None:
    port = engine.port
    made = Cases(seed, tasks(), is_rough=False)
    free = [(Client(port, is_handed=False), Client(port, is_handed=True)) for _ in range(CLIENTS // 2)]
    pairs = list(free)

    async def work(number: int) -> None:
        case = made.case(number)
        pair = free.pop()
        try:
            fast, slow = await asyncio.gather(*(client.send(case, number) for client in pair))
            fuzzed.count(number, case, fast)
            if (one := compared(fast)) != (other := compared(slow)) and _BEHIND_LAST not in slow:
                fuzzed.fault(number, f"the lanes differ:\n  fast {one!r}\n  slow {other!r}", case)
        except HangError as exc:
            fuzzed.fault(number, repr(exc), case)
        finally:
            free.insert(0, pair)

    await fuzzed.all(cases, work, CLIENTS // 2)
    report.connections = sum(client.connections for pair in pairs for client in pair)


async def _purge(fuzzed: Run, report: Report, engine: EngineProcess, seed: int, cases: int) -> None:
    """Send cases to the door; what was answered with an error must not have been stored."""
    made = purges(seed)
    port = int(door_port_of(engine))
    free = [Client(port, last=last_purge) for _ in range(CLIENTS)]
    clients = list(free)
    task_ids: set[bytes] = set()

    async def work(number: int) -> None:
        case = made.case(number)
        client = free.pop()
        try:
            answered = await client.send(case, number)
            fuzzed.count(number, case, answered)
            for ids in _TASKS.findall(answered):
                task_ids.update(ids.split(b", "))
        except HangError as exc:
            fuzzed.fault(number, repr(exc), case)
        finally:
            free.insert(0, client)

    before = accepted(engine)
    await fuzzed.all(cases, work, CLIENTS)
    report.connections = sum(client.connections for client in clients)
    probed = sum(probe.answered.startswith("HTTP/1.1 202") for probe in report.probes.found)
    stored = accepted(engine) - before - probed
    if stored != len(task_ids):
        fuzzed.fault(cases, f"{stored} tasks are stored, {len(task_ids)} were answered so")


async def _groups(fuzzed: Run, report: Report, engine: EngineProcess, seed: int, cases: int) -> None:
    """Report fields, each of a host of its own, so that none waits for another; none may be misread."""
    free = [Client(engine.port) for _ in range(CLIENTS)]
    clients = list(free)

    async def work(number: int) -> None:
        value = groups.value(seed, number)
        one = {"host": f"{number}.example.com", "method": "POST", "status": 200, "groups": value}
        case = request(json.dumps({"reports": [one]}).encode(), start="POST /v1/engine/group-reports")
        client = free.pop()
        try:
            answered = await client.send(case, number)
        except HangError as exc:
            fuzzed.fault(number, repr(exc), case)
            return
        finally:
            free.insert(0, client)
        fuzzed.count(number, case, answered)
        if why := groups.fault(value):
            fuzzed.fault(number, why, case)
        if (b'"task_id"' in answered) != (groups.keys_of(value) is not None) or not _IS_ONE.search(answered):
            fuzzed.fault(number, f"answered {answered!r}", case)

    before = accepted(engine)
    await fuzzed.all(cases, work, CLIENTS)
    report.connections = sum(client.connections for client in clients)
    probed = sum(probe.answered.startswith("HTTP/1.1 202") for probe in report.probes.found)
    purged = sum(groups.keys_of(groups.value(seed, number)) is not None for number in range(cases))
    if accepted(engine) - before - probed != purged:
        fuzzed.fault(
            cases, f"{accepted(engine) - before - probed} tasks are stored, {purged} fields are lists"
        )


def door_port_of(engine: EngineProcess) -> str:
    """Return the port of the only door."""
    return engine.config_path.read_text().split("[[door]]")[1].split('"127.0.0.1:')[1].split('"')[0]


def accepted(engine: EngineProcess) -> int:
    """Return how many tasks the engine has accepted."""
    return int(float(metrics(engine).split("\npurgeline_tasks_accepted_total ")[1].split("\n")[0]))


async def _htcp(fuzzed: Run, report: Report, engine: EngineProcess, seed: int, cases: int) -> None:
    """Send datagrams to the HTCP doors: each is counted, and answers are such that clients can read them."""
    made = Datagrams(seed)
    plain, keyed = htcp_ports_of(engine)
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(CLIENTS):
        _, client = await loop.create_datagram_endpoint(DatagramClient, local_addr=("127.0.0.1", 0))
        clients.append(client)
    free = list(clients)
    sent = 0

    async def work(number: int) -> None:
        nonlocal sent
        client = free.pop()
        try:
            case = made.case(number), plain
            if number % 4 == 0:
                case = made.signed(number, client.here, keyed), keyed
            await client.send([case], plain)
            sent += bool(case[0])  # asyncio sends no empty ones
        finally:
            free.insert(0, client)
        if client.faults:
            fuzzed.fault(number, client.faults.pop(), case[0])

    before = Counter(datagrams(engine))
    await fuzzed.all(cases, work, CLIENTS)
    for client in clients:
        await client.close()
    sent += sum(client.pings for client in clients)
    expected = sent + sum(before.values())
    deadline = time.monotonic() + 10
    while sum(datagrams(engine).values()) != expected and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    report.outcomes = dict(Counter(datagrams(engine)) - before)
    report.connections = len(clients)
    if (counted := sum(report.outcomes.values())) != sent:
        fuzzed.fault(cases, f"{sent} datagrams were sent, {counted} were counted: {report.outcomes}")


def htcp_ports_of(engine: EngineProcess) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return the address of the HTCP door, and of the one that wants signatures."""
    ports = re.findall(r'kind = "htcp"\nlisten = "127.0.0.1:([0-9]+)"', engine.config_path.read_text())
    plain, keyed = (("127.0.0.1", int(port)) for port in ports)
    return plain, keyed


def datagrams(engine: EngineProcess) -> dict[str, int]:
    """Return how many datagrams came to what, those that the kernel dropped among them."""
    page = metrics(engine)
    found = re.findall(r'^purgeline_datagrams_total\{outcome="(\w+)"\} ([0-9.e+]+)$', page, re.MULTILINE)
    counts = {outcome: int(float(count)) for outcome, count in found}
    dropped = int(float(page.split("\npurgeline_datagrams_dropped_total ")[1].split("\n")[0]))
    return {**counts, "dropped": dropped} if dropped else counts


def metrics(engine: EngineProcess) -> str:
    """Return its Prometheus page."""
    return engine.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})[2].decode()


KINDS: Final = {
    "rules": _send,
    "lanes": _compare,
    "door": _purge,
    "cdni": post_triggers,
    "htcp": _htcp,
    "redis": publish,
    "groups": _groups,
}


def compared(answered: bytes) -> list[tuple[bytes, ...]]:
    """Return what both lanes must say alike: statuses, headers that matter, bodies without ids and times.

    The same id again is 200 where it was 202 before: which lane was first does not matter.
    """
    found = []
    for answer in answers(answered):
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
        status = head[9:12]
        if status in {b"200", b"202"}:
            status, body = b"2xx", b""
        headers = [lines.get(name, b"").strip() for name in _COMPARED]
        found.append((status, *headers, _MASKED.sub(b"", body)))
    return found

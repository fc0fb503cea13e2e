"""A fleet of simulated caches in one process, each at a loopback address of its own: for `tests.rigs.fleet`.

Each node holds objects, numbered URLs in the version that the origin had when they came, and answers purges
in the shapes of real caches (`tests.model.answers`), with the mark of the templates but for half of the ATS
and Squid, whose answers tell by themselves. A purged object is fetched again at once by a visitor, every
other time. Visitors get the version that is held; those of the origin, which listens beside them, its own.
The origin's versions are in a file that is mapped.

``python -m tests.rigs.fleet_nodes ORIGIN COUNT URLS PORT FIRST`` runs COUNT nodes from the number FIRST on,
and says ``ready`` on its output; then a line on its input makes a node ``down NUMBER``, ``sick``, ``slow``,
``refusing``, ``up``; ``report WANTED`` has it print a line of JSON. With FIRST 0 it is the origin, too.
"""

import asyncio
import json
import mmap
import random
import re
import resource
import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, cast

import uvloop

from tests.model.answers import done, error
from tests.model.caches import Act, Cache, Origin

HOST: Final = "img.example.com"
ORIGIN: Final = "127.21.0.1"
DRIVERS: Final = ("varnish", "ats", "nginx", "squid")
MODES: Final = ("down", "sick", "slow", "refusing", "up")
SLOW_S: Final = 0.7
NOTHING: Final = 0  #: a version: nothing is held
_PROBE: Final = b".purgeline-probe"
_NONCE: Final = re.compile(rb"\r\npurgeline-nonce: *([0-9a-f]+)", re.IGNORECASE)


def address_of(number: int) -> str:
    """Return the address of a node."""
    return f"127.20.{number // 250}.{number % 250 + 1}"


def driver_of(number: int) -> str:
    """Return the driver of a node."""
    return DRIVERS[number % len(DRIVERS)]


def name_of(number: int) -> str:
    """Return the name of a node."""
    return f"edge-{number:05}"


class Versions:
    """The origin's versions of all URLs, in a file that two processes map."""

    def __init__(self, path: Path, urls: int) -> None:
        if not path.exists():
            path.write_bytes(array("I", [1] * urls).tobytes())
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 4 * urls)
        self.now = memoryview(self._memory).cast("I")


class FleetNode:
    """One cache.

    Args:
        number: of the node.
        versions: the origin's.
        held: the versions that it holds, by number of the URL.
    """

    def __init__(self, number: int, versions: Versions, held: "array[int]") -> None:
        self.number = number
        self.mode = "up"
        self.connections: set[NodeConnection] = set()
        self.purges = 0
        self.answers: Counter[str] = Counter()
        self.server: asyncio.Server | None = None
        self._versions = versions.now
        self._held = held
        self._rng = random.Random(number)
        driver = driver_of(number)
        is_marked = driver in {"varnish", "nginx"} or number // len(DRIVERS) % 2 == 0
        self._cache = Cache(name_of(number), driver, Origin(0.0), [], rng=self._rng, is_marked=is_marked)
        self._plain = [self._answer(count, "", "") for count in (0, 1)]

    def _answer(self, count: int, nonce: str, url: str) -> bytes:
        return done(self._cache, nonce, count, Act(0.0, "url", url))

    def answer(self, head: bytes) -> bytes:
        """Do what a request asks for and return the answer."""
        method, path, _ = head.split(b" ", 2)
        if self.mode in {"sick", "refusing"}:
            self.answers[self.mode] += 1
            status = (503, "Service Unavailable") if self.mode == "sick" else (403, "Forbidden")
            return error(self._cache, self._nonce(head), *status)
        if path.endswith(_PROBE):
            self.answers["probe"] += 1
            return self._answer(0, self._nonce(head), "")
        number = int(path.rpartition(b"/")[2])
        if method == b"GET":
            return self._visit(number)
        count = self._purge(number)
        self.answers["purge"] += 1
        if (count and self._cache.driver == "nginx") or b"urgeline-Nonce" in head:
            return self._answer(count, self._nonce(head), f"http://{HOST}/{number}")
        return self._plain[count]

    def _visit(self, number: int) -> bytes:
        """Serve an object as a visitor gets it: what is not held is fetched."""
        self.answers["visit"] += 1
        if self._held[number] == NOTHING:
            self._held[number] = self._versions[number]
        return page(self._held[number])

    def _nonce(self, head: bytes) -> str:
        found = _NONCE.search(head)
        return found[1].decode() if found else ""

    def _purge(self, number: int) -> int:
        """Drop an object, and have a visitor ask for it; return how many went."""
        was_held = self._held[number] != NOTHING
        self._held[number] = self._versions[number] if self._rng.random() < 0.5 else NOTHING
        return int(was_held)

    def stale(self, wanted: Sequence[int]) -> list[int]:
        """Return the URLs of which it holds a version before the wanted one."""
        return [
            number
            for number, version in enumerate(wanted)
            if self._held[number] != NOTHING and self._held[number] < version
        ]


def page(version: int) -> bytes:
    """Return an answer with an object in a version."""
    body = b"version %d" % version
    kind = b"Content-Type: text/plain\r\nCache-Control: max-age=3600\r\n"
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (kind, len(body), body)


class OriginConnection(asyncio.Protocol):
    """One connection to the origin."""

    def __init__(self, versions: Versions) -> None:
        self._now = versions.now
        self._rest = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for head in heads:
            number = int(head.split(b" ", 2)[1].rpartition(b"/")[2])
            self._transport.write(page(self._now[number]))


class NodeConnection(asyncio.Protocol):
    """One connection of an engine; answers go out in order, also when the node becomes slow."""

    def __init__(self, node: FleetNode) -> None:
        self._node = node
        self._rest = b""
        self._late = 0  # batches of answers that wait
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class
        self._node.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._node.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        answers = b"".join([self._node.answer(head) for head in heads])
        if self._late or self._node.mode == "slow":
            self._late += 1
            asyncio.get_running_loop().call_later(SLOW_S, self._send_late, answers)
        elif answers:
            self.transport.write(answers)

    def _send_late(self, answers: bytes) -> None:
        self._late -= 1
        if not self.transport.is_closing():
            self.transport.write(answers)


class Fleet:
    """All nodes.

    Args:
        versions: the origin's.
        count: of nodes.
        urls: how many there are; each node holds all of them at first.
        port: the same for all.
        first: the number of the first one.
    """

    def __init__(self, versions: Versions, count: int, urls: int, port: int, *, first: int = 0) -> None:
        self._port = port
        self._first = first
        numbers = range(first, first + count)
        self.nodes = [FleetNode(number, versions, array("I", [1] * urls)) for number in numbers]

    async def set_mode(self, number: int, mode: str) -> None:
        """Change what a node does."""
        node = self.nodes[number - self._first]
        node.mode = mode
        if mode == "down" and node.server is not None:
            node.server.close()
            node.server = None
            for connection in list(node.connections):
                connection.transport.abort()
        elif mode != "down" and node.server is None:
            loop = asyncio.get_running_loop()
            make = partial(NodeConnection, node)
            node.server = await loop.create_server(make, address_of(number), self._port, backlog=64)

    def report(self, wanted: Sequence[int]) -> dict[str, object]:
        """Return what came of a run; *wanted* is the oldest version of each URL that may be left."""
        stale = {name_of(node.number): found for node in self.nodes if (found := node.stale(wanted))}
        answers: Counter[str] = Counter()
        for node in self.nodes:
            answers.update(node.answers)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "stale": stale,
            "answers": dict(answers),
            "connections": sum(len(node.connections) for node in self.nodes),
            "cpu_s": usage.ru_utime + usage.ru_stime,
        }


async def _run(origin: Path, count: int, urls: int, port: int, first: int) -> None:
    versions = Versions(origin, urls)
    fleet = Fleet(versions, count, urls, port, first=first)
    for number in range(first, first + count):
        await fleet.set_mode(number, "up")
    if not first:
        await asyncio.get_running_loop().create_server(lambda: OriginConnection(versions), ORIGIN, port)
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    print("ready", flush=True)
    while line := await reader.readline():
        word, _, rest = line.decode().partition(" ")
        if word == "report":
            print(json.dumps(fleet.report(json.loads(rest))), flush=True)
        else:
            await fleet.set_mode(int(rest), word)


def main(arguments: Sequence[str]) -> None:
    """Serve until the input ends."""
    origin, *numbers = arguments
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        count, urls, port, first = map(int, numbers)
        runner.run(_run(Path(origin), count, urls, port, first))


if __name__ == "__main__":
    main(sys.argv[1:])

"""The prober of a fuzzing run: good requests from a process of its own, which has nothing else to do.

What it measures is the engine: the fuzzing client's own turns are not in it, and neither is what the engine's
loop and the prober wait for a processor that others have. ``python -m tests.fuzz.prober PORT PID`` sends one
request at a time until its standard input ends, and prints a line for each: seconds in all, seconds without
those waits, and the status line.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.fuzz.cases import request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PAUSE_S: Final = 0.05  #: between two requests
_HANG_S: Final = 30.0
_ROOT: Final = Path(__file__).resolve().parents[2]
GOOD: Final = request(b'{"targets":["http://img.example.com/good"]}')


@dataclass(frozen=True)
class Probe:
    """One good request."""

    took_s: float
    own_s: float  #: without what the engine's loop and the prober waited for a processor that others had
    answered: str  #: the status line; why there is none otherwise


@dataclass
class Probes:
    """The good requests of a run."""

    found: list[Probe] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.found:
            return "no good request in between"
        own = sorted(probe.own_s for probe in self.found)
        slowest = max(probe.took_s for probe in self.found)
        return (
            f"{len(own)} good requests in between, own time ms: half {own[len(own) // 2] * 1e3:.1f}, "
            f"99 of 100 {own[len(own) * 99 // 100] * 1e3:.1f}, slowest {own[-1] * 1e3:.0f} "
            f"({slowest * 1e3:.0f} with waits for a processor that others had)"
        )


@contextlib.asynccontextmanager
async def probing(port: int, pid: int) -> AsyncIterator[Probes]:
    """Send good requests to the engine at *port*, process *pid*, until the end of the block.

    The block begins when the first has been answered: a process takes longer to start than some cases take.
    """
    probes = Probes()
    has_begun = asyncio.Event()
    prober = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fuzz.prober",
        str(port),
        str(pid),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    assert prober.stdin is not None
    assert prober.stdout is not None

    async def read(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            took_s, own_s, answered = line.decode().rstrip("\n").split(" ", 2)
            probes.found.append(Probe(float(took_s), float(own_s), answered))
            has_begun.set()
        has_begun.set()  # it has ended: `Run` tells that there are none

    reading = asyncio.create_task(read(prober.stdout))
    try:
        await has_begun.wait()
        yield probes
    finally:
        prober.stdin.close()
        await reading
        await prober.wait()


def main(port: int, pid: int) -> None:
    """Send good requests until standard input ends."""
    line: socket.socket | None = None
    while not select.select([sys.stdin], [], [], _PAUSE_S)[0]:
        began, waited_s = time.monotonic(), _waited_s(pid)
        try:
            line = line or socket.create_connection(("127.0.0.1", port), timeout=_HANG_S)
            line.sendall(GOOD)
            answered = line.recv(65536)
        except OSError as exc:
            answered = repr(exc).encode()
        took_s = time.monotonic() - began
        own_s = took_s - (_waited_s(pid) - waited_s)
        print(took_s, own_s, answered.partition(b"\r\n")[0].decode("latin-1"), flush=True)
        if (line is not None and b"\r\nConnection: close" in answered) or not answered.startswith(
            b"HTTP/1.1"
        ):
            line = None


def _waited_s(engine: int) -> float:
    """Return how long the engine's loop and this process have waited for a processor that others had.

    What the engine's other threads wait is its own time: it may be beside the request, and not in it.
    """
    waited_ns = 0
    for path in (f"/proc/{engine}/task/{engine}/schedstat", "/proc/self/schedstat"):
        with contextlib.suppress(OSError):  # it has ended
            waited_ns += int(Path(path).read_text().split()[1])
    return waited_ns / 1e9


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

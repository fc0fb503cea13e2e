"""Many caches in one process, each at an address of its own: ``python -m tests.benchmarks.fleet COUNT``.

They answer each request that ends with its head, whatever it asks for, and do nothing else. Prints the port;
`address` tells where each is. What an engine does for a node is measured with them, not what caches do.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import uvloop

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
END = b"\r\n\r\n"


def address(number: int) -> str:
    """Return the address of a cache, in the loopback range."""
    return f"127.7.{number // 250}.{number % 250 + 1}"


class Cache(asyncio.Protocol):
    """A connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport  # uvloop's are none of asyncio's
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Answer what has come whole."""
        held = self._rest + data
        count = held.count(END)
        self._rest = held[held.rfind(END) + len(END) :] if count else held
        if count:
            self._transport.write(ANSWER * count)


async def serve(count: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Cache, address(0), 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    others = [address(number) for number in range(1, count)]
    kept = [server, *([await loop.create_server(Cache, others, port, backlog=1024)] if others else [])]
    print(port, flush=True)
    await asyncio.Event().wait()
    del kept


@contextlib.contextmanager
def fleet(count: int) -> Iterator[list[str]]:
    """Run so many caches; yields their URLs."""
    command = [sys.executable, "-m", "tests.benchmarks.fleet", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield [f"http://{address(number)}:{port}" for number in range(count)]
        finally:
            process.terminate()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

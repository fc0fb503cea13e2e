"""Answers every datagram with its first octets, on asyncio's own terms, and does nothing else."""

import asyncio
import sys
from typing import Any

import uvloop


class Echo(asyncio.DatagramProtocol):
    """The server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and say where it is."""
        self._transport: Any = transport
        print(transport.get_extra_info("sockname")[1], flush=True)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer."""
        self._transport.sendto(data[:14], addr)


async def main() -> None:
    """Serve until killed."""
    await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))

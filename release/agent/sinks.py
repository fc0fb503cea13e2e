"""What stands for every cache of a shadow: it answers each request as a proven cache of its driver would.

One answer is good for all drivers: 200 with the mark of the node that the request is for, with the nonce of a
probe, and with the page by which a generation of ATS counts as purged.
"""

from __future__ import annotations

import asyncio
import threading

from .shadow_config import SINK_FIELD

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Self

START_WAIT_S = 10.0
END = b"\r\n\r\n"
BODY = b"PURGED by a sink\n"


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer what is whole; requests to caches have no bodies."""
        *heads, self._unread = (self._unread + data).split(END)
        answers = [answer_to(head) for head in heads]
        if answers:
            self._transport.write(b"".join(answers))


def answer_to(head: bytes) -> bytes:
    """Return the answer to a request."""
    line, *lines = head.split(b"\r\n")
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (each.partition(b":") for each in lines)
    }
    mark = fields.get(SINK_FIELD.lower().encode())
    said = [b"HTTP/1.1 200 OK", b"Content-Type: text/plain", b"Content-Length: %d" % len(BODY)]
    said += [b"Purgeline-Cache: " + mark] if mark else []
    said += [b"Purgeline-Nonce: " + fields[b"purgeline-nonce"]] if b"purgeline-nonce" in fields else []
    return b"\r\n".join(said) + END + (b"" if line.startswith(b"HEAD ") else BODY)


class Sinks:
    """The sinks of a shadow, on one port of this machine, in a thread that ends with the process."""

    def __init__(self) -> None:
        self.url = ""
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="sinks", daemon=True)

    def start(self) -> Self:
        """Begin to listen.

        Raises:
            OSError: that is not possible.
        """
        self._thread.start()
        if not self._started.wait(START_WAIT_S):
            raise OSError("the sinks cannot listen on 127.0.0.1")
        return self

    async def _serve(self) -> None:
        server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
        self.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        self._started.set()
        await server.serve_forever()

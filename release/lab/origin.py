"""A small origin server for the demo, the tests and the benchmarks.

HTTP/1.1 with keep-alive, on a loopback port, in a thread of this process. What it answers is set from the
outside while it runs, and it counts who asked for what, so a test can say "this came out of the cache".

One ``asyncio.Protocol`` and no framework: the benchmarks put it behind four caches on the same machine, so it
must cost little. A request body is skipped by its Content-Length; chunked requests are answered with 411.
"""

import asyncio
import email.utils
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self, cast

SLICE_BYTES = 256 * 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_FILLER = bytes(range(256)) * (SLICE_BYTES // 256)
MAX_HEAD_BYTES = 64 * 1024
START_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What one (host, path) answers. With *size_bytes* the body is made up while it is sent."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    size_bytes: int | None = None
    delay_s: float = 0.0


class Origin:
    """Origin server with content per (host, path). Safe to use from any thread.

    A path nobody set answers ``<version> <host><path>``; change `version` and every such page is new.
    ``Cache-Control: public, max-age=3600`` is sent unless the content's own headers say otherwise. A content
    with an ``ETag`` header answers a matching ``If-None-Match`` with 304.

    Attributes:
        version: first word of every default body.
        status: status of every answer, e.g. 503 for an origin in trouble; ``None``: each content's own.
        delay_s: seconds before every answer starts.
        headers: added to every answer, e.g. ``{"Surrogate-Key": "all"}``.
        hits: requests per (host, path); the host in lower case, the path with its query.
        methods: requests per method, so that a PURGE that got through to the origin shows.
    """

    def __init__(self, *, version: str = "v1", port: int = 0) -> None:
        self.version = version
        self.status: int | None = None
        self.delay_s = 0.0
        self.headers: dict[str, str] = {}
        self.hits: Counter[tuple[str, str]] = Counter()
        self.methods: Counter[str] = Counter()
        self.port = port
        self._contents: dict[tuple[str, str], Content] = {}
        self.connections: set[_Connection] = set()  # of the loop's thread
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Origin {self.address} [{self.version}, {sum(self.hits.values())} requests]>"

    @property
    def address(self) -> str:
        """``host:port``, as the caches take it for their *backend*."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Address as a URL without a path."""
        return f"http://{self.address}"

    def set(
        self,
        host: str,
        path: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        status: int = 200,
        delay_s: float = 0.0,
    ) -> None:
        """Answer *path* (with its query) of *host* with *body* from now on."""
        content = Content(body=body, status=status, headers=dict(headers or {}), delay_s=delay_s)
        self._contents[host.lower(), path] = content

    def set_size(
        self, host: str, path: str, size_bytes: int, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer *path* of *host* with *size_bytes* bytes, which are never held in memory at once."""
        self._contents[host.lower(), path] = Content(size_bytes=size_bytes, headers=dict(headers or {}))

    def reset(self) -> None:
        """Forget all contents, counts, troubles and common headers; the version stays."""
        self._contents.clear()
        self.hits.clear()
        self.methods.clear()
        self.headers.clear()
        self.status, self.delay_s = None, 0.0

    def content(self, host: str, path: str) -> Content:
        """Return what *path* of *host* answers now, the troubles set for all answers aside."""
        content = self._contents.get((host, path))
        return content or Content(body=f"{self.version} {host}{path}".encode())

    def start(self) -> None:
        """Listen and serve in a thread; returns when connections are accepted.

        Raises:
            OSError: the port is taken.
        """
        if self._thread is not None:
            return
        listener = socket.create_server(("127.0.0.1", self.port), backlog=4096)
        self.port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener, ready), name="origin", daemon=True)
        self._thread.start()
        if not ready.wait(START_TIMEOUT_S):
            raise TimeoutError("the origin did not start")

    def stop(self) -> None:
        """Close the port and all connections. `start` listens on the same port again."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = self._loop = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        loop = self._loop = asyncio.new_event_loop()
        server = loop.run_until_complete(loop.create_server(lambda: _Connection(self, loop), sock=listener))
        loop.call_soon(ready.set)
        try:
            loop.run_forever()
        finally:
            loop.remove_reader(listener)
            if accepted := asyncio.all_tasks(loop):  # connections when these have ended
                loop.run_until_complete(asyncio.wait(accepted))
            server.close()
            for connection in tuple(self.connections):
                connection.abort()
            loop.run_until_complete(asyncio.sleep(0))  # transports close in the next turn of the loop
            loop.close()


class _Connection(asyncio.Protocol):
    """One client. Requests are answered one after the other; what is pipelined waits in the buffer."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self._origin = origin
        self._loop = loop
        self._buffer = bytearray()
        self._skip_bytes = 0
        self._slices: Iterator[bytes] | None = None
        self._is_busy = False  # an answer is delayed or being sent
        self._closes = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # asyncio does this itself only for sockets made with an explicit protocol number, which ours is not.
        # Without it pipelined answers wait 40 ms for the client's delayed ACK.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._origin.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._origin.connections.discard(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._work()

    def resume_writing(self) -> None:
        self._send_slices()

    def _work(self) -> None:
        while not self._is_busy and self._transport is not None and not self._transport.is_closing():
            if self._skip_bytes:
                skipped = min(self._skip_bytes, len(self._buffer))
                del self._buffer[:skipped]
                self._skip_bytes -= skipped
            end = self._buffer.find(b"\r\n\r\n")
            if self._skip_bytes or end < 0:
                if len(self._buffer) > MAX_HEAD_BYTES:
                    self._transport.abort()
                return
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            self._request(head)

    def _request(self, head: bytes) -> None:
        request_line, *lines = head.decode("latin-1").split("\r\n")
        fields = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        method, _, rest = request_line.partition(" ")
        path, _, protocol = rest.rpartition(" ")
        host = fields.get("host", "").lower()
        if path.startswith("http://"):
            host, slash, path = path.removeprefix("http://").partition("/")
            host, path = host.lower(), slash + path or "/"
        self._closes = protocol != "HTTP/1.1" or fields.get("connection", "").lower() == "close"
        self._origin.hits[host, path] += 1
        self._origin.methods[method] += 1
        if "transfer-encoding" in fields:
            self._closes = True
            self._answer(Content(status=411), method, fields)
            return
        self._skip_bytes = int(fields.get("content-length", "0"))
        content = self._origin.content(host, path)
        delay_s = self._origin.delay_s + content.delay_s
        if delay_s:
            self._is_busy = True
            self._loop.call_later(delay_s, self._answer_late, content, method, fields)
        else:
            self._answer(content, method, fields)

    def _answer_late(self, content: Content, method: str, fields: Mapping[str, str]) -> None:
        self._is_busy = False
        self._answer(content, method, fields)
        self._work()

    def _answer(self, content: Content, method: str, fields: Mapping[str, str]) -> None:
        if self._transport is None:
            return
        status = self._origin.status or content.status
        headers = {"Cache-Control": "public, max-age=3600", **self._origin.headers, **content.headers}
        if status == HTTPStatus.OK and "ETag" in headers and fields.get("if-none-match") == headers["ETag"]:
            status = HTTPStatus.NOT_MODIFIED
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            headers["Cache-Control"] = "no-store"
        head = _head(status, headers, body_bytes=_body_bytes(content), closes=self._closes)
        if method == "HEAD" or status == HTTPStatus.NOT_MODIFIED:
            self._transport.write(head)
        elif content.size_bytes is None:
            self._transport.write(head + content.body)
        else:
            self._transport.write(head)
            self._is_busy = True
            self._slices = _slices(content.size_bytes)
            self._send_slices()
            return
        self._finish()

    def _send_slices(self) -> None:
        """Send the rest of a big body as far as the client reads it."""
        while self._slices is not None and self._transport is not None:
            piece = next(self._slices, None)
            if piece is None:
                self._slices, self._is_busy = None, False
                self._finish()
                self._loop.call_soon(self._work)
                return
            self._transport.write(piece)
            if self._transport.get_write_buffer_size() > SLICE_BYTES // 4:
                return  # above the transport's mark: resume_writing comes when it is below

    def _finish(self) -> None:
        if self._closes and self._transport is not None:
            self._transport.close()


def _slices(size_bytes: int) -> Iterator[bytes]:
    for start in range(0, size_bytes, SLICE_BYTES):
        yield _FILLER[: min(SLICE_BYTES, size_bytes - start)]


def _body_bytes(content: Content) -> int:
    return len(content.body) if content.size_bytes is None else content.size_bytes


def _head(status: int, headers: Mapping[str, str], *, body_bytes: int, closes: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
    if "Date" not in headers:
        lines.append(f"Date: {email.utils.formatdate(usegmt=True)}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if status != HTTPStatus.NOT_MODIFIED:
        lines.append(f"Content-Length: {body_bytes}")
    if closes:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

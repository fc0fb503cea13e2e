"""A cache whose answers a test writes: a real socket, scripted bytes.

A *script* is called for every request and yields what happens: bytes to send, or an `Act`. It may wait (for
an event, or a moment) between two of them: every connection has a thread of its own.
"""

import contextlib
import enum
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

PROBE_PATH = "/.purgeline-probe"


class Request(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    host: str
    headers: dict[str, str]
    connection: int  #: which connection, from 1
    place: int  #: which request on it, from 1
    at: float  #: ``time.monotonic()``

    @property
    def url(self) -> str:
        return f"http://{self.host}{self.path}"


class Act(enum.Enum):
    """What a script does besides sending bytes."""

    CLOSE = enum.auto()  #: send what is left, then close; later requests are read and dropped
    RESET = enum.auto()  #: close at once; the peer sees a reset
    HANG = enum.auto()  #: answer nothing any more


Script = Callable[[Request], Iterable["bytes | Act"]]


def answer(status: int = 200, body: bytes = b"", *lines: str) -> bytes:
    """Return one whole answer."""
    head = [f"HTTP/1.1 {status} Said", *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


OK = answer()


def always(*acts: "bytes | Act") -> Script:
    """Return the script that does the same for every request."""
    return lambda request: acts


class FakeNode:
    """A scripted cache on a loopback port.

    Args:
        script: what happens on each request; without one each is answered with 200.
        answers_probes: answer the engine's probes with 200 without asking the script or noting them.
        tls: serve https with this.

    Attributes:
        requests: every request read, in order; probes only when the script answers them.
        probes: how many probes were answered by themselves.
        connections: opened to it, those for probes left out.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        answers_probes: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.script = script or always(OK)
        self.requests: list[Request] = []
        self.probes = 0
        self.connections = 0
        self.port = 0
        self._answers_probes = answers_probes
        self._tls = tls
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __repr__(self) -> str:
        return f"<FakeNode {self.url} [{len(self.requests)} requests, {self.connections} connections]>"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def urls(self) -> list[str]:
        """The URLs asked for, in order."""
        return [request.url for request in self.requests]

    def start(self) -> None:
        """Listen; on the same port as before."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener, self.port = listener, listener.getsockname()[1]
        self._run(self._accept, listener)

    def stop(self) -> None:
        """Close the port and every connection, as a crash would."""
        if self._listener is None:
            return
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener = None
        self.hang_up()
        for thread in self._threads:
            thread.join(10)
        self._threads.clear()

    def hang_up(self) -> None:
        """Close every connection; new ones are taken."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, target: Callable[[socket.socket], None], connection: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(connection,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with self._lock:
                    self._open.add(connection)
                self._run(self._serve, connection)

    def _serve(self, plain: socket.socket) -> None:
        connection = plain
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                connection = self._tls.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._open.discard(plain)
                    self._open.add(connection)
            self._converse(connection)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(plain)
                self._open.discard(connection)
            connection.close()

    def _converse(self, connection: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            number = self.connections
        data = bytearray()
        place = 0
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                chunk = connection.recv(65536)
                if not chunk:
                    return
                data += chunk
                continue
            place += 1
            request = _parse(bytes(data[:end]), number, place)
            del data[: end + 4]
            if self._answers_probes and request.path.endswith(PROBE_PATH):
                self.probes += 1
                if place == 1:
                    self.connections -= 1
                connection.sendall(OK)
                continue
            self.requests.append(request)
            for act in self.script(request):
                if isinstance(act, bytes):
                    connection.sendall(act)
                elif act is Act.RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    return
                else:
                    if act is Act.CLOSE:
                        connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
                    return


def _parse(head: bytes, connection: int, place: int) -> Request:
    line, *rest = head.decode("ascii").split("\r\n")
    method, path, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
    return Request(method, path, headers.get("host", ""), headers, connection, place, time.monotonic())


class Held:
    """Script of a cache that answers nothing until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def __call__(self, request: Request) -> Iterator[bytes]:
        self.released.wait(60)
        yield OK

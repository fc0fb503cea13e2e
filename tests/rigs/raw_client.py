"""A client that sends the bytes a test wants and reads whole answers, for what no HTTP library would send."""

import json
import socket
from types import TracebackType
from typing import Any, NamedTuple, Self


class Answer(NamedTuple):
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """The sentence of a problem document, which this must be."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem = self.json
        assert problem["status"] == self.status, self
        assert problem["title"], self
        assert problem["detail"], self
        assert b"Traceback" not in self.body
        return str(problem["detail"])


def post(body: object, *lines: str, path: str = "/v1/engine/task", version: str = "1.1") -> bytes:
    """Return a whole plain POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"POST {path} HTTP/{version}", "Host: engine", *lines, f"Content-Length: {len(data)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


def chunked(body: object, *lines: str, path: str = "/v1/engine/task", step: int = 7) -> bytes:
    """Return the same as a chunked request, which is not for the fast lane."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "Host: engine", "Content-Type: application/json", *lines]
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    text = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return "\r\n".join([*head, "Transfer-Encoding: chunked"]).encode() + b"\r\n\r\n" + text + b"0\r\n\r\n"


class RawClient:
    """One connection to the engine."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout_s: float = 30) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def end(self) -> None:
        """Half-close: nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def answer(self, *, to_head: bool = False) -> Answer:
        """Read the next response; the connection's end before it is an error.

        Args:
            to_head: it answers HEAD, so it has no body whatever its length says.
        """
        line = self._file.readline()
        assert line.startswith(b"HTTP/1."), line
        headers = {}
        while (text := self._file.readline().strip()) != b"":
            name, _, value = text.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        status = int(line.split()[1])
        if status == 100:
            return Answer(status, headers, b"")
        length = 0 if to_head else int(headers.get("content-length", "0"))
        body = self._file.read(length)
        assert len(body) == length, "the answer was cut off"
        return Answer(status, headers, body)

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.answer()

    def is_closed(self) -> bool:
        """Tell whether the other side has closed; waits for it, and finds that nothing came before."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

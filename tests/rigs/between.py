"""Somebody between a root and its region who reads what passes, and changes it: an HTTP proxy."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_HOP = frozenset({"Host", "Content-Length"})
_OWN = frozenset({"Date", "Server", "Content-Length"})


@dataclass
class Passing:
    """A request, and the answer to it once it came."""

    path: str
    body: bytes
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)  #: of the answer
    said: bytes = b""


class Between(ThreadingHTTPServer):
    """Passes requests on to a region, after `asked`, and answers back, after `answered`.

    Args:
        port: of the region.

    Attributes:
        passed: all that came by.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target_port = port
        self.passed: list[Passing] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, passing: Passing) -> None:
        """Change what is asked for, or whom (`target_port`)."""

    def answered(self, passing: Passing) -> None:
        """Change the answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Between

    def do_POST(self) -> None:
        self._pass("POST")

    def do_GET(self) -> None:
        self._pass("GET")

    def do_DELETE(self) -> None:
        self._pass("DELETE")

    def _pass(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        passing = Passing(self.path, body)
        self.server.asked(passing)
        headers = {name: value for name, value in self.headers.items() if name not in _HOP}
        region = HTTPConnection("127.0.0.1", self.server.target_port, timeout=30)
        try:
            region.request(method, self.path, passing.body, headers)
            answer = region.getresponse()
            passing.status, passing.said = answer.status, answer.read()
            passing.headers = {name: value for name, value in answer.getheaders() if name not in _OWN}
        except OSError:
            self.close_connection = True
            return
        finally:
            region.close()
        self.server.answered(passing)
        self.server.passed.append(passing)
        self.send_response(passing.status)
        for name, value in passing.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(passing.said)))
        self.end_headers()
        self.wfile.write(passing.said)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

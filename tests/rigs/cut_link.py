"""The way between a root and its region, which can be cut at once, or between a request and its answer."""

from __future__ import annotations

import threading
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tests.rigs.engine_process import EngineProcess


class CutLink(ThreadingHTTPServer):
    """Passes requests on to a region.

    Attributes:
        is_cut: nothing passes.
        cut_by: a request with this path still arrives, and cuts it before the answer.
    """

    daemon_threads = True

    def __init__(self, region: EngineProcess) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.region_port = region.port
        self.is_cut = False
        self.cut_by = ""

    @property
    def url(self) -> str:
        """Where the root finds the region."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """Say nothing: connections are cut on purpose."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CutLink

    def _pass(self) -> None:
        link = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if link.is_cut:
            self.close_connection = True
            return
        link.is_cut = self.path == link.cut_by
        headers = {
            name: value for name, value in self.headers.items() if name not in ("Host", "Content-Length")
        }
        region = HTTPConnection("127.0.0.1", link.region_port, timeout=30)
        try:
            region.request(self.command, self.path, body or None, headers)
            answer = region.getresponse()
            said = answer.read()
        except (OSError, HTTPException):
            self.close_connection = True
            return
        finally:
            region.close()
        if link.is_cut:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name not in ("Date", "Server"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def do_GET(self) -> None:
        self._pass()

    def do_POST(self) -> None:
        self._pass()

    def do_DELETE(self) -> None:
        self._pass()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

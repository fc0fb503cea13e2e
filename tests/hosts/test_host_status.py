"""release.agent.status: it asks the engine as a client would, whatever socket the engine listens on."""

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from release.agent.status import get


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"asked": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=["path", "name"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A server on a Unix socket, as systemd hands one down: a path, or a name without a file."""
    shown = str(tmp_path / "s") if request.param == "path" else f"@{tmp_path.name}"
    with socketserver.UnixStreamServer(shown.replace("@", "\0", 1), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield shown
        finally:
            server.shutdown()
            thread.join()


def test_an_engine_on_a_unix_socket_is_asked(address: str) -> None:
    status, body = get(address, "/readyz")
    assert (status, json.loads(body)) == (200, {"asked": "/readyz"})


@pytest.mark.parametrize("address", ["", "here", "/nowhere/socket", "@nobody-listens-here", "127.0.0.1:x"])
def test_an_address_where_nobody_answers_is_told(address: str) -> None:
    status, body = get(address, "/readyz")
    assert status == 0
    assert body

"""A client's server that is told of settled tasks, and of alerts."""

import http.server
import json
import ssl
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "a secret of the receiver"
RULE = f'[[callback]]\nhost = "127.0.0.1"\nsecret = "{SECRET}"\n'
"""The table that lets the engine call it, and sign what it sends."""


class Post(NamedTuple):
    """One POST as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Receiver:
    """An HTTP server that notes every POST; *status* is asked for each, with the count so far.

    Args:
        tls: serve https with this.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.posts: list[Post] = []
        self.status: Callable[[int], int] = lambda count: 204
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.posts.append(Post(self.path, headers, body))
                self.send_response(outer.status(len(outer.posts)))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def documents(self) -> list[dict[str, Any]]:
        return [post.document for post in self.posts]

    def wait_for_posts(self, count: int, timeout_s: float = 30) -> list[Post]:
        wait_until(lambda: len(self.posts) >= count, timeout_s=timeout_s, what=f"{count} posts")
        return self.posts

"""An engine as the command line meets it: scripted answers on a real socket, and its documents."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

Document = dict[str, Any]


Answer = tuple[int, object] | tuple[int, object, dict[str, str]] | bytes


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def task(task_id: str = "t1", state: str = "running", **changes: object) -> Document:
    """A task document, as the interface has it."""
    layers = [
        {"name": "parent", "total": 2, "counter": 2, "failed": 0, "delayed": 0},
        {"name": "edge", "total": 4, "counter": 1, "failed": 0, "delayed": 1},
    ]
    document = {
        "task_id": task_id,
        "action": "purge",
        "kind": "url",
        "state": state,
        "active": state == "running",
        "working_layer": "edge",
        "total": 6,
        "counter": 3,
        "failed": 0,
        "delayed": 1,
        "layers": layers,
        "created_at": 1763935265.25,
        "updated_at": 1763935266.0,
        "due_at": 1763935325.25,
        "errors": [],
    }
    return {**document, **changes}


def problem(status: int, detail: str, **headers: str) -> Answer:
    return status, {"type": "about:blank", "title": "No", "status": status, "detail": detail}, headers


class FakeEngine:
    """Answers on a real socket; for each method and path the next scripted answer, the last one for ever.

    Attributes:
        script: answers by ``"METHOD /path"`` (without query). Raw bytes are sent as they are, and the
            connection closes after them. A POST without a script is accepted.
        requests: method and path with query, headers and JSON body of each request so far.
        connections: how many were accepted.
    """

    def __init__(self) -> None:
        self.script: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, Any, Document]] = []
        self.connections = 0
        self.url = ""

    def answer(self, method: str, path: str, body: Document) -> Answer:
        answers = self.script.get(f"{method} {path.partition('?')[0]}")
        if answers:
            return answers.pop(0) if len(answers) > 1 else answers[0]
        if method == "POST":
            return 202, {"task_id": body["id"], "state": "accepted", "total": len(body["targets"])}
        return problem(404, f"no such path: {path}")

    @contextmanager
    def running(self, tls: ssl.SSLContext | None = None) -> Iterator[FakeEngine]:
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                engine.connections += 1

            def handle_any(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size)) if size else {}
                engine.requests.append((f"{self.command} {self.path}", self.headers, body))
                answer = engine.answer(self.command, self.path, body)
                if isinstance(answer, bytes):
                    self.wfile.write(answer)
                    self.close_connection = True
                    return
                content = json.dumps(answer[1]).encode()
                self.send_response(answer[0])
                for name, value in (answer[2] if len(answer) > 2 else {}).items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - http.server's names

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that leaves is no news
        server.daemon_threads = True
        server.block_on_close = False
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

"""A region with a key of its own that signs whatever a test has it say."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.intake.task_body import decode, digest_of
from engine.proof.receipt_key import ReceiptKey
from engine.tree.link import NONCE
from engine.tree.seal import Asked, seal, text_of, thumbprint
from engine.tree.words import KEY, SIGNATURE, TASKS

if TYPE_CHECKING:
    from collections.abc import Callable

_SECRET: Final = b"7" * 32
X: Final = text_of(Ed25519PrivateKey.from_private_bytes(_SECRET).public_key().public_bytes_raw())
_OWN: Final = ReceiptKey(thumbprint(X), _SECRET)


def true_report(line: dict[str, Any], digest: str, **said: Any) -> dict[str, Any]:
    """Return the report of a task that was taken, with what is *said* of it."""
    count = len(line["targets"])
    return {
        "id": line["id"],
        "seen": "1",
        "state": "running",
        "total": count,
        "targets": count,
        "digest": digest,
        **said,
    }


class LyingRegion(ThreadingHTTPServer):
    """Takes what is handed down, does nothing, and answers questions as `lie` says.

    Args:
        lie: from the report of a task that is at work, what is answered about it.

    Attributes:
        handed: the lines that came, by id.
        questions: how often it was asked for tasks.
    """

    daemon_threads = True

    def __init__(self, lie: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lie = lie
        self.handed: dict[str, dict[str, Any]] = {}
        self.digests: dict[str, str] = {}
        self.questions = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()

    def table(self, name: str) -> str:
        """Return its node's table."""
        keys = {"name": name, "layer": "edge", "driver": "engine", "public_keys": [X]}
        keys["url"] = f"http://127.0.0.1:{self.server_port}"
        return "[[node]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())

    def take(self, body: bytes) -> bytes:
        """Take tasks."""
        lines = []
        for text in body.splitlines():
            line = json.loads(text)
            self.handed[line["id"]] = line
            self.digests[line["id"]] = digest_of(decode(text)).hex()
            lines.append(json.dumps({"status": 202, "task_id": line["id"], "state": "accepted", "total": 1}))
        return "\n".join(lines).encode() + b"\n"

    def tell(self, body: bytes) -> bytes:
        """Answer a question."""
        asked = json.loads(body).get("tasks", {})
        answer: dict[str, Any] = {"version": 1, "engine": "liar", "release": "0", "delayed": 0, "tasks": []}
        known = [name for name in asked if name in self.handed]
        answer["unknown"] = [name for name in asked if name not in self.handed]
        if asked:
            self.questions += 1
        for name in known:
            said = self.lie(true_report(self.handed[name], self.digests[name], at_work=len(known)))
            if isinstance(said, bytes):
                return said
            answer["tasks"] += said if isinstance(said, list) else [said]
        return json.dumps(answer).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LyingRegion

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said = self.server.take(body) if self.path == TASKS else self.server.tell(body)
        asked = Asked(self.headers[NONCE], "POST", self.path, body)
        self.send_response(200)
        self.send_header(KEY, _OWN.kid)
        self.send_header(SIGNATURE, seal(_OWN, asked, said))
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

"""Calls of the agent as the controller makes them: a process, JSON in, JSON lines out."""

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fakes.small_release import Small

AGENT = Path(__file__).resolve().parents[2] / "release/agent"


class Refusal(AssertionError):  # noqa: N818 - what the answer is
    """The answer was not ok."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(f"{answer.get('kind')}: {answer.get('error')}")
        self.kind: str = answer.get("kind", "")
        self.error: str = answer.get("error", "")
        self.answer = answer


class HostCalls:
    """One installation and what is asked of it. Stops its engine at the end.

    Args:
        root: its folder.
        python: runs the agent.
        prefix: a command to run the agent under.
        agent: its folder or file.
    """

    def __init__(
        self,
        root: Path,
        *,
        python: Path = Path(sys.executable),
        prefix: Sequence[str] = (),
        agent: Path = AGENT,
    ) -> None:
        self.root = root
        self.events: list[dict[str, Any]] = []
        self._command = [*prefix, str(python), "-I", "-B", str(agent)]

    def start(self, op: str, **request: Any) -> "subprocess.Popen[bytes]":
        """Begin an operation."""
        process = subprocess.Popen(
            [*self._command, op],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({"root": str(self.root), **request}).encode())
        process.stdin.close()
        process.stdin = None
        return process

    def call(self, op: str, **request: Any) -> dict[str, Any]:
        """Do an operation and return its answer.

        Raises:
            Refusal: it is not ok.
        """
        out, err = self.start(op, **request).communicate(timeout=90)
        assert b"Traceback" not in err, err.decode()
        *self.events, answer = [json.loads(line) for line in out.splitlines()]
        if not answer["ok"]:
            raise Refusal(answer)
        return dict(answer)

    def linked(self, name: str) -> str:
        """Return where a link of the root points."""
        path = self.root / name
        return str(path.readlink()) if path.is_symlink() else ""

    def close(self) -> None:
        """Stop the engine if one runs, whatever state it is in."""
        with contextlib.suppress(Refusal):
            if (self.root / "lock").exists():
                self.call("unlock", force=True, why="the test has ended")
            self.call("stop")


def served(port: int) -> str:
    """Return the version that answers."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        client.request("GET", "/")
        return str(json.loads(client.getresponse().read())["version"])
    finally:
        client.close()


def take(host: HostCalls, port: int, artefact: Small, **more: Any) -> dict[str, Any]:
    """Unpack and reload."""
    host.call("unpack", **artefact.request())
    request = {"version": artefact.version, "listen": f"127.0.0.1:{port}", "bake_s": 0.2}
    return host.call("reload", **{**request, **more})

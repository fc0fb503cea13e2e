"""An engine of several workers under its supervisor, and what tests ask of that."""

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

from tests.rigs.engine_process import START_TIMEOUT_S, EngineProcess
from tests.waiting import wait_until


class SupervisedEngine(EngineProcess):
    """``purgeline serve --workers N``, its control socket, and reloads by SIGHUP."""

    def __init__(self, folder: Path, tables: str, *, workers: int = 1, **engine: Any) -> None:
        super().__init__(folder, tables, workers=workers, **engine)

    def control(self, **request: object) -> dict[str, Any]:
        """Send one request to the control socket; return the last line of its answer."""
        folder = os.open(self.folder / "var/run", os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(60)
                client.connect(f"/proc/self/fd/{folder}/control.sock")
                client.sendall(json.dumps(request).encode() + b"\n")
                for line in client.makefile():
                    answer: dict[str, Any] = json.loads(line)
                    if "ok" in answer:
                        return answer
        finally:
            os.close(folder)
        raise AssertionError("the supervisor closed the connection without an answer")

    def workers(self, state: str = "accepting") -> list[dict[str, Any]]:
        """Return the workers that are in *state*, by slot."""
        found = self.control(cmd="status")["workers"]
        return sorted((one for one in found if one["state"] == state), key=lambda one: int(one["slot"]))

    def reload(self, **request: object) -> None:
        """Reload to the same release; the old workers have left when this returns."""
        answer = self.control(cmd="reload", **{"bake_s": 0, **request})
        assert answer["ok"], answer

    def wait_for_quiet(self) -> None:
        """Wait until no reload is under way."""
        wait_until(
            lambda: self.control(cmd="status")["state"] == "serving",
            what="the reload being over",
            timeout_s=START_TIMEOUT_S,
        )

    def hang_up(self) -> None:
        """Reload by SIGHUP; the new workers accept when this returns, and the old ones may still drain."""
        self.wait_for_quiet()
        before = {worker["generation"] for worker in self.workers()}
        os.kill(self.pid, signal.SIGHUP)

        def is_over() -> bool:
            now = {worker["generation"] for worker in self.workers()}
            return len(now) == len(before) and not now & before

        wait_until(is_over, what="new workers", timeout_s=START_TIMEOUT_S)

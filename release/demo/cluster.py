"""What the demo runs with ``--cluster``: the same caches, three engines, and the Redis that they share."""

import contextlib
import http.client
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from release.demo.program import Program, StageError, wait_until
from release.demo.stage import Stage
from release.lab.caches import free_port

ENGINES = ("engine-1", "engine-2", "engine-3")


class ClusterStage(Stage):
    """All servers of the demo of a cluster."""

    def __init__(self, folder: Path, *, builtin: bool, found: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, builtin=builtin, found=found)
        ports = {name: free_port() for name in ENGINES}
        self.engines = {
            name: Program(
                name, port, ["engine", "serve", "--config", str(folder / f"{name}.toml")], folder=folder
            )
            for name, port in ports.items()
        }
        self.engine = self.engines[ENGINES[0]]  # whom the command line asks, unless told otherwise
        port = free_port()
        self.redis = Program(
            "redis",
            port,
            [
                *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
                *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            ],
            folder=folder,
            program=[shutil.which("redis-server") or "redis-server"],
        )

    @property
    def config_path(self) -> Path:
        """The first engine's configuration."""
        return self.folder / f"{ENGINES[0]}.toml"

    def start(self) -> None:
        """Start everything; return when the engines are ready.

        Raises:
            StageError, CacheError: something does not start.
        """
        if shutil.which("redis-server") is None:
            raise StageError(
                "a cluster needs redis-server, which is not on this machine (Debian: redis-server)"
            )
        super().start()

    def start_engines(self) -> None:
        """Start Redis and every engine on it."""
        self.redis.start()
        for name, engine in self.engines.items():
            self._write_config(name, engine)
            engine.start()
        for name in self.engines:
            self.wait_until_ready(name)

    def stop_engines(self) -> dict[str, int]:
        """Stop every engine in order; return their exit codes."""
        return {name: engine.stop() for name, engine in self.engines.items()}

    def close(self) -> None:
        """Stop everything that runs."""
        with contextlib.ExitStack() as stack:
            stack.callback(super().close)
            for program in (self.redis, *self.engines.values()):
                stack.callback(program.kill)

    def wait_until_ready(self, name: str) -> None:
        """Wait until an engine takes tasks."""
        wait_until(lambda: self.answers_ok(name, "/readyz"), what=f"{name} being ready")

    def answers_ok(self, name: str, path: str) -> bool:
        """Whether an engine answers *path* with 200."""
        try:
            return self.send(name, "GET", path)[0] == http.HTTPStatus.OK
        except OSError:
            return False

    def send(self, name: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send one request to one engine; return the status and the JSON.

        Raises:
            OSError: no answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.engines[name].port, timeout=20)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        except (http.client.HTTPException, ValueError) as exc:
            raise OSError(f"{name}: {exc!r}") from exc
        finally:
            connection.close()

    def _write_config(self, name: str, engine: Program) -> None:
        store = f'\n[store]\nurl = "redis://127.0.0.1:{self.redis.port}/0"\n'
        keys = {"listen": f"127.0.0.1:{engine.port}", "data_dir": str(self.folder / name), "name": name}
        path = self.folder / f"{name}.toml"
        path.write_text(self._config(**keys) + store, encoding="utf-8")

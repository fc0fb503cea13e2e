"""A real engine in a process of its own, for the tests of a real engine."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from release.lab.caches import Cache, free_port
from tests import described
from tests.rigs.forked import ForkedEngine
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0
"""Two workers take a second of CPU to start: some seven seconds on cores that ten processes want."""
SETTLED = {"done", "failed", "cancelled"}
_IS_TEST = "PYTEST_VERSION" in os.environ
_LOG_STILL_S = 0.03
_LOG_S = 0.3  #: an engine under load logs without a pause
_DESCRIBED = frozenset({"GET", "POST", "PUT", "DELETE"})
"""Methods whose answers are held to ``/openapi.json``, whatever a test asks for."""


def node_table(cache: Cache, *, name: str, layer: str = "edge", **extra: object) -> str:
    """Return the ``[[node]]`` table for a running cache."""
    keys: dict[str, object] = {"name": name, "layer": layer, "driver": cache.driver, "url": cache.url}
    if cache.purge_path:
        keys["purge_path"] = cache.purge_path
    return "[[node]]\n" + "".join(
        f"{key} = {json.dumps(value)}\n" for key, value in {**keys, **extra}.items()
    )


def fake_table(url: str, *, name: str, layer: str = "edge", driver: str = "varnish", **extra: object) -> str:
    """Return the ``[[node]]`` table for a scripted node at *url*; its answers bear no sign of a cache."""
    keys = {"name": name, "layer": layer, "driver": driver, "url": url, "evidence": "any", **extra}
    return "[[node]]\n" + "".join(
        f"{key} = {_toml(value)}\n" for key, value in keys.items() if value is not None
    )


def _toml(value: object) -> str:
    """JSON is TOML but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value)


def layer_tables(*names: str) -> str:
    """Return the ``[[layer]]`` tables of layers in this order."""
    return "".join(f'[[layer]]\nname = "{name}"\n' for name in names)


def get_page(
    cache: Cache, path: str, *, host: str = "img.example.com", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """GET a page through a cache, as a visitor; return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", cache.port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": host, **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def get_body(cache: Cache, path: str, *, host: str = "img.example.com") -> bytes:
    """GET a page that must be there; return its body."""
    status, body = get_page(cache, path, host=host)
    assert status == 200, (path, status, body[:200])
    return body


class EngineProcess:
    """``python -m engine serve`` on a free port.

    Args:
        folder: for the configuration, the log and the data; the same folder again is a restart.
        tables: TOML tables: layers, nodes, sites, tokens.
        engine: keys of ``[engine]`` besides ``listen``, ``data_dir`` and ``log_format``.
        prefix: a command to run it under, such as ``["faketime", …]``.
        env: variables besides those of the test.
        workers: so many under a supervisor; 0: one process without.
        checkout: whose engine it is; one of another folder runs in its own ``.venv``.
        is_forked: from a process that has imported it, see `tests.rigs.forked`; not with a prefix, variables,
            workers or another checkout. None: in tests alone. Else ``python -m engine``.
    """

    def __init__(
        self,
        folder: Path,
        tables: str,
        *,
        prefix: Sequence[str] = (),
        env: dict[str, str] | None = None,
        workers: int = 0,
        checkout: Path = ROOT,
        is_forked: bool | None = None,
        **engine: object,
    ) -> None:
        self.folder = folder
        wants_fork = _IS_TEST if is_forked is None else is_forked
        self._is_forked = wants_fork and not prefix and not env and not workers and checkout == ROOT
        self._checkout = checkout
        self.port = free_port()
        keys = {
            "listen": f"127.0.0.1:{self.port}",
            "data_dir": str(folder / "var"),
            "log_format": "struct",
            **engine,
        }
        self.config_path = folder / "engine.toml"
        self._keys = "[engine]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        self.configure(tables)
        self.log_path = folder / "engine.log"
        self._prefix = list(prefix)
        self._options = ["--workers", str(workers)] if workers else []
        self._env = {**os.environ, **(env or {})}
        self.process: subprocess.Popen[bytes] | ForkedEngine | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def configure(self, tables: str) -> None:
        """Write another configuration, with the same ``[engine]``; the next start, or SIGHUP, reads it."""
        self.config_path.write_text(self._keys + tables)

    def start(self, *, wait: bool = True, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start it, and wait until it is ready, for at most that many seconds."""
        arguments = ["serve", "--config", str(self.config_path), *self._options]
        if self._is_forked:
            self.process = ForkedEngine(arguments, cwd=self._checkout, log=self.log_path, env=self._env)
        else:
            with self.log_path.open("ab") as log:
                self.process = subprocess.Popen(
                    [*self._prefix, *self._command(), *arguments],
                    cwd=self._checkout,
                    stdout=log,
                    stderr=log,
                    env=self._env,
                )
        if wait:
            wait_until(self._is_ready, what="the engine being ready", timeout_s=timeout_s)

    def _command(self) -> list[str]:
        python = sys.executable if self._checkout == ROOT else str(self._checkout / ".venv/bin/python")
        return [python, "-m", "engine"]

    def _is_ready(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"the engine ended with {code}:\n{self.log()[-3000:]}"
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """Return what it has logged.

        Its writer gathers lines for some milliseconds: what it may write still is waited for, until the file
        grows no more.
        """
        before, deadline = -1, time.monotonic() + _LOG_S
        while self.is_up and time.monotonic() < deadline:
            size = self.log_path.stat().st_size
            if size == before:
                break
            before = size
            time.sleep(_LOG_STILL_S)
        return self.log_path.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL: a crash."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 40) -> int:
        """SIGTERM, and return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a connection of its own; return status, headers (lower case) and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            kind = {"Content-Type": "application/json"} if data is not None else {}
            connection.request(method, path, data, {**kind, **(headers or {})})
            response = connection.getresponse()
            got = {k.lower(): v for k, v in response.getheaders()}
            answer = response.read()
            if self._checkout == ROOT and method in _DESCRIBED:
                described.check(method, path, response.status, got, answer)
            return response.status, got, answer
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return the JSON of a GET that must succeed."""
        status, _, body = self.request("GET", path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def submit(self, targets: Sequence[object], **fields: object) -> str:
        """Hand a task in, which must be accepted; return its id."""
        status, _, body = self.request("POST", "/v1/engine/task", {"targets": targets, **fields})
        assert status == 202, (status, body)
        return str(json.loads(body)["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        return dict(self.get(f"/v1/engine/task/{task_id}"))

    def wait_for(self, task_id: str, *states: str, timeout_s: float = 45) -> dict[str, Any]:
        """Wait until a task is in one of *states* (default: settled), and return it."""
        wanted = set(states) or SETTLED

        def reached() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["state"] in wanted else None

        try:
            return wait_until(reached, timeout_s=timeout_s) or {}
        except AssertionError:
            raise AssertionError(f"not {wanted}: {self.task(task_id)}") from None

    def node(self, name: str) -> dict[str, Any]:
        return next(dict(node) for node in self.get("/v1/engine/nodes")["nodes"] if node["name"] == name)

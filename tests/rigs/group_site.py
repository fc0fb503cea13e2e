"""An origin that invalidates cache groups, Varnishes that report it, and the engine that is told."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from release.lab import caches
from release.lab.caches import Cache
from release.lab.origin import Origin
from tests.rigs.door import TOKEN, access
from tests.rigs.engine_process import ROOT, EngineProcess, get_body, layer_tables, node_table
from tests.waiting import wait_until

SHOP, OTHER = "shop.example.com", "other.example.com"
ELSEWHERE = "www.example.org"  #: no site of the token
PAGES = {"/p": '"products"', "/both": '"home", "products"', "/spaced": r'"a b", "c,d"', "/none": '"none"'}


class Reporter:
    """``purgeline report-groups`` beside one Varnish."""

    def __init__(self, cache: Cache, engine_port: int, *, token: str = TOKEN, log: Path) -> None:
        url = f"http://127.0.0.1:{engine_port}"
        self._command = [
            *(sys.executable, "-m", "engine", "report-groups", "--engine", url, "--json"),
            *("--instance", str(cache.workdir)),
        ]
        self._env = {**os.environ, "PURGELINE_TOKEN": token}
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; it reads what was logged before, too."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log, env=self._env)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def reported(self) -> list[dict[str, Any]]:
        """Return what it has told the engine: the task of each report."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]


class GroupSite:
    """All of it, running.

    Args:
        folder: for all of it.
        edges: how many, behind a parent; 0: one Varnish alone.
        xkey: keys by vmod xkey; False: by bans.
    """

    def __init__(self, folder: Path, *, edges: int = 0, xkey: bool = True) -> None:
        self._stack = contextlib.ExitStack()
        self._folder = folder
        self.origin = self._stack.enter_context(Origin())
        start = {"xkey": xkey, "group_reports": True}
        self.parent = self._start("parent-1", self.origin.address, is_parent=bool(edges), **start)
        self.edges = [
            self._start(f"edge-{number}", f"127.0.0.1:{self.parent.port}", **start)
            for number in range(1, edges + 1)
        ]
        keys = {"key_mode": "xkey" if xkey else "ban"}
        tables = layer_tables("parent", "edge") + node_table(
            self.parent, name="parent-1", layer="parent", **keys
        )
        for edge in self.edges:
            tables += node_table(edge, name=edge.name, layer="edge", parents=["parent-1"], **keys)
        tables += access("shop.example.com", "other.example.com")
        self.engine = self._stack.enter_context(EngineProcess(folder, tables))
        self.reporters = [
            Reporter(cache, self.engine.port, log=folder / f"reporter-{cache.name}.log").start()
            for cache in self.caches
        ]
        for reporter in self.reporters:
            self._stack.callback(reporter.stop)  # one that is killed leaves its varnishlog behind

    def _start(self, name: str, backend: str, **keys: Any) -> Cache:
        return self._stack.enter_context(
            caches.start_varnish(self._folder, name=name, backend=backend, **keys)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def caches(self) -> list[Cache]:
        """The nodes."""
        return [self.parent, *self.edges]

    @property
    def door(self) -> Cache:
        """Where visitors come in."""
        return self.caches[-1]

    def publish(self, version: bytes) -> None:
        """Have the origin answer every page anew."""
        for host in (SHOP, OTHER, ELSEWHERE):
            for path, groups in PAGES.items():
                self.origin.set(host, path, version, headers={"Cache-Groups": groups})

    def fill(self) -> None:
        """Have every cache hold every page in the first version, and the origin have the second."""
        self.publish(b"v1")
        for host in (SHOP, OTHER):
            self.wait_done(self.submit({"kind": "host", "targets": [host]}))
        for cache in self.caches:
            for host in (SHOP, OTHER):
                assert {get_body(cache, path, host=host) for path in PAGES} == {b"v1"}
        self.publish(b"v2")

    def fresh(self, cache: Cache, host: str = SHOP) -> set[str]:
        """Return the pages of which a cache has not the first version."""
        return {path for path in PAGES if get_body(cache, path, host=host) == b"v2"}

    def send(
        self,
        method: str,
        groups: str,
        *,
        status: int = 200,
        host: str = SHOP,
        cache: Cache | None = None,
        path: str = "/save",
    ) -> None:
        """Send a request by which the origin invalidates groups."""
        headers = {"Cache-Group-Invalidation": groups, "Cache-Control": "no-store"}
        self.origin.set(host, path, b"saved", status=status, headers=headers)
        connection = http.client.HTTPConnection("127.0.0.1", (cache or self.door).port, timeout=20)
        try:
            connection.request(method, path, b"x" if method != "GET" else None, headers={"Host": host})
            assert connection.getresponse().status == status
        finally:
            connection.close()

    def submit(self, body: dict[str, object]) -> str:
        """Hand a task in; return its id."""
        status, _, answer = self.ask("POST", "/v1/engine/task", body)
        assert status == 202, answer
        return str(json.loads(answer)["task_id"])

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], bytes]:
        """Ask the engine, with the token."""
        return self.engine.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})

    def tasks(self) -> list[dict[str, Any]]:
        """Return the tasks that reports have made, newest first."""
        listed = json.loads(self.ask("GET", "/v1/engine/tasks?limit=1000")[2])["tasks"]
        return [task for task in listed if task["by"]["door"] == "groups"]

    def wait_done(self, task_id: str) -> dict[str, Any]:
        """Wait until a task is done; return it."""

        def look() -> dict[str, Any]:
            task: dict[str, Any] = json.loads(self.ask("GET", f"/v1/engine/task/{task_id}")[2])
            return task if task["state"] == "done" else {}

        return wait_until(look, what="the task being done")

    def wait_purged(self, targets: set[str]) -> None:
        """Wait until reports have had all of these purged."""

        def look() -> bool:
            done = [task for task in self.tasks() if task["state"] == "done"]
            return targets <= {target for task in done for target in task["targets"]}

        wait_until(look, what=f"{targets} being purged")

    def wait_purged_since(self, time_s: float) -> None:
        """Wait until a task of reports is done that was accepted at that time or later."""

        def look() -> bool:
            return any(task["state"] == "done" and task["created_at"] >= time_s for task in self.tasks())

        wait_until(look, what="a purge after the last report")

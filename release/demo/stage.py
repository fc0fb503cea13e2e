"""What the demo runs: an origin, a parent and two edges, and the engine, each a real server on loopback.

Real Varnish and nginx where this machine has them and they start, else `release.lab.cacheproxy`. Nothing is
installed, no root is needed, and nothing outlives this process: see `release.lab.caches.process`.
"""

import contextlib
import http.client
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.demo.program import ROOT, Program, StageError, clean_environment, wait_until
from release.demo.terminal import Printed, run
from release.lab import caches
from release.lab.caches import Cache, CacheError, free_port
from release.lab.origin import Origin

SITE = "img.example.com"
CANARY_INTERVAL_S = 0.5

_NOT_HERE = {
    "varnish": "Varnish is not on this machine (Debian: varnish)",
    "nginx": "nginx with cache_purge is not on this machine (Debian: libnginx-mod-http-cache-purge)",
}


@dataclass(frozen=True, slots=True)
class Page:
    """What a visitor got: the body's first line, and whether it came out of the node's cache."""

    content: str
    is_hit: bool

    def __repr__(self) -> str:
        return f"{self.content} ({'HIT' if self.is_hit else 'MISS'})"


@dataclass(frozen=True, slots=True)
class Node:
    """One cache of the demo."""

    name: str
    layer: str
    server: Cache | Program
    software: str  #: such as ``Varnish 7.1.1``, and where it was found
    why_builtin: str  #: why it is the built-in proxy; empty for a real cache

    @property
    def url(self) -> str:
        """Address without a path."""
        return f"http://127.0.0.1:{self.server.port}"

    def get(self, path: str) -> Page:
        """Fetch a page of the site as a visitor would.

        Raises:
            OSError: nobody answers.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Host": SITE})
            answer = connection.getresponse()
            content = answer.read().decode(errors="replace")
            if answer.status != http.HTTPStatus.OK:
                content = f"status {answer.status}"
            return Page(content, _is_hit(self.server.driver, isinstance(self.server, Program), answer))
        except http.client.HTTPException as exc:
            raise OSError(f"{self.name}: {exc!r}") from exc
        finally:
            connection.close()

    def table(self) -> str:
        """Return its table of the engine's configuration."""
        keys = {"name": self.name, "layer": self.layer, "driver": self.server.driver, "url": self.url}
        if self.server.purge_path:
            keys["purge_path"] = self.server.purge_path
        if self.server.driver == "varnish":
            keys["key_mode"] = "ban"  # needs no more than Varnish itself
        return "\n[[node]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


class Stage:
    """All servers of the demo.

    Args:
        folder: for configurations, logs and data.
        builtin: use the built-in caching proxy in any case.
        found: real caches that may be used, by driver; by default those of this machine.
    """

    def __init__(self, folder: Path, *, builtin: bool, found: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.origin = Origin()
        self.nodes: list[Node] = []
        self.engine = Program(
            "engine", free_port(), ["engine", "serve", "--config", str(folder / "engine.toml")], folder=folder
        )
        self._found = {} if builtin else dict(caches.available() if found is None else found)
        self._is_forced = builtin
        self._vcl: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Stage {self.folder} [{', '.join(node.software for node in self.nodes)}]>"

    @property
    def engine_url(self) -> str:
        """Where the engine listens."""
        return f"http://127.0.0.1:{self.engine.port}"

    @property
    def config_path(self) -> Path:
        """The engine's configuration."""
        return self.folder / "engine.toml"

    def node(self, name: str) -> Node:
        """Return a node by its name."""
        return next(node for node in self.nodes if node.name == name)

    def start(self) -> None:
        """Start everything; return when the engine is ready.

        Raises:
            StageError, CacheError: something does not start.
        """
        self.origin.start()
        parent_port = free_port()
        parent = f"127.0.0.1:{parent_port}"
        wanted = [
            ("parent-1", "parent", "varnish", self.origin.address, parent_port),
            ("edge-1", "edge", "varnish", parent, free_port()),
            ("edge-2", "edge", "nginx", parent, free_port()),
        ]
        with ThreadPoolExecutor(len(wanted)) as threads:  # a Varnish compiles its VCL for about a second
            starts = [threads.submit(self._start_node, *place) for place in wanted]
        self.nodes = sorted((start.result() for start in starts), key=lambda node: node.layer != "parent")
        self.start_engines()

    @property
    def has_canaries(self) -> bool:
        """Whether the caches that canaries come through know the way; the built-in proxy does not."""
        return not any(node.why_builtin for node in self.nodes)

    def turn_canaries_on(self) -> None:
        """Start the engine again, with canaries, and told where the origin is."""
        self.engine.stop()
        with self.config_path.open("a", encoding="utf-8") as file:
            file.write(f"\n[canary]\ninterval_s = {CANARY_INTERVAL_S}\n")
            file.write(f'\n[[origin]]\nhost = "{SITE}"\nurl = "{self.origin.url}"\n')
        self.engine.start()
        wait_until(lambda: self._status("/readyz") == http.HTTPStatus.OK, what="the engine being ready")

    def change_vcl(self, name: str, more: str) -> None:
        """Start a Varnish again, with *more* in its VCL before ours; empty: without."""
        server = self.node(name).server
        assert isinstance(server, Cache)
        vcl = self._vcl.setdefault(name, (server.workdir / "varnish.vcl").read_text(encoding="utf-8"))
        server.kill()
        server.write({"varnish.vcl": vcl.replace("sub vcl_recv {", f"{more}\nsub vcl_recv {{", 1)})
        server.start()

    def start_engines(self) -> None:
        """Start the engine on the nodes; return when it is ready."""
        self.config_path.write_text(self._config(), encoding="utf-8")
        self.engine.start()
        wait_until(lambda: self._status("/readyz") == http.HTTPStatus.OK, what="the engine being ready")

    def stop_engines(self) -> dict[str, int]:
        """Stop every engine in order; return their exit codes."""
        return {self.engine.name: self.engine.stop()}

    def close(self) -> None:
        """Stop every server. One that cannot be stopped does not keep the others alive."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.origin.stop)
            for node in self.nodes:
                stack.callback(node.server.kill)  # all of it is thrown away
            stack.callback(self.engine.kill)

    def purgeline(self, words: str, *, width: int, is_terminal: bool) -> Printed:
        """Run the command line as a user would, with ``PURGELINE_URL`` naming this engine."""
        argv = [sys.executable, "-m", "engine", *words.split()]
        environ = {**clean_environment(), "PURGELINE_URL": self.engine_url, "COLUMNS": str(width)}
        return run(argv, environ, cwd=ROOT, width=width, is_terminal=is_terminal)

    def ask(self, path: str) -> Any:
        """Return the engine's JSON at *path*."""
        status, body = self._request(path)
        if status != http.HTTPStatus.OK:
            raise StageError(f"{path} answered {status}: {body[:300].decode(errors='replace')}")
        return json.loads(body)

    def answers(self, task_id: str, count: int) -> list[dict[str, Any]]:
        """Return the engine's log lines about answers of nodes to *task_id*, once there are *count*."""

        def logged() -> list[dict[str, Any]] | None:
            lines = self.engine.log_path.read_text(encoding="utf-8").splitlines()
            answers = [json.loads(line) for line in lines if f'"{task_id}"' in line and '"subtask"' in line]
            return answers if len(answers) >= count else None

        return wait_until(logged, what=f"{count} log lines of task {task_id}") or []

    def log_tail(self) -> str:
        """Return the end of the engine's log, for a demo that failed."""
        return self.engine.log_tail()

    def _start_node(self, name: str, layer: str, driver: str, backend: str, port: int) -> Node:
        why = "asked for with --builtin" if self._is_forced else _NOT_HERE[driver]
        if driver in self._found:
            try:
                options: dict[str, Any] = {"xkey": False} if driver == "varnish" else {}
                if layer == "parent":
                    options |= {"canary": f"127.0.0.1:{self.engine.port}"}
                    options |= {"is_parent": True} if driver == "varnish" else {}
                server = caches.start_cache(
                    driver, self.folder, name=name, backend=backend, port=port, **options
                )
            except CacheError as exc:
                why = f"{driver} did not start: {str(exc).splitlines()[0]}"
            else:
                node = Node(name, layer, server, _software(self._found[driver]), "")
                self.nodes.append(node)
                return node
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        argv = ["release.lab.cacheproxy", "--port", str(port), "--backend", backend, "--folder", str(folder)]
        program = Program(name, port, argv, folder=self.folder)
        node = Node(name, layer, program, "built-in caching proxy", why)
        self.nodes.append(node)
        program.start()
        return node

    def _config(self, **more: object) -> str:
        engine = {
            "listen": f"127.0.0.1:{self.engine.port}",
            "data_dir": str(self.folder / "var"),
            "log_subtasks": True,
            "drain_timeout_s": 5,
            **more,
        }
        head = "[engine]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in engine.items())
        site = f'\n[[site]]\nhost = "{SITE}"\n'
        layers = '\n[[layer]]\nname = "parent"\n\n[[layer]]\nname = "edge"\n'
        return head + site + layers + "".join(node.table() for node in self.nodes)

    def _status(self, path: str) -> int:
        try:
            return self._request(path)[0]
        except OSError:
            return 0

    def _request(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.engine.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as exc:
            raise OSError(f"the engine: {exc!r}") from exc
        finally:
            connection.close()


def _is_hit(driver: str, is_builtin: bool, answer: http.client.HTTPResponse) -> bool:
    """Read the node's own word on where the page came from. An edge passes its parent's headers on."""
    if is_builtin:
        return answer.headers.get("X-Cache") == "HIT"
    if driver == "nginx":
        return answer.headers.get("X-Cache-Status") == "HIT"
    # A hit names the request that fetched it, too. The last header is the node's own, after its parent's.
    return len((answer.headers.get_all("X-Varnish") or [""])[-1].split()) > 1


def _software(path: str) -> str:
    """Return name, version and path of a cache server."""
    flag = "-V" if path.endswith("varnishd") else "-v"
    printed = subprocess.run([path, flag], capture_output=True, text=True, check=False)
    match = re.search(r"(varnish-|nginx/)([\d.]+)", printed.stderr + printed.stdout)
    name = "Varnish" if flag == "-V" else "nginx"
    return f"{name} {match[2] if match else ''} ({path})"

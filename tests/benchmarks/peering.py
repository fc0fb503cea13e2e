"""What the engine is measured beside: programs of others, in an environment of their own, and in Go.

Sources of peers are in ``peers/``. Those in Go are built where ``go`` is on the machine; nothing installs it.
"""

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from release.lab import caches
from release.lab.environment import BENCH
from tests.benchmarks.figures import Side
from tests.benchmarks.harness import HERE, PATH
from tests.waiting import wait_until

PEERS = HERE / "peers"
NO_GO = "no Go here"
#: Nothing is fetched: neither modules nor another Go.
_GO = {"GO111MODULE": "off", "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOPROXY": "off"}


def peers_python() -> str:
    """Return the Python of the peers' environment, made on first use."""
    return str(BENCH.ensure() / "python")


def run_peer(script: str, *args: object, side: Side) -> float:
    """Run a peer's script to its end; it prints its value, CPU seconds and peak memory as JSON."""
    return _run([peers_python(), str(PEERS / script), *map(str, args)], side)


def run_go(name: str, *args: object, side: Side) -> float:
    """Run a peer in Go to its end, which prints the same."""
    return _run([go_program(name), *map(str, args)], side)


def _run(command: Sequence[str], side: Side) -> float:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{Path(command[-1]).name}: {done.stderr[-2000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    side.cpu_s += said["cpu_s"]
    side.peak_rss_bytes = max(side.peak_rss_bytes, int(said["peak_rss_bytes"]))
    return float(said["value"])


@functools.cache
def go_version() -> str:
    """Return what ``go version`` calls itself; empty: there is none."""
    found = shutil.which("go")
    if found is None:
        return ""
    command = [found, "env", "GOVERSION"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **_GO})
    return done.stdout.strip()


@functools.cache
def go_program(name: str) -> str:
    """Build a program of ``peers/go`` and return its path; Go's own cache makes the second time short.

    Raises:
        RuntimeError: it cannot be built.
    """
    target = BENCH.folder / f"go-{name}"
    command = ["go", "build", "-o", str(target), "main.go"]
    source = PEERS / "go" / name
    done = subprocess.run(
        command, cwd=source, capture_output=True, text=True, check=False, env={**os.environ, **_GO}
    )
    if done.returncode:
        raise RuntimeError(f"go build of {name}: {done.stderr[-2000:]}")
    return str(target)


# Servers that take tasks, and keep them in memory


@contextlib.contextmanager
def fastapi() -> Iterator[tuple[str, int]]:
    """Run FastAPI on uvicorn; yields its URL and pid."""
    port = caches.free_port()
    command = [peers_python(), "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--no-access-log"]
    command += ["--log-level", "warning", "--loop", "uvloop", "--http", "httptools"]
    with _serving(command, port) as pid:
        yield _url(port), pid


@contextlib.contextmanager
def granian() -> Iterator[tuple[str, int]]:
    """Run an echo on Granian's RSGI, one worker; yields its URL and pid."""
    port = caches.free_port()
    command = [str(Path(peers_python()).with_name("granian")), "granian_app:app", "--interface", "rsgi"]
    command += ["--port", str(port), "--workers", "1", "--http", "1", "--loop", "uvloop", "--no-log"]
    with _serving(command, port) as pid:
        yield _url(port), pid


@contextlib.contextmanager
def go_server() -> Iterator[tuple[str, int]]:
    """Run Go's net/http on one proc; yields its URL and pid."""
    port = caches.free_port()
    with _serving([go_program("intake"), f"127.0.0.1:{port}"], port, {"GOMAXPROCS": "1"}) as pid:
        yield _url(port), pid


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}{PATH}"


@contextlib.contextmanager
def _serving(command: Sequence[str], port: int, variables: Mapping[str, str] | None = None) -> Iterator[int]:
    environ = {**os.environ, **(variables or {})}
    with subprocess.Popen(command, cwd=PEERS, env=environ) as process:
        try:
            wait_until(lambda: _connects(port), what=Path(command[0]).name)
            yield process.pid
        finally:
            process.terminate()


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True

"""A supervisor in a process of its own with scripted workers, and clients that load it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from engine.supervisor.unix import unix_address
from release.lab.caches import free_port
from tests.fakes import supervisors
from tests.fakes.release_dir import make_release
from tests.rigs.raw_client import RawClient
from tests.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: engine\r\n\r\n"


def is_running(pid: int) -> bool:
    """Tell whether a process is there; one that nobody has collected yet is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Host:
    """``ROOT`` of a host with ``supervisor.py`` as a process.

    Args:
        root: its folder; made, with an ``engine.toml`` and the supervisor.
        args: further arguments.
        keys: further keys of ``[engine]``.
    """

    def __init__(self, root: Path, *args: str, **keys: object) -> None:
        self.root = root
        self.port = free_port()
        self.args = list(args)
        self.config = root / "shared/engine.toml"
        self.config.parent.mkdir(parents=True)
        self.releases = root / "releases"
        self.releases.mkdir()
        self.configure(**keys)
        self.control = root / "shared/run/control.sock"
        self.log_path = root / "supervisor.log"
        self.file = root / "shared/supervisor.py"
        self.install()
        self.process: subprocess.Popen[bytes] | None = None

    def install(self, *edits: supervisors.Edit) -> Path:
        """Put a supervisor where hosts have it, perhaps a changed one; return its folder."""
        return supervisors.install(self.file.parent, *edits)

    def configure(self, **keys: object) -> None:
        """Write ``engine.toml``."""
        table = {"listen": f"127.0.0.1:{self.port}", "drain_timeout_s": 5, **keys}
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in table.items()]
        self.config.write_text("[engine]\n" + "".join(lines))

    def release(self, version: str, **behaviour: Any) -> Path:
        """Make a release; the first one is ``current``."""
        made = make_release(self.releases, version, **behaviour)
        with contextlib.suppress(FileExistsError):
            (self.root / "current").symlink_to(f"releases/{version}")
        return made

    def command(self) -> list[str]:
        return [sys.executable, "-I", str(self.file), "--root", str(self.root), "--bake", "0", *self.args]

    def start(
        self,
        *,
        wait: bool = True,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
        stderr: int = -3,
    ) -> None:
        """Start the supervisor and wait until it serves."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, *self.command()],
                stdout=log,
                stderr=log if stderr == -3 else stderr,  # -3 is none of subprocess's
                env={**os.environ, **(env or {})},
                cwd="/",
            )
        if wait:
            wait_until(self._is_serving, what="the supervisor serving")

    def _is_serving(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return bool(self.ask("status")["state"] == "serving")
        except OSError:
            return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def end(self, timeout_s: float = 45) -> int:
        """Wait for its exit code."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        """Make sure that it is gone, and its workers with it."""
        if self.process is None:
            return
        workers = [] if self.process.poll() is not None else self.pids()
        self.process.kill()
        self.process.wait()
        for pid in workers:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def pids(self) -> list[int]:
        """The supervisor's child processes."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def descriptors(self) -> int:
        """How many descriptors the supervisor has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - pathlib's would not be shorter

    # Control

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(30)
        try:
            with unix_address(self.control) as address:
                sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock

    def lines(self, sock: socket.socket, request: object) -> Iterator[dict[str, Any]]:
        """Send a request and give its answer line by line, the last one included."""
        sock.sendall((request if isinstance(request, bytes) else json.dumps(request).encode()) + b"\n")
        with sock.makefile("rb") as file:
            for line in file:
                document: dict[str, Any] = json.loads(line)
                yield document
                if "ok" in document:
                    return
        raise AssertionError(f"the answer to {request!r} has no end:\n{self.log()[-3000:]}")

    def ask(self, cmd: str, **fields: object) -> dict[str, Any]:
        """Send a command and return the last line of its answer."""
        with self.connect() as sock:
            return list(self.lines(sock, {"cmd": cmd, **fields}))[-1]

    def reload(self, release: Path | None = None, **fields: object) -> dict[str, Any]:
        """Reload, without a bake unless it is given."""
        where = {} if release is None else {"release_dir": str(release), "version": release.name}
        return self.ask("reload", **{"bake_s": 0, "timeout_s": 30, **where, **fields})

    def begin_reload(self, release: Path, until: str, **fields: object) -> "Pending":
        """Send a reload and return when this event has come."""
        return Pending(self, release, until, **fields)

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def workers(self, state: str = "accepting") -> list[dict[str, Any]]:
        return [worker for worker in self.status()["workers"] if worker["state"] == state]

    def worker(self, state: str = "accepting") -> dict[str, Any]:
        """Wait for one worker in this state."""
        return wait_until(lambda: self.workers(state), what=f"a worker being {state}")[0]

    # Clients

    def get(self, path: str = "/") -> dict[str, Any]:
        """GET on a connection of its own; it must be answered with 200."""
        with RawClient(self.port) as client:
            answer = client.ask(f"GET {path} HTTP/1.1\r\nHost: engine\r\n\r\n".encode())
            assert answer.status == 200, answer
            found: dict[str, Any] = answer.json
            return found


def has_traceback(host: Host) -> bool:
    """Tell whether the supervisor's own code raised what nobody caught."""
    return re.search(r'/supervisor[^"\n]*\.py", line', host.log()) is not None


class Pending:
    """A reload under way."""

    def __init__(self, host: Host, release: Path, until: str, **fields: object) -> None:
        self.sock = host.connect()
        request = {"cmd": "reload", "release_dir": str(release), "version": release.name, "bake_s": 0}
        self.lines = host.lines(self.sock, {**request, "timeout_s": 30, **fields})
        self.events: list[dict[str, Any]] = []
        self.wait_for(until)

    def wait_for(self, event: str) -> dict[str, Any]:
        for line in self.lines:
            self.events.append(line)
            if line.get("event") == event:
                return line
        raise AssertionError(f"no {event}: {self.events}")

    def answer(self) -> dict[str, Any]:
        """Wait for its end."""
        self.events += self.lines
        self.sock.close()
        return self.events[-1]


class Load:
    """Clients with hardly a pause, half of them on kept connections, half on new ones.

    Attributes:
        versions: who answered, in order.
        errors: what went wrong.
    """

    def __init__(self, port: int, clients: int = 6, pause_s: float = 0.01) -> None:
        self.port = port
        self.pause_s = pause_s
        self.versions: list[str] = []
        self.statuses: list[int] = []
        self.errors: list[str] = []
        self._over = threading.Event()
        kinds = [self._keep, self._renew]
        self._threads = [threading.Thread(target=kinds[number % 2]) for number in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.versions) > 20 or self.errors, what="load")
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self, client: RawClient) -> bool:
        answer = client.ask(GET)
        self.statuses.append(answer.status)
        self.versions.append(answer.json["version"])
        time.sleep(self.pause_s)
        return answer.headers["connection"] == "keep-alive" and not self._over.is_set()

    def _keep(self) -> None:
        while not self._over.is_set():
            try:
                with RawClient(self.port) as client:
                    while self._ask(client):
                        pass
            except (OSError, AssertionError, IndexError) as exc:
                self.errors.append(f"kept: {exc!r}")

    def _renew(self) -> None:
        while not self._over.is_set():
            try:
                with RawClient(self.port) as client:
                    self._ask(client)
            except (OSError, AssertionError, IndexError) as exc:
                self.errors.append(f"new: {exc!r}")

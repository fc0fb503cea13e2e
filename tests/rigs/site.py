"""An installation on hosts of namespaces, its repository, and the project's own tasks run against it."""

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from release.repository.repository import open_repository
from tests.fakes import artefacts, small_release
from tests.rigs.hosts import Host, Hosts

if TYPE_CHECKING:
    from release.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable).resolve()
TIMEOUT_S = 180.0
LISTEN = "127.0.0.1:9181"  #: the engine's, in the network of each host


def each(value: str) -> dict[str, str]:
    """Return *value* for every host of an installation."""
    return dict.fromkeys(("h1", "h2", "h3"), value)


@dataclass(frozen=True)
class Printed:
    """How a task ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Its result, with ``--json``."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def fates(self) -> dict[str, str]:
        """What became of each host."""
        return {host["host"]: host["outcome"] for host in self.document["hosts"]}

    @property
    def reasons(self) -> dict[str, str]:
        """Why."""
        return {host["host"]: host["reason"] for host in self.document["hosts"]}


class Task:
    """A task under way; its progress is read as it comes."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self.err = ""
        self._process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.send(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def read_until(self, pattern: str) -> None:
        """Wait for progress that matches."""
        assert self._process.stderr is not None
        while not re.search(pattern, self.err):
            piece = os.read(self._process.stderr.fileno(), 65536)
            assert piece, f"ended without {pattern!r}:\n{self.err}"
            self.err += piece.decode()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; ``ip netns exec`` becomes the task itself."""
        os.kill(self._process.pid, number)

    def end(self) -> Printed:
        """Wait for its end."""
        out, err = self._process.communicate(timeout=TIMEOUT_S)
        return Printed(self._process.returncode, out.decode(), self.err + err.decode())


class Site:
    """One installation: a root on all hosts of the rig, and a repository.

    Args:
        rig: its hosts.
        folder: for what the controller has.
        python: of the hosts; no wrapper, because each operation starts it.
    """

    def __init__(self, rig: Hosts, folder: Path, *, python: Path = PYTHON) -> None:
        self.rig = rig
        self.folder = folder
        self.root = "/srv/purgeline"
        self.base = ""  #: the version that all hosts serve when a test begins
        self.new = ""  #: the last version published by `publish_next`
        self._numbers = itertools.count(1)
        self.settings: Settings = artefacts.signer(
            folder,
            repository=str(folder / "repository"),
            known_hosts=str(rig.known_hosts),
            ssh_key_file=str(rig.key),
            inventory=str(self._inventory(python)),
            root=self.root,
            min_free_bytes=1,
            bake_s=0.3,
            batches="1,100%",
            connect_timeout_s=2,
            step_timeout_s=30,
            service="direct",
        )

    def _inventory(self, python: Path) -> Path:
        """Write the rig's inventory, with this interpreter on each host."""
        path = self.folder / "hosts.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            self.rig.inventory().read_text().replace("[[hosts]]", f'[[hosts]]\npython = "{python}"')
        )
        return path

    def publish(self, version: str, **behaviour: Any) -> None:
        """Publish a small release, in the channel stable."""
        artefact = small_release.make(self.folder / "packed", version, **behaviour)
        with open_repository("", self.settings) as repository:
            repository.publish(artefact, channel="stable")

    def publish_next(self) -> str:
        """Publish a good version that no host has; return it."""
        self.new = f"2.{next(self._numbers)}"
        self.publish(self.new)
        return self.new

    def settle(self) -> None:
        """Bring all hosts to one version, `base`, without locks."""
        for host in self.rig.hosts:
            (self.inside(host) / "lock").unlink(missing_ok=True)
            (self.inside(host) / "shared" / "behaviour.json").unlink(missing_ok=True)
        there = {(self.inside(host) / "current").readlink().name for host in self.rig.hosts}
        if len(there) == 1 and set(self.serving().values()) == there:
            self.base = there.pop()
        else:
            done = self.deploy(self.base, "--batches", "100%", bake_s=0, keep_count=50)
            assert done.code == 0, done.err

    def behave(self, host: Host, version: str, **behaviour: Any) -> None:
        """Say what a version does on one host only."""
        path = self.inside(host) / "shared" / "behaviour.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({version: behaviour}))

    def inside(self, host: Host) -> Path:
        """Return where the root of a host is, seen from outside."""
        return host.srv / self.root.removeprefix("/srv/")

    def start(self, name: str, *args: str, **settings: Any) -> Task:
        """Start a task on the controller."""
        inv = str(Path(sys.executable).with_name("inv"))
        command = [inv, "--search-root", str(PROJECT), name, *args]
        changed = msgspec.structs.asdict(self.settings) | settings
        texts = {key: value if isinstance(value, str) else _toml(value) for key, value in changed.items()}
        environ = os.environ | {f"PURGELINE_RELEASE__{key.upper()}": text for key, text in texts.items()}
        return Task(self.rig.command(*command), {**environ, "COLUMNS": "200"})

    def run(self, name: str, *args: str, **settings: Any) -> Printed:
        """Run a task on the controller to its end."""
        return self.start(name, *args, **settings).end()

    def deploy(self, version: str, *args: str, **settings: Any) -> Printed:
        """Deploy a version and return its JSON."""
        return self.run("deploy", *self.deploy_args(version, *args), **settings)

    def deploy_when_quiet(self, version: str, **settings: Any) -> Printed:
        """Deploy a version once no host is busy with a reload that nobody waits for any more."""
        deadline = time.monotonic() + 20
        while True:
            done = self.deploy(version, **settings)
            if "a reload is under way" not in done.err or time.monotonic() > deadline:
                return done

    def deploy_args(self, version: str, *args: str) -> list[str]:
        """Return the arguments of a deploy."""
        return ["--release", version, "--listen", LISTEN, "--no-salt", "--json", *args]

    def serving(self) -> dict[str, str]:
        """Return what each host serves, as its engine says; empty when it cannot be asked."""
        return {host.name: _served(host) for host in self.rig.hosts}

    def history(self, host: Host) -> list[tuple[str, str, bool]]:
        """Return action, version and success of what a host remembers."""
        lines = (self.inside(host) / "history.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        return [(entry["action"], entry["version"], entry["ok"]) for entry in entries]


@contextlib.contextmanager
def installation(folder: Path, python: Path) -> Iterator[Site]:
    """Give an installation that serves 1.0 on three hosts."""
    with Hosts(folder / "rig", 3) as rig:
        site = Site(rig, folder / "site", python=python)
        site.publish("1.0")
        first = site.deploy("1.0", "--batches", "100%")
        assert first.code == 0, first.err
        site.base = "1.0"
        yield site


def _served(host: Host) -> str:
    command = host.command("curl", "-sS", "--fail", "--max-time", "5", f"http://{LISTEN}/version")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return str(json.loads(done.stdout)["version"]) if done.returncode == 0 else ""


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {json.dumps(text)}" for key, text in value.items()) + "}"
    return json.dumps(value)


def elapsed(began: float) -> float:
    """Return the seconds since."""
    return time.monotonic() - began

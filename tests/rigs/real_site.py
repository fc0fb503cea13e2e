"""Three hosts with a Varnish each, real releases of this project, and clients on every host.

What runs on a host runs in its network, so each engine keeps to loopback there.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from release.build import packing
from release.repository.repository import open_repository
from tests.rigs.hosts import Host
from tests.rigs.site import PROJECT, Site

ENGINE_PORT = 9181
VARNISH_PORT = 6081
CLIENTS = 12  #: on each host
PAUSE_S = float(os.environ.get("PURGELINE_TEST_PAUSE_S", "0.5"))
"""Between two requests of a client; with 0 each host takes so many tasks that asking for the state of every
one of them takes minutes."""
SETTLE_TIMEOUT_S = 450.0
EXTRAS = frozenset(
    (
        *("cffi", "cryptography", "isal", "librt", "markdown-it-py", "mdurl", "pycparser", "pygments"),
        *("pyjwt", "rich", "uvloop"),
    )
)
"""What the engine does without: more than half of an artefact, which each host receives, installs and checks.
``tests/hosts/test_packing.py`` and ``test_deploy.py`` have artefacts with all of it."""


def clone(folder: Path) -> Path:
    """Return a clone of this project's commit, with what the working tree has on top of it, committed.

    Its lock is without `EXTRAS`.
    """
    subprocess.run(["git", "clone", "-q", str(PROJECT), str(folder)], check=True, capture_output=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=PROJECT, check=True, capture_output=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    lock = folder / "requirements.lock"
    entries = re.split(r"^(?=\S)", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    kept = [entry for entry in entries if entry.partition("==")[0] not in EXTRAS]
    assert len(entries) - len(kept) == len(EXTRAS), "each of them is locked"
    lock.write_text("".join(kept), encoding="utf-8")
    commit(folder, "as it is")
    return folder


def commit(folder: Path, why: str) -> None:
    """Commit everything in *folder*."""
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", why, "--allow-empty"], cwd=folder, check=True)


def publish(tree: Path, version: str, site: Site) -> None:
    """Pack *tree* as *version* and publish it."""
    built = packing.build(
        release=version,
        out=site.folder / "dist",
        root=tree,
        settings=site.settings,
        self_test=False,
        pure=True,
    )
    with open_repository("", site.settings) as repository:
        repository.publish(built.path, channel="stable")


def write_config(site: Site, host: Host, *, store: str = "sqlite:") -> None:
    """Write what the states would: the engine's configuration, with the Varnish of its host."""
    folder = site.inside(host) / "shared"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engine.toml").write_text(
        f'[engine]\nlisten = "127.0.0.1:{ENGINE_PORT}"\n\n[store]\nurl = "{store}"\n\n'
        f'[[node]]\nname = "edge-1"\ndriver = "varnish"\nurl = "http://127.0.0.1:{VARNISH_PORT}"\n'
    )


@contextlib.contextmanager
def redis_on_controller(site: Site) -> Iterator[str]:
    """Run a Redis that all hosts can reach; yields its URL."""
    folder = site.folder / "redis"
    folder.mkdir()
    options = ["--bind", "10.77.0.1", "--protected-mode", "no", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen(
        site.rig.command("redis-server", *options, "--appendonly", "yes"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("Ready to accept connections" in line for line in process.stdout)
        yield "redis://10.77.0.1:6379/0"
    finally:
        process.kill()
        process.communicate(timeout=20)


@contextlib.contextmanager
def varnish_on(host: Host) -> Iterator[None]:
    """Run a Varnish in the network of a host."""
    process = subprocess.Popen(
        host.command(
            sys.executable,
            "-m",
            "tests.rigs.varnish_here",
            str(host.folder / "varnish"),
            str(VARNISH_PORT),
        ),
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        yield
    finally:
        process.communicate(timeout=20)


def ask(host: Host, path: str) -> str:
    """Return what the engine of a host answers to a GET."""
    command = host.command("curl", "-sS", "--fail", f"http://127.0.0.1:{ENGINE_PORT}{path}")
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


class HostLoad:
    """`tests.rigs.load` on a host, until it is stopped."""

    def __init__(self, host: Host, *, clients: int = CLIENTS) -> None:
        self._process = subprocess.Popen(
            host.command(
                sys.executable, "-m", "tests.rigs.load", "127.0.0.1", str(ENGINE_PORT),
                "--clients", str(clients), "--pause", str(PAUSE_S), "--seconds", "600", "--settle",
            ),
            cwd=PROJECT,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"running\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def stop(self) -> dict[str, Any]:
        """Stop the clients; return what they saw, and the states of all tasks that were accepted."""
        self._process.terminate()
        out, _ = self._process.communicate(timeout=SETTLE_TIMEOUT_S)
        return dict(json.loads(out))

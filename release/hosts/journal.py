"""What this machine remembers of its deploys: a history, and which ones are under way.

Both are files under ``state_dir``. ``history.jsonl`` only grows: a line when a run begins and one when it
ends, so a line ``begin`` without its ``end`` is a run that was killed. ``runs/ID.json`` exists while a run
is under way and holds its lock's token; one whose process is gone was abandoned, and the next run on this
machine can release its lock and take over. A process is told by its number and its start, which a reused
number does not share, on its own machine only: a home that several machines share has runs of all of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from release.agent.files import sync_folder, sync_name_of
from release.agent.redact import redact
from release.errors import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HISTORY: Final = "history.jsonl"
RUNS: Final = "runs"
_START_FIELD: Final = 19  #: of /proc/PID/stat, counted after the name


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One deploy, rollback or manual lock of this machine."""

    deploy_id: str
    token: str  #: of its lock on the hosts
    action: str  #: ``deploy``, ``rollback``, ``lock`` …
    version: str
    root: str  #: on the hosts
    hosts: list[str]
    who: str
    where: str  #: this machine
    at: float  #: UNIX seconds
    pid: int = 0  #: 0: a manual lock, which no process holds
    started: str = ""  #: start of the process, in the kernel's own words
    machine: str = ""  #: id of this machine; empty from the version before
    space: str = ""  #: of process numbers: in a container they are others

    @property
    def is_here(self) -> bool:
        """Whether this machine, and not another one with the same home, began it."""
        return self.where == socket.gethostname() and self.machine in {"", _machine()}

    @property
    def is_ended(self) -> bool:
        """Whether it is certain that its process is gone."""
        if not self.is_here or self.pid == 0 or self.is_alive:
            return False
        is_other_boot = self.started.partition(":")[0] != _boot()
        return bool(self.machine) if is_other_boot else self.space in {"", _space()}

    @property
    def controller_boot(self) -> str:
        """The boot of this machine in which its process began; of a manual lock none."""
        return self.started.partition(":")[0]

    @property
    def why(self) -> str:
        """What the lock says."""
        return f"{self.action} {self.version}".strip() + f" ({self.deploy_id})"

    @property
    def is_alive(self) -> bool:
        """Whether its process is still there."""
        return self.pid == 0 or _start_of(self.pid) == self.started != ""


def new_run(action: str, *, version: str, root: str, hosts: Iterable[str], is_manual: bool = False) -> Run:
    """Return a run of this process, with an id that sorts by time."""
    at = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    return Run(
        deploy_id=f"{stamp}-{secrets.token_hex(2)}",
        token=secrets.token_hex(16),
        action=action,
        version=version,
        root=root,
        hosts=list(hosts),
        who=who(),
        where=socket.gethostname(),
        at=at,
        pid=0 if is_manual else os.getpid(),
        started="" if is_manual else _start_of(os.getpid()),
        machine=_machine(),
        space=_space(),
    )


def who() -> str:
    """Return the name of the user, and of the user who became that one by sudo."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    behind = os.environ.get("SUDO_USER", "")
    return f"{user} (sudo by {behind})" if behind and behind != user else user


class Journal:
    """The history and the runs under way, as files of *state_dir*."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir
        self._runs = state_dir / RUNS

    def __repr__(self) -> str:
        return f"<Journal {self._folder}>"

    @property
    def path(self) -> Path:
        """The history."""
        return self._folder / HISTORY

    def append(self, **entry: Any) -> None:
        """Add a line to the history, flushed to disk.

        Raises:
            ReleaseError: it cannot be written.
        """
        line = msgspec.json.encode(redact({"at": round(time.time(), 3), **entry})) + b"\n"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    line = b"\n" + line  # a killed run's half a line stays by itself
                file.write(line)
                os.fsync(descriptor)
            if not size:
                self._sync()
        except OSError as exc:
            raise ReleaseError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def read(self, limit: int = 0) -> list[dict[str, Any]]:
        """Return the last *limit* entries, all for 0, the oldest first; damaged lines are left out.

        Raises:
            ReleaseError: it cannot be read.
        """
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise ReleaseError(f"{self.path}: cannot be read: {exc.strerror}") from exc
        entries = []
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError):
                entries.append(msgspec.json.decode(line, type=dict[str, Any]))
        return entries[-limit:] if limit else entries

    def begin(self, run: Run) -> None:
        """Note that *run* is under way; called before the run locks a host.

        Raises:
            ReleaseError: it cannot be written.
        """
        path = self._path(run.deploy_id)
        try:
            self._runs.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(run))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(self._runs)
            self._sync()
        except OSError as exc:
            raise ReleaseError(f"{path}: cannot be written: {exc.strerror}") from exc

    def _sync(self) -> None:
        """Have the names of the folder, and its own, outlive a power cut."""
        sync_folder(self._folder)
        sync_name_of(self._folder)

    def end(self, deploy_id: str) -> None:
        """Note that a run holds nothing any more."""
        with contextlib.suppress(OSError):
            self._path(deploy_id).unlink()

    def runs(self) -> list[Run]:
        """Return the runs that have not ended, the oldest first."""
        runs = []
        for path in sorted(self._runs.glob("*.json")):
            with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
                runs.append(msgspec.json.decode(path.read_bytes(), type=Run))
        return sorted(runs, key=lambda run: run.at)

    def abandoned(self, root: str, hosts: Sequence[str]) -> list[Run]:
        """Return the runs of this machine on any of *hosts* whose process is gone."""
        return [
            run
            for run in self.runs()
            if run.is_ended and run.root == root and not set(run.hosts).isdisjoint(hosts)
        ]

    def _path(self, deploy_id: str) -> Path:
        return self._runs / f"{deploy_id}.json"


def _start_of(pid: int) -> str:
    """Return when a process began, and in which boot; empty for no process and for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else f"{_boot()}:{fields[_START_FIELD]}"


def _boot() -> str:
    return _line_of("/proc/sys/kernel/random/boot_id")


def _machine() -> str:
    return _line_of("/etc/machine-id")


def _line_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _space() -> str:
    """Return which table of processes this one is in."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""

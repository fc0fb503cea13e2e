"""Supervisor: holds the listening socket, runs the workers, replaces them without a refused connection.

Promise
    The address is bound once. While workers change, connections wait in the socket's queue; none is
    refused and none is cut off in the middle of an answer. A new version is given traffic only after it
    has started, said that it is ready and said that it is the version it should be; one that crashes,
    hangs, answers 503 or another version is ended, and the old one has not noticed. A version that goes
    bad in its first seconds (the bake) is replaced by the one before it. The process id never changes.

Sequence of a reload
    1. spawn a new worker per slot, from the resolved release folder; it does not accept yet
    2. ask each on its private socket until ``/readyz`` is 200; ``/version`` must be the right one
    3. tell all workers their peers, tell the new ones to ``go``, wait until each says that it accepts
    4. tell the old ones to drain; one that does not is killed two seconds after its limit
    5. an old worker has exited: its successor is told to ``adopt`` what it left
    6. bake: a new worker that exits, is not ready three times in a row, or answers too many 5xx starts
       the same sequence back to the old release

    A failure in 1 or 2 ends the new workers: nothing has happened. One in 3 drains them: the old ones never
    stopped accepting. While a reload goes on, a second one and a self-replacement are refused; a stop is
    not, it drains every worker. An old worker that dies before step 3 is respawned like any other.

Respawn
    A worker that dies is replaced at once, then with growing pauses while it keeps dying young. The first
    start is different: when a worker cannot start at all the supervisor ends, with the worker's exit code
    if that was 2 (wrong configuration), else with 1.

Self-replacement
    ``replace`` checks that the new file compiles and that it can read this one's state (it is run once
    for that), then executes it in this process: same pid, sockets and workers. Descriptors are inherited,
    the rest goes through a memory file; signals wait until the new code has its handlers.

Limits
    Linux only. A changed ``engine.listen``, ``engine.data_dir`` or number of workers needs a restart; a
    reload that finds the first two changed is refused. SIGKILL of the supervisor ends the service: workers
    see the end of their control socket, drain for two seconds and exit; the next supervisor waits for them
    (they hold ``supervisor.lock``), then binds. During those seconds connections are refused, unless
    systemd holds the socket (``LISTEN_FDS``). A worker that serves, but badly, is not noticed after the bake.

    systemd unit: ``Type=notify``, ``NotifyAccess=main``, ``KillMode=mixed``, and an ``ExecReload=`` that
    sends ``{"cmd":"reload"}`` to the control socket and waits for its last line.

The file runs alone (``python3 -I supervisor.py``), outside ``releases/`` and any virtual environment, so it
imports the standard library only. From top to bottom::

    Settings     Options, EngineTable, parse(), read_table()
    Plumbing     Output, Notifier, unix_address(), together()
    Holding      handed_down(), bind(), take_lock(), open_control()
    Worker       Release, StageError, LogTail, Worker
    Fleet        Slot, Fleet: spawn, go, drain, adopt, respawn
    Reload       Reload
    Control      Control: JSON lines on a Unix socket
    Replacement  Handover
    Main         Supervisor, main()

Decisions take their time from the monotonic clock; wall-clock time is only shown.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import random
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import tomllib
from collections import deque
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

PROTOCOL: Final = 1  #: of workers: what PURGELINE_WORKER says
HANDOVER_FORMAT: Final = 1  #: of the state that `replace` hands on
USAGE, FAILED, INTERRUPTED = 2, 1, 130  #: exit codes

_LINE_MAX: Final = 64 * 1024  #: bytes of one JSON line
_TAIL_BYTES: Final = 16 * 1024
_TAIL_LINES: Final = 20
_OUTPUT_BYTES: Final = 1024 * 1024  #: that may wait for a slow stderr; beyond, lines are dropped
_POLL_S: Final = 0.01
_ASK_TIMEOUT_S: Final = 2.0
_GO_TIMEOUT_S: Final = 10.0
_WITHDRAW_S: Final = 5.0  #: drain limit of a new worker whose reload failed after `go`
_KILL_AFTER_S: Final = 2.0  #: past a drain's limit
_BIND_RETRY_S: Final = 10.0
_YOUNG_S: Final = 10.0
_BACKOFF_S: Final = (0.1, 5.0)
_BAKE_EVERY_S: Final = 0.5
_BAKE_FAILURES: Final = 3
_ERRORS_MIN: Final = 20
_ERRORS_SHARE: Final = 0.05
_CLIENTS_MAX: Final = 64
_FROM_SYSTEMD: Final = (
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)
_UNDERSTOOD: Final = b"handover understood\n"
_FILE: Final = Path(__file__).absolute()
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class SupervisorError(Exception):
    """The supervisor cannot run, or cannot do what it was asked; the text says why.

    Args:
        exit_code: of the process when this ends it.
    """

    def __init__(self, text: str, *, exit_code: int = FAILED) -> None:
        super().__init__(text)
        self.exit_code = exit_code


# --- Settings ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line, its paths made absolute, except those that follow from ``data_dir``."""

    root: Path | None
    config: Path
    control: Path | None
    run_dir: Path | None
    release: Path | None
    workers: int
    listen: str  #: empty: from the configuration
    bake_s: float
    wait_s: float  #: for the orphans of a killed supervisor
    start_timeout_s: float  #: for a worker outside a reload
    handover: int | None  #: descriptor of the state of the one before
    check: bool

    @property
    def folder(self) -> Path:
        """The working directory, which relative paths of the configuration mean."""
        return self.root / "shared" if self.root else self.config.parent

    def argv(self) -> list[str]:
        """Return arguments that mean the same from any folder."""
        found = []
        for name, value in (
            ("root", self.root),
            ("config", self.config),
            ("control", self.control),
            ("run-dir", self.run_dir),
            ("release", self.release),
            ("workers", self.workers),
            ("listen", self.listen),
            ("bake", self.bake_s),
            ("wait", self.wait_s),
            ("start-timeout", self.start_timeout_s),
        ):
            if value not in {None, ""}:
                found += [f"--{name}", str(value)]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTable:
    """What the supervisor reads of ``[engine]``."""

    listen: str
    listen_backlog: int
    data_dir: str
    drain_timeout_s: float


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 86400:  # noqa: PLR2004 - a day
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 256):  # noqa: PLR2004 - more processes than any host has cores
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 256")
    return int(text)


def parse(argv: Sequence[str]) -> Options:
    """Return the options of a command line.

    Raises:
        SystemExit: after ``--help`` (0) or a mistake (2), both told already.
    """
    parser = argparse.ArgumentParser(
        prog="supervisor.py",
        description="Runs the workers of one purgeline engine and reloads them without refusing a request.",
        epilog="Relative paths are below --root when that is given.",
        allow_abbrev=False,
    )
    option = parser.add_argument
    option("--root", type=Path, metavar="DIR", help="host folder with current, releases/ and shared/")
    option("--config", type=Path, metavar="F", help="TOML file (default with --root: shared/engine.toml)")
    option("--control", type=Path, metavar="PATH", help="control socket (default: control.sock in --run-dir)")
    option("--run-dir", type=Path, metavar="DIR", help="sockets of workers (default: shared/run or DATA/run)")
    option("--release", type=Path, metavar="DIR", help="release to start with (default: current of --root)")
    option("--workers", type=_count, default=1, metavar="N", help="processes (default 1)")
    option("--listen", default="", metavar="HOST:PORT", help="instead of engine.listen")
    option("--bake", type=_number, default=5.0, metavar="S", help="watch a new release so long (default 5)")
    option("--wait", type=_number, default=60.0, metavar="S", help="wait for workers of a killed supervisor")
    option("--start-timeout", type=_number, default=60.0, metavar="S", help="until a worker must be ready")
    option("--handover", type=int, metavar="FD", help=argparse.SUPPRESS)
    option("--check", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.config is None and args.root is None:
        parser.error("--config or --root is needed")
    base = (args.root or Path()).absolute()
    below = {
        name: base / value for name in ("control", "run_dir", "release") if (value := getattr(args, name))
    }
    if args.root:
        below.setdefault("run_dir", base / "shared/run")
    return Options(
        root=base if args.root else None,
        config=base / (args.config or "shared/engine.toml"),
        control=below.get("control"),
        run_dir=below.get("run_dir"),
        release=below.get("release"),
        workers=args.workers,
        listen=args.listen,
        bake_s=args.bake,
        wait_s=args.wait,
        start_timeout_s=args.start_timeout,
        handover=args.handover,
        check=args.check,
    )


def read_table(path: Path, *, listen: str = "") -> EngineTable:
    """Return what the supervisor needs of a configuration; the engine checks the rest.

    Args:
        path: TOML file. The environment (``PURGELINE_ENGINE__LISTEN``) overrides it, as for the engine.
        listen: overrides both.

    Raises:
        SupervisorError: it cannot be read, or one of the keys has a wrong value; names file and key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("engine", {})
    except FileNotFoundError:
        raise SupervisorError(f"{path}: no such file; --config takes a TOML file", exit_code=USAGE) from None
    except (OSError, ValueError) as exc:
        raise SupervisorError(f"{path}: cannot be read as TOML: {exc}", exit_code=USAGE) from exc
    if not isinstance(table, dict):
        raise SupervisorError(f"{path}: engine must be a table, written [engine]", exit_code=USAGE)

    def value_of(key: str, default: Any) -> Any:
        text = listen if key == "listen" and listen else os.environ.get(f"PURGELINE_ENGINE__{key.upper()}")
        found = table.get(key, default) if text is None else text
        with contextlib.suppress(ValueError):
            if text is not None or isinstance(found, int):  # 30 for 30.0
                found = type(default)(found)
        may_be_zero = key == "drain_timeout_s"
        if type(found) is not type(default) or not (found or may_be_zero):
            raise SupervisorError(
                f"{path}: engine.{key}: {found!r} is wrong, it takes a value such as {default!r}",
                exit_code=USAGE,
            )
        return found

    read = EngineTable(
        listen=value_of("listen", "127.0.0.1:9181"),
        listen_backlog=value_of("listen_backlog", 4096),
        data_dir=value_of("data_dir", "var"),
        drain_timeout_s=value_of("drain_timeout_s", 30.0),
    )
    host, _, port = read.listen.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:  # noqa: PLR2004 - TCP's last port
        raise SupervisorError(
            f"{path}: engine.listen: {read.listen!r} is not HOST:PORT, such as 127.0.0.1:9181",
            exit_code=USAGE,
        )
    return read


# --- Plumbing ----------------------------------------------------------------------------------


class Output:
    """stderr, written by a thread of its own: a pipe that nobody reads blocks that thread only.

    Attributes:
        dropped: chunks that were thrown away because too much waited.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._untold = 0
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_writing = False
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Write a line of the supervisor's own."""
        self.write(f"supervisor: {text}\n".encode(errors="backslashreplace"))

    def write(self, data: bytes) -> None:
        """Write whole lines, some time soon, or drop them."""
        with self._changed:
            if self._bytes + len(data) > _OUTPUT_BYTES:
                self.dropped += 1
                self._untold += 1
                return
            if self._untold:
                data = b"supervisor: %d lines were dropped, stderr is too slow\n%b" % (self._untold, data)
                self._untold = 0
            self._waiting.append(data)
            self._bytes += len(data)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> None:
        """Wait until everything is written, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_writing, timeout_s)

    def _run(self) -> None:
        signal.pthread_sigmask(
            signal.SIG_BLOCK, _SIGNALS
        )  # they are for the main thread, see `Supervisor._replace`
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                data = memoryview(b"".join(self._waiting))
                self._waiting.clear()
                self._is_writing = True
            while data:
                try:
                    data = data[os.write(2, data) :]
                except BlockingIOError:  # somebody made it non-blocking
                    time.sleep(_POLL_S)
                except OSError:
                    break  # nobody reads it any more
            with self._changed:
                self._bytes = sum(map(len, self._waiting))


class Notifier:
    """Tells systemd (``NOTIFY_SOCKET``), or whoever listens there, how it goes; else does nothing."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = os.environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(usec) / 1e6 if usec.isdecimal() and for_us else 0.0

    def send(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``. Never blocks or fails."""
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, self._address)

    def pat(self) -> None:
        """Keep the watchdog quiet, again and again; the loop must be running."""
        if self.watchdog_s:
            self.send("WATCHDOG=1")
            asyncio.get_running_loop().call_later(self.watchdog_s / 2, self.pat)


@contextlib.contextmanager
def unix_address(path: Path) -> Any:
    """Give an address for a Unix socket's path, which may be longer than the 107 bytes of an address."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


async def together(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; the first error cancels the others and is raised."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- Holding: what a host has only one of ------------------------------------------------------


def handed_down() -> socket.socket | None:
    """Return the socket that systemd handed down (``LISTEN_FDS``), if it did; forget the variables.

    Raises:
        SupervisorError: what was handed down is not one listening stream socket.
    """
    count, pid = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", str(os.getpid()))
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if not count or pid != str(os.getpid()):
        return None
    if count != "1":
        raise SupervisorError(f"LISTEN_FDS={count}: one socket must be handed down", exit_code=USAGE)
    try:
        listener = socket.socket(fileno=3)
    except OSError as exc:
        raise SupervisorError(
            f"LISTEN_FDS=1: descriptor 3 is no socket: {exc.strerror}", exit_code=USAGE
        ) from exc
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise SupervisorError("LISTEN_FDS=1: descriptor 3 does not listen", exit_code=USAGE)
    os.set_inheritable(3, False)
    listener.setblocking(False)
    return listener


def bind(table: EngineTable, output: Output) -> socket.socket:
    """Bind and listen, retrying for some seconds while the address is taken.

    Raises:
        SupervisorError: the address cannot be bound.
    """
    host, _, port = table.listen.rpartition(":")
    until = time.monotonic() + _BIND_RETRY_S
    is_told = False
    while True:
        try:
            family, kind, proto, _, address = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM
            )[0]
            listener = socket.socket(family, kind, proto)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                listener.listen(table.listen_backlog)
            except OSError:
                listener.close()
                raise
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise SupervisorError(
                    f"engine.listen: {table.listen} cannot be bound: {exc.strerror or exc}", exit_code=USAGE
                ) from exc
            if not is_told:
                output.say(f"{table.listen} is taken, trying for {_BIND_RETRY_S:g} s")
                is_told = True
            time.sleep(0.05)
        else:
            listener.setblocking(False)
            return listener


def take_lock(path: Path, *, wait_s: float, output: Output) -> int:
    """Return a descriptor that holds the lock of the data folder; it is handed on to every worker.

    Raises:
        SupervisorError: somebody else held it for all of *wait_s*, or it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise SupervisorError(f"{path}: cannot be made: {exc.strerror}", exit_code=USAGE) from exc
    until = time.monotonic() + wait_s
    is_told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not is_told:
                output.say(f"{path} is held by another supervisor or its workers, waiting up to {wait_s:g} s")
                is_told = True
            if time.monotonic() > until:
                os.close(lock)
                raise SupervisorError(
                    f"{path} is still held after {wait_s:g} s: something runs on it"
                ) from None
            time.sleep(0.05)
        else:
            return lock


def refuse_if_live(path: Path) -> None:
    """Make sure that no supervisor answers on a control socket.

    Raises:
        SupervisorError: one does, or the path is something else.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SupervisorError(f"--control: {path} is there and is no socket", exit_code=USAGE)
        with unix_address(path) as address, socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_ASK_TIMEOUT_S)
            sock.connect(address)
    except TimeoutError:
        pass  # it hangs, but it is there
    except OSError:
        return
    raise SupervisorError(f"a supervisor runs already, it answers on {path}")


def open_control(path: Path) -> socket.socket:
    """Return the listening control socket, mode 0600, in place of one that a dead supervisor left.

    Raises:
        SupervisorError: it cannot be made, or belongs to a live supervisor.
    """
    refuse_if_live(path)
    sock = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        with unix_address(path) as address:
            sock.bind(address)
        sock.listen(_CLIENTS_MAX)
    except OSError as exc:
        sock.close()
        raise SupervisorError(f"--control: {path} cannot be made: {exc.strerror}", exit_code=USAGE) from exc
    finally:
        os.umask(mask)
    sock.setblocking(False)
    return sock


# --- Worker ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Release:
    """What a worker runs. An empty version is whatever the first worker says."""

    directory: str
    version: str = ""

    def __str__(self) -> str:
        return self.version or self.directory or "its own"

    @classmethod
    def at(cls, directory: Path, version: str = "") -> Release:
        """Return the release of a folder; without a version, that of its manifest if it has one.

        Raises:
            SupervisorError: the folder holds no release.
        """
        directory = directory.resolve()
        python = directory / "venv/bin/python"
        if not directory.is_dir():
            raise SupervisorError(f"{directory}: no such folder; it takes a release, as releases/1.2.3")
        if not os.access(python, os.X_OK):
            raise SupervisorError(f"{directory}: holds no release: {python} is missing or not executable")
        if not version:
            with contextlib.suppress(OSError, ValueError, TypeError):
                version = str(json.loads((directory / "manifest.json").read_bytes()).get("version", ""))
        return cls(str(directory), version)


class StageError(Exception):
    """A reload, or the start of a worker, failed.

    Args:
        stage: ``start``, ``ready``, ``version``, ``go`` or ``bake``.
        log: last lines of the worker that was at fault.
    """

    def __init__(
        self, stage: str, text: str, *, log: Sequence[str] = (), exit_code: int | None = None
    ) -> None:
        super().__init__(text)
        self.stage = stage
        self.log = list(log)
        self.exit_code = exit_code  #: of the worker, if it ended


def launch(
    command: Sequence[str], settings: dict[str, Any], *, keep: Sequence[int]
) -> tuple[int, socket.socket, int]:
    """Start a worker; return its pid, our end of its control socket, and of the pipe it logs to.

    Args:
        command: program and arguments.
        settings: what ``PURGELINE_WORKER`` says, without ``control_fd``.
        keep: descriptors it inherits besides.

    Raises:
        OSError: it cannot be started.
    """
    env = {name: value for name, value in os.environ.items() if name not in _FROM_SYSTEMD}
    ours, theirs = socket.socketpair()
    with theirs:
        text = json.dumps({**settings, "control_fd": theirs.fileno()})
        reader, writer = os.pipe()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env={**env, "PYTHONSAFEPATH": "1", "PURGELINE_WORKER": text},
                pass_fds=(theirs.fileno(), *keep),
                process_group=0,  # Ctrl-C is for the supervisor, which tells them what it means
            )
        except OSError:
            ours.close()
            os.close(reader)
            raise
        finally:
            os.close(writer)
    process.returncode = 0  # `Worker.reap` collects it
    return process.pid, ours, reader


class LogTail:
    """What a worker writes to stdout and stderr: passed on line by line, its end remembered."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self.partial = b""
        self.kept = b""

    def feed(self, data: bytes) -> None:
        """Take what the pipe gave; nothing at its end."""
        self.kept = (self.kept + data)[-_TAIL_BYTES:]
        whole, newline, self.partial = (self.partial + data).rpartition(b"\n")
        if newline:
            self._write(whole + newline)
        if self.partial and (not data or len(self.partial) > _LINE_MAX):
            self._write(self.partial + b"\n")
            self.partial = b""

    def lines(self) -> list[str]:
        """Return the last lines."""
        return self.kept.decode(errors="replace").splitlines()[-_TAIL_LINES:]


class Worker:
    """One worker process, its control socket, its log pipe and its private HTTP socket.

    Attributes:
        state: ``starting`` (until ``/readyz``), ``ready``, ``accepting``, ``draining``.
        is_candidate: a reload has started it and has not yet decided for it.
        is_leaving: it was told to end, so its end is no surprise.
        is_announced: others know it as a peer.
        was_sent_go: it may have clients.
        exited: its exit code, once; negative: the signal that ended it.
    """

    def __init__(
        self,
        *,
        slot: int,
        generation: int,
        release: Release,
        has_predecessor: bool,
        pid: int,
        control: socket.socket,
        log_fd: int,
        path: Path,
        tail: LogTail,
    ) -> None:
        self.slot, self.generation, self.release, self.pid = slot, generation, release, pid
        self.has_predecessor = has_predecessor
        self.path = path
        self.tail = tail
        self.state = "starting"
        self.version = ""  #: as it said itself
        self.is_candidate = self.is_leaving = self.is_announced = self.was_sent_go = False
        self.requests = self.errors_5xx = 0
        self.started_at = time.monotonic()
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.accepting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.unread = b""
        self._log_ended = asyncio.Event()
        self.control, self.log_fd = control, log_fd
        self._loop = asyncio.get_running_loop()
        self._kill_timer: asyncio.TimerHandle | None = None
        control.setblocking(False)
        os.set_blocking(log_fd, False)
        self._loop.add_reader(control, self._read_control)
        self._loop.add_reader(log_fd, self._read_log)

    def __str__(self) -> str:
        version = self.version or self.release.version or "of unknown version"
        return f"worker {self.slot} (generation {self.generation}, pid {self.pid}, {version})"

    @property
    def uptime_s(self) -> float:
        """Seconds since it was spawned."""
        return time.monotonic() - self.started_at

    # Told by it

    def _read_control(self) -> None:
        try:
            data = self.control.recv(_LINE_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self.control)
            return
        *lines, self.unread = (self.unread + data).split(b"\n")
        self.unread = self.unread[-_LINE_MAX:]
        for line in lines:
            with contextlib.suppress(ValueError, AttributeError, TypeError):  # what we do not know is ignored
                self._told(json.loads(line))

    def _told(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event == "accepting" and self.was_sent_go and not self.is_leaving and not self.accepting.done():
            self.state = "accepting"
            self.accepting.set_result(None)
        elif event == "health":
            self.requests, self.errors_5xx = int(message["requests"]), int(message["errors_5xx"])

    def _read_log(self) -> None:
        try:
            data = os.read(self.log_fd, _LINE_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.tail.feed(data)
        if not data:
            self._loop.remove_reader(self.log_fd)
            self._log_ended.set()

    # Told to it

    def send(self, command: str, **fields: Any) -> None:
        """Send a command. A worker that has not read the last thousand of them hangs, and is killed."""
        line = json.dumps({"cmd": command, **fields}).encode() + b"\n"
        try:
            is_sent = self.control.send(line) == len(line)
        except BlockingIOError:
            is_sent = False
        except OSError:
            return  # it is gone, or about to be
        if not is_sent:
            self.kill()

    def go(self) -> None:
        """Let it accept connections."""
        self.was_sent_go = True
        self.send("go")

    def drain(self, limit_s: float) -> None:
        """Let it finish and exit; it is killed when it takes longer than it may."""
        self.is_leaving = True
        self.state = "draining"
        self.send("drain", limit_s=limit_s)
        if self._kill_timer is None:
            self._kill_timer = self._loop.call_later(limit_s + _KILL_AFTER_S, self.kill)

    def kill(self) -> None:
        """SIGKILL it, if it is there."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there. Its pid is its own until `reap` has collected it."""
        if not self.exited.done():
            os.kill(self.pid, number)

    def reap(self) -> bool:
        """Collect it if it has exited; tell whether it just did."""
        if self.exited.done():
            return False
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # cannot be: somebody else collected it
            pid, status = self.pid, 0
        if pid == 0:
            return False
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self.exited.set_result(os.waitstatus_to_exitcode(status))
        return True

    async def close(self) -> None:
        """Give its last lines time to arrive, then close what connects to it."""
        await self.read_log_to_end()
        for source in (self.control, self.log_fd):
            self._loop.remove_reader(source)
        self.control.close()
        os.close(self.log_fd)

    async def read_log_to_end(self) -> None:
        """Wait a moment for the end of its log; a process that it started may hold the pipe open."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._log_ended.wait(), 0.3)

    # Asked of it

    async def ask(self, path: str, *, timeout_s: float = _ASK_TIMEOUT_S) -> tuple[int, bytes]:
        """GET a path on its private socket; return status and body.

        Raises:
            OSError: no answer, or none in time (`TimeoutError`).
            ValueError: an answer that is not HTTP.
        """
        request = f"GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n".encode()
        async with asyncio.timeout(timeout_s):
            with socket.socket(socket.AF_UNIX) as sock, unix_address(self.path) as address:
                sock.setblocking(False)
                await self._loop.sock_connect(sock, address)
                await self._loop.sock_sendall(sock, request)
                data = b""
                while (chunk := await self._loop.sock_recv(sock, _LINE_MAX)) and len(data) < _LINE_MAX:
                    data += chunk
                    head, gap, body = data.partition(b"\r\n\r\n")
                    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                    if gap and length and len(body) >= int(length[1]):
                        break
        head, _, body = data.partition(b"\r\n\r\n")
        found = re.match(rb"HTTP/1\.[01] (\d{3})", head)
        if found is None:
            raise ValueError(f"{path}: not an HTTP answer: {data[:80]!r}")
        return int(found[1]), body

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until it is ready, and see that it is the version it should be.

        Raises:
            StageError: ``start`` it ended, ``ready`` it is not ready in time, ``version`` it is another.
        """
        until = time.monotonic() + timeout_s
        problem = "its private socket does not answer"
        while True:
            left_s = until - time.monotonic()
            try:
                status, body = await self.ask("/readyz", timeout_s=max(_POLL_S, min(_ASK_TIMEOUT_S, left_s)))
            except (OSError, ValueError):
                pass
            else:
                if status == 200:  # noqa: PLR2004 - HTTP's OK
                    break
                problem = f"/readyz answers {status}: {body[:500].decode(errors='replace')}"
            if self.exited.done():
                raise await self.failure("start", f"ended before it was ready ({self.end()})")
            if left_s <= 0:
                raise await self.failure("ready", f"was not ready within {timeout_s:g} s: {problem}")
            await asyncio.wait({self.exited}, timeout=_POLL_S)
        if not self.version:
            await self._check_version()
        self.state = "ready"

    async def _check_version(self) -> None:
        try:
            _, body = await self.ask("/version")
            self.version = str(json.loads(body)["version"])
        except (OSError, ValueError, TypeError, LookupError) as exc:
            raise await self.failure("version", f"does not say its version: {exc!r}") from exc
        if self.release.version not in {"", self.version}:
            text = f"says that it is version {self.version}, expected was {self.release.version}"
            raise await self.failure("version", text)

    async def wait_accepting(self, timeout_s: float) -> None:
        """Wait until it has said that it accepts.

        Raises:
            StageError: ``go``: it ended, or did not say so in time.
        """
        either: set[asyncio.Future[Any]] = {self.accepting, self.exited}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self.exited.done():
            raise await self.failure("go", f"ended when it was told to accept ({self.end()})")
        if not self.accepting.done():
            raise await self.failure("go", f"did not accept within {timeout_s:g} s")

    async def failure(self, stage: str, text: str) -> StageError:
        """Return an error about this worker, with its last lines."""
        if self.exited.done():
            await self.read_log_to_end()
        code = self.exited.result() if self.exited.done() else None
        return StageError(stage, f"{self} {text}", log=self.tail.lines(), exit_code=code)

    def end(self) -> str:
        """Say how it ended."""
        code = self.exited.result()
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"


# --- Fleet -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Slot:
    """One place of ``--workers``: the worker that serves, with those before and after it in a reload."""

    number: int
    workers: list[Worker] = field(default_factory=list)  #: oldest first
    restarts: int = 0
    streak: int = 0  #: deaths in a row, each soon after its start
    is_held: bool = False  #: a reload decides what runs here: no respawn
    has_leftovers: bool = False  #: one has exited whose work nobody was told to take up
    timer: asyncio.TimerHandle | None = None

    @property
    def serving(self) -> Worker | None:
        """The worker that is there to stay, ready or not."""
        stay = [worker for worker in self.workers if not worker.is_candidate and not worker.is_leaving]
        return stay[-1] if stay else None

    def backoff_s(self, lived_s: float) -> float:
        """Count a death and return the pause before the next start."""
        self.restarts += 1
        self.streak = self.streak + 1 if lived_s < _YOUNG_S else 1
        if self.streak == 1:
            return 0
        least, most = _BACKOFF_S
        pause_s: float = min(most, least * 2 ** min(self.streak - 2, 20))
        return pause_s * random.uniform(0.5, 1)  # noqa: S311 - jitter


class Fleet:
    """All workers.

    Args:
        release: what is spawned; a reload changes it.
        command: what a worker of a release is started with.
        generation: the last one that was used.
    """

    def __init__(
        self,
        release: Release,
        *,
        command: Callable[[Release], list[str]],
        listener: socket.socket,
        lock: int,
        run_dir: Path,
        count: int,
        output: Output,
        generation: int = 0,
    ) -> None:
        self.release = release
        self.generation = generation
        self.slots = [Slot(number) for number in range(count)]
        self.drain_timeout_s = 30.0
        self.start_timeout_s = 60.0
        self.is_stopping = False
        self.run_dir = run_dir
        self._command = command
        self._listener = listener
        self._lock = lock
        self.output = output
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def workers(self) -> list[Worker]:
        """Every live worker, by slot, oldest first."""
        return [worker for slot in self.slots for worker in slot.workers]

    def run(self, step: Coroutine[Any, Any, None]) -> None:
        """Run something beside the caller, to its end."""
        task = asyncio.ensure_future(step)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Start

    def spawn(self, slot: Slot, release: Release, *, is_candidate: bool = False) -> Worker:
        """Start a worker that does not accept yet.

        Raises:
            StageError: the program cannot be started.
        """
        self.generation += 1
        path = self.run_dir / f"w{slot.number}-g{self.generation}.sock"
        has_predecessor = any(other.was_sent_go or not other.is_candidate for other in slot.workers)
        settings = {
            "protocol": PROTOCOL,
            "listen_fd": self._listener.fileno(),
            "socket": str(path),
            "slot": slot.number,
            "count": len(self.slots),
            "generation": self.generation,
            "has_predecessor": has_predecessor,
        }
        try:
            path.unlink(missing_ok=True)
            pid, control, log_fd = launch(
                self._command(release), settings, keep=(self._listener.fileno(), self._lock)
            )
        except OSError as exc:
            raise StageError("start", f"a worker of {release} cannot be started: {exc}") from exc
        worker = Worker(
            slot=slot.number,
            generation=self.generation,
            release=release,
            has_predecessor=has_predecessor,
            pid=pid,
            control=control,
            log_fd=log_fd,
            path=path,
            tail=LogTail(self.output.write),
        )
        worker.is_candidate = is_candidate
        slot.workers.append(worker)
        slot.has_leftovers = slot.has_leftovers and has_predecessor
        return worker

    def open(self, workers: Sequence[Worker]) -> None:
        """Let ready workers accept."""
        self.announce(workers)
        for worker in workers:
            worker.go()
            self._settle(self.slots[worker.slot])

    def announce(self, new: Sequence[Worker] = ()) -> None:
        """Tell every worker who the others are."""
        for worker in new:
            worker.is_announced = True
        known = [worker for worker in self.workers if worker.is_announced]
        peers = [
            {"slot": worker.slot, "generation": worker.generation, "socket": str(worker.path)}
            for worker in known
        ]
        for worker in known:
            worker.send("peers", workers=peers)

    def _settle(self, slot: Slot) -> None:
        """Whoever is alone in the slot takes up what the others left."""
        working = [worker for worker in slot.workers if worker.was_sent_go]
        if slot.has_leftovers and len(working) == 1 and not working[0].is_leaving:
            slot.has_leftovers = False
            working[0].send("adopt")

    # End

    def reap(self) -> None:
        """Notice every worker that has exited (SIGCHLD)."""
        for slot in self.slots:
            for worker in [worker for worker in slot.workers if worker.reap()]:
                slot.workers.remove(worker)
                self._exited(slot, worker)

    def _exited(self, slot: Slot, worker: Worker) -> None:
        self.run(worker.close())
        with contextlib.suppress(OSError):
            worker.path.unlink(missing_ok=True)
        if worker.was_sent_go or not worker.has_predecessor:
            slot.has_leftovers = True
        if worker.is_announced:
            self.announce()
        self._settle(slot)
        if worker.is_leaving:
            self.output.say(f"{worker} has left ({worker.end()})")
        else:
            self.output.say(f"{worker} died after {worker.uptime_s:.1f} s ({worker.end()})")
        is_replaced_here = not (worker.is_leaving or worker.is_candidate or slot.is_held)
        self.ensure(slot, after_s=slot.backoff_s(worker.uptime_s) if is_replaced_here else 0)

    def withdraw(self, workers: Sequence[Worker]) -> None:
        """End workers: those that may have clients drain, the others are killed."""
        for worker in workers:
            if worker.is_leaving:
                continue
            if worker.was_sent_go:
                worker.drain(self.drain_timeout_s)
            else:
                worker.is_leaving = True
                worker.kill()

    async def stop(self) -> None:
        """End all workers and wait until they have exited."""
        self.is_stopping = True
        for slot in self.slots:
            if slot.timer is not None:
                slot.timer.cancel()
        self.withdraw(self.workers)
        while self.workers:
            await asyncio.wait([worker.exited for worker in self.workers], timeout=0.1)
            self.reap()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_ASK_TIMEOUT_S + 1)

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.workers:
            worker.is_leaving = True
            worker.kill()

    # Respawn

    def ensure(self, slot: Slot, *, after_s: float = 0) -> None:
        """Have a worker started in a slot that has none, unless a reload takes care of it."""
        if self.is_stopping or slot.is_held or slot.serving is not None or slot.timer is not None:
            return
        if after_s:
            self.output.say(f"worker {slot.number} is started again in {after_s:.1f} s")
        slot.timer = asyncio.get_running_loop().call_later(after_s, self._respawn, slot)

    def _respawn(self, slot: Slot) -> None:
        slot.timer = None
        if self.is_stopping or slot.is_held or slot.serving is not None:
            return
        try:
            worker = self.spawn(slot, self.release)
        except StageError as exc:
            self.output.say(str(exc))
            self.ensure(slot, after_s=slot.backoff_s(0))
        else:
            self.run(self.bring_up(worker))

    async def bring_up(self, worker: Worker) -> None:
        """Bring a worker that no reload started to accepting, or kill it, which gets it respawned."""
        try:
            if worker.state == "starting":
                await worker.wait_ready(self.start_timeout_s)
        except StageError as exc:
            if exc.stage != "start":
                self.output.say(f"{exc}; it is killed")
            worker.kill()
        else:
            if not worker.is_leaving and not worker.exited.done():
                self.open([worker])


# --- Reload ------------------------------------------------------------------------------------


class Reload:
    """One reload, and the way back if it turns out bad.

    Args:
        fleet: its workers; nobody else changes ``fleet.release``.
        tell: is given an event for each step.
        accepted: is set to the seconds from the request to the last new worker accepting.
    """

    def __init__(
        self, fleet: Fleet, target: Release, *, bake_s: float, timeout_s: float, tell: Callable[..., None]
    ) -> None:
        self.target = target
        self.stage = "start"
        self.accepted: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._fleet = fleet
        self._bake_s = bake_s
        self._timeout_s = timeout_s
        self._tell = tell
        self._began_at = time.monotonic()

    async def run(self) -> None:
        """Do it.

        Raises:
            StageError: it failed, and the old release serves (or the text says why it does not).
        """
        old = self._fleet.release
        try:
            new = await self.switch()
            self.accepted.set_result(round(time.monotonic() - self._began_at, 3))
            self._tell(
                "accepting", version=self._fleet.release.version, accepting_after_s=self.accepted.result()
            )
            try:
                await self._bake(new)
            except StageError as exc:
                await self._return(old, exc)
                raise
        finally:
            self.release_slots()
        self.stage = "drain"
        await self._drained()

    async def switch(self) -> list[Worker]:
        """Bring the workers of the target up, then drain all others; return the new ones.

        Raises:
            StageError: it failed, and the workers from before go on; the new ones have left.
        """
        fleet, new = self._fleet, []
        self.stage = "start"
        try:
            for slot in fleet.slots:
                worker = fleet.spawn(slot, self.target, is_candidate=True)
                slot.is_held = slot.is_held or not worker.has_predecessor
                new.append(worker)
                self._tell("spawned", slot=slot.number, pid=worker.pid, generation=worker.generation)
            self.stage = "ready"
            await together(self._ready(worker) for worker in new)
            self.stage = "go"
            for slot in fleet.slots:
                slot.is_held = True
            fleet.open(new)
            await together(worker.wait_accepting(_GO_TIMEOUT_S) for worker in new)
            await together(worker.wait_accepting(0) for worker in new)  # none has died meanwhile
        except StageError as exc:
            self.stage = exc.stage
            await self._withdraw(new)
            raise
        fleet.release = replace(self.target, version=new[0].version)
        for slot in fleet.slots:
            slot.streak = 0
        for worker in new:
            worker.is_candidate = False
        fleet.withdraw([worker for worker in fleet.workers if worker not in new])
        return new

    async def _ready(self, worker: Worker) -> None:
        await worker.wait_ready(self._timeout_s)
        self._tell("ready", slot=worker.slot, pid=worker.pid, version=worker.version)

    async def _withdraw(self, new: Sequence[Worker]) -> None:
        for worker in new:
            if worker.was_sent_go:
                worker.drain(min(_WITHDRAW_S, self._fleet.drain_timeout_s))
        self._fleet.withdraw(new)
        await asyncio.gather(*(worker.exited for worker in new))

    def release_slots(self) -> None:
        """Respawn again what dies."""
        for slot in self._fleet.slots:
            slot.is_held = False
            self._fleet.ensure(slot)

    async def _drained(self) -> None:
        for worker in [worker for worker in self._fleet.workers if worker.is_leaving]:
            await asyncio.shield(worker.exited)
            self._tell("drained", slot=worker.slot, pid=worker.pid, generation=worker.generation)

    async def _bake(self, new: Sequence[Worker]) -> None:
        self.stage = "bake"
        if self._bake_s <= 0:
            return
        self._tell("baking", bake_s=self._bake_s)
        until = time.monotonic() + self._bake_s
        before = {worker: (worker.requests, worker.errors_5xx) for worker in new}
        await together(self._watch(worker, until, before) for worker in new)

    async def _watch(self, worker: Worker, until: float, before: dict[Worker, tuple[int, int]]) -> None:
        failures = 0
        while (left_s := until - time.monotonic()) > 0:
            await asyncio.wait({worker.exited}, timeout=min(_BAKE_EVERY_S, left_s))
            problem = ""
            if worker.exited.done():
                problem = f"ended {worker.uptime_s:.1f} s after its start ({worker.end()})"
            elif reason := await _not_ready(worker):
                failures += 1
                problem = (
                    f"is not ready {failures} times in a row: {reason}" if failures == _BAKE_FAILURES else ""
                )
            else:
                failures = 0
            if problem := problem or _rising_errors(worker, before):
                raise await worker.failure("bake", problem)

    async def _return(self, old: Release, reason: StageError) -> None:
        """Go back to the old release; what happens is added to the reason."""
        fleet, bad = self._fleet, self._fleet.release
        self.stage = "return"
        fleet.output.say(f"going back to {old}: {reason}")
        self._tell("returning", version=old.version, reason=str(reason))
        back = Reload(fleet, old, bake_s=0, timeout_s=self._timeout_s, tell=self._tell)
        text = f"{reason}; the release before, {old}, serves again"
        try:
            await back.switch()
            await self._drained()
        except StageError as exc:
            is_served = any(worker.was_sent_go and not worker.is_leaving for worker in fleet.workers)
            fleet.release = bad if is_served else old
            text = f"{reason}; the way back to {old} failed too: {exc}"
            reason.log += exc.log
        reason.args = (text,)


async def _not_ready(worker: Worker) -> str:
    try:
        status, body = await worker.ask("/readyz")
    except (OSError, ValueError) as exc:
        return f"/readyz: {exc!r}"
    return "" if status == 200 else f"/readyz answers {status}: {body[:500].decode(errors='replace')}"  # noqa: PLR2004


def _rising_errors(worker: Worker, before: dict[Worker, tuple[int, int]]) -> str:
    """Say that too many answers of this worker, or of all new ones, are 5xx; else nothing."""
    for group in ([worker], list(before)):
        requests = sum(one.requests - before[one][0] for one in group)
        errors = sum(one.errors_5xx - before[one][1] for one in group)
        if errors >= _ERRORS_MIN and errors > _ERRORS_SHARE * requests:
            return f"answers with errors: {errors} of {requests} requests were answered 5xx"
    return ""


# --- Control -----------------------------------------------------------------------------------


class Client:
    """One connection to the control socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.is_gone = False

    async def tell(self, document: dict[str, Any]) -> None:
        """Send a line; one who has gone away misses it, and that is all."""
        if self.is_gone:
            return
        try:
            line = json.dumps(document).encode() + b"\n"
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.sock, line), 10)
        except OSError:
            self.is_gone = True


class Control:
    """The control socket: a JSON object a line in, JSON lines out, the last of each answer with ``ok``.

    Args:
        answer: answers one request. A `SupervisorError` that it raises is told to the client.
    """

    def __init__(
        self, sock: socket.socket, answer: Callable[[dict[str, Any], Client], Coroutine[Any, Any, None]]
    ) -> None:
        self.sock = sock
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Take clients from now on."""
        self._run(self._accept())

    def adopt(self, client: Client) -> None:
        """Go on with a client that was accepted before."""
        self._run(self._serve(client))

    async def close(self) -> None:
        """Let answers that are on their way finish, then end every connection."""
        if self._answers:
            await asyncio.wait(set(self._answers), timeout=1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.sock.close()

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(step)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self.sock)
            except OSError:  # out of descriptors, most likely
                await asyncio.sleep(0.2)
                continue
            if len(self._tasks) > _CLIENTS_MAX:
                sock.close()
            else:
                self._run(self._serve(Client(sock)))

    async def _serve(self, client: Client) -> None:
        loop = asyncio.get_running_loop()
        data = b""
        with client.sock, contextlib.suppress(OSError):
            while not client.is_gone:
                line, newline, rest = data.partition(b"\n")
                if newline:
                    data = rest
                    answer = asyncio.ensure_future(self._take(line, client))
                    self._answers.add(answer)
                    await answer
                    self._answers.discard(answer)
                elif len(data) > _LINE_MAX:
                    await client.tell({"ok": False, "error": f"a request has at most {_LINE_MAX} bytes"})
                    return
                elif chunk := await loop.sock_recv(client.sock, _LINE_MAX):
                    data += chunk
                else:
                    return

    async def _take(self, line: bytes, client: Client) -> None:
        try:
            await self._answer(_request_of(line), client)
        except SupervisorError as exc:
            await client.tell({"ok": False, "error": str(exc)})


def _request_of(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise SupervisorError(f"not JSON: {exc}") from exc
    if not isinstance(request, dict):
        raise SupervisorError('a request is a JSON object such as {"cmd": "status"}')
    return request


# --- Replacement -------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Handover:
    """What a supervisor leaves to the one that `replace` executes in its place."""

    format: int
    version: str
    worker_command: list[str] | None
    listen_fd: int
    control_fd: int
    lock_fd: int
    client_fd: int  #: who asked for it, and waits for the answer
    generation: int
    started_at: float
    release: list[str]
    table: dict[str, Any]
    last_reload: dict[str, Any] | None
    restarts: list[list[int]]  #: per slot: restarts, streak
    workers: list[dict[str, Any]]

    def write(self) -> int:
        """Return the descriptor of a memory file that holds it."""
        state = os.memfd_create("supervisor", 0)
        os.write(state, json.dumps(asdict(self)).encode())
        return state

    @classmethod
    def read(cls, state: int) -> Handover:
        """Return what `write` wrote, from the beginning whatever was read before.

        The other version may be older or newer: what is not known is passed over, and everything that
        `_unpacked` cannot do without is asked for here, where it can still be refused.

        Raises:
            SupervisorError: it is not what this version of the supervisor understands.
        """
        try:
            table = json.loads(os.pread(state, os.fstat(state).st_size, 0))
            found = cls(**{one.name: table[one.name] for one in fields(cls)})
            lacking = {key for packed in found.workers for key in _NEEDED if key not in packed}
        except (OSError, ValueError, TypeError, KeyError) as exc:
            raise SupervisorError(f"--handover: not a supervisor's state: {exc!r}") from exc
        if found.format != HANDOVER_FORMAT:
            raise SupervisorError(f"--handover: format {found.format}, this file takes {HANDOVER_FORMAT}")
        if lacking:
            raise SupervisorError(f"--handover: a worker's state lacks {', '.join(sorted(lacking))}")
        return found

    def share(self, is_shared: bool) -> None:
        """Let the descriptors survive an execution, or not."""
        own = [self.listen_fd, self.control_fd, self.lock_fd, self.client_fd]
        for one in own + [worker[key] for worker in self.workers for key in ("control_fd", "log_fd")]:
            os.set_inheritable(one, is_shared)


_KEPT: Final = (
    "slot",
    "generation",
    "has_predecessor",
    "pid",
    "state",
    "version",
    "is_leaving",
    "is_announced",
    "was_sent_go",
    "requests",
    "errors_5xx",
    "started_at",
)


_NEEDED: Final = (*_KEPT, "release", "path", "control_fd", "log_fd")


def _packed(worker: Worker) -> dict[str, Any]:
    return {
        **{name: getattr(worker, name) for name in _KEPT},
        "release": [worker.release.directory, worker.release.version],
        "path": str(worker.path),
        "control_fd": worker.control.fileno(),
        "log_fd": worker.log_fd,
        "unread": worker.unread.decode("latin-1"),
        "tail": worker.tail.kept.decode("latin-1"),
        "partial": worker.tail.partial.decode("latin-1"),
    }


def _unpacked(packed: dict[str, Any], output: Output) -> Worker:
    worker = Worker(
        slot=packed["slot"],
        generation=packed["generation"],
        release=Release(*packed["release"]),
        has_predecessor=packed["has_predecessor"],
        pid=packed["pid"],
        control=socket.socket(fileno=packed["control_fd"]),
        log_fd=packed["log_fd"],
        path=Path(packed["path"]),
        tail=LogTail(output.write),
    )
    for name in _KEPT:
        setattr(worker, name, packed[name])
    worker.unread = packed.get("unread", "").encode("latin-1")
    worker.tail.kept = packed.get("tail", "").encode("latin-1")
    worker.tail.partial = packed.get("partial", "").encode("latin-1")
    if worker.state == "accepting":
        worker.accepting.set_result(None)
    return worker


async def check_successor(path: Path, argv: list[str], state: int) -> None:
    """See that a file can take over from this process.

    Args:
        path: the file.
        argv: what it would be started with.
        state: descriptor of a `Handover`.

    Raises:
        SupervisorError: it cannot; says why.
    """
    try:
        compile(path.read_bytes(), str(path), "exec")  # noqa: ASYNC240 - a small local file
    except (OSError, SyntaxError, ValueError) as exc:
        raise SupervisorError(f"{path} cannot replace the supervisor: {exc}") from exc
    command = [sys.executable, "-I", str(path), *argv, "--handover", str(state), "--check"]
    try:
        tried = await asyncio.to_thread(_try, command, state)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SupervisorError(f"{path} cannot replace the supervisor: {exc}") from exc
    if tried.returncode != 0 or tried.stdout != _UNDERSTOOD:
        said = (tried.stderr or tried.stdout).decode(errors="replace").strip()[-500:]
        raise SupervisorError(f"{path} cannot take over (exit code {tried.returncode}): {said}")


def _try(command: list[str], state: int) -> subprocess.CompletedProcess[bytes]:
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # this thread must not take the main thread's
    return subprocess.run(
        command, pass_fds=[state], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
    )


# --- Main --------------------------------------------------------------------------------------


class Supervisor:
    """The main loop: signals, commands, and the one reload that may be under way.

    Args:
        worker_command: starts a worker instead of the release's own Python.
        before: the state of the supervisor that this one replaces.
    """

    def __init__(
        self,
        options: Options,
        table: EngineTable,
        output: Output,
        *,
        worker_command: Sequence[str] | None,
        version: str,
        before: Handover | None,
    ) -> None:
        self.options = options
        self.table = table
        self.output = output
        self.notifier = Notifier()
        self.reload: Reload | None = None
        self.last_reload: dict[str, Any] | None = None
        self.started_at = time.monotonic()
        self._worker_command = list(worker_command) if worker_command else None
        self._version = version
        self._reload_task: asyncio.Task[dict[str, Any]] | None = None
        self._stop = asyncio.Event()
        self._is_started = False
        self._is_replacing = False
        self._before = before
        self._sha256 = hashlib.sha256(_FILE.read_bytes()).hexdigest()
        data_dir = options.folder / table.data_dir
        self.run_dir = options.run_dir or data_dir / "run"
        self.control_path = options.control or self.run_dir / "control.sock"
        if before is None:
            sockets = self._hold(data_dir)
            release = self._first_release()
            generation = 0
        else:
            sockets = self._held(before)
            release = Release(*before.release)
            generation = before.generation
        self.listener, self.lock, control = sockets
        self.control = Control(control, self.answer)
        self.fleet = Fleet(
            release,
            command=self._command,
            listener=self.listener,
            lock=self.lock,
            run_dir=self.run_dir,
            count=options.workers,
            output=output,
            generation=generation,
        )
        self.fleet.drain_timeout_s = table.drain_timeout_s
        self.fleet.start_timeout_s = options.start_timeout_s

    # Setup

    def _hold(self, data_dir: Path) -> tuple[socket.socket, int, socket.socket]:
        refuse_if_live(self.control_path)
        lock = take_lock(data_dir / "supervisor.lock", wait_s=self.options.wait_s, output=self.output)
        for folder in (self.run_dir, self.control_path.parent):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as exc:
                raise SupervisorError(f"{folder} cannot be made: {exc.strerror}", exit_code=USAGE) from exc
        for left in self.run_dir.glob("w*-g*.sock"):
            left.unlink(missing_ok=True)
        listener = handed_down() or bind(self.table, self.output)
        return listener, lock, open_control(self.control_path)

    def _held(self, before: Handover) -> tuple[socket.socket, int, socket.socket]:
        before.share(False)
        self._worker_command, self._version = before.worker_command, before.version
        self.last_reload, self.started_at = before.last_reload, before.started_at
        self.table = EngineTable(**before.table)
        return (
            socket.socket(fileno=before.listen_fd),
            before.lock_fd,
            socket.socket(fileno=before.control_fd),
        )

    def _first_release(self) -> Release:
        if self._worker_command is not None:
            return Release("", self._version)
        directory = self.options.release or (self.options.root and self.options.root / "current")
        if directory is None:
            raise SupervisorError("--release or --root is needed: what to run", exit_code=USAGE)
        return Release.at(directory)

    def _command(self, release: Release) -> list[str]:
        start = self._worker_command or [f"{release.directory}/venv/bin/python", "-m", "engine", "worker"]
        return [*start, "--config", str(self.options.config)]

    # Run

    async def run(self) -> int:
        """Serve until a signal or a command says otherwise. Returns the exit code.

        Raises:
            SupervisorError: no worker could be started.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self.fleet.reap)
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_config)
        loop.add_signal_handler(signal.SIGUSR1, self._pass_on)
        starting = asyncio.ensure_future(
            self._start() if self._before is None else self._resume(self._before)
        )
        stopping = asyncio.ensure_future(self._stop.wait())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self.control.start()
        self.notifier.pat()
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self._is_started = True
                self._notify_ready()
                await stopping
        finally:
            await self._end(starting)
        return 0

    async def _start(self) -> None:
        first = Reload(
            self.fleet, self.fleet.release, bake_s=0, timeout_s=self.options.start_timeout_s, tell=_ignore
        )
        try:
            await first.switch()
        except StageError as exc:
            code = USAGE if exc.exit_code == USAGE else FAILED
            raise SupervisorError(f"cannot start: {exc}", exit_code=code) from exc
        first.release_slots()
        self.output.say(f"{self.fleet.release} serves {self.address}, workers: {self.options.workers}")

    async def _resume(self, before: Handover) -> None:
        for slot, counts in zip(self.fleet.slots, before.restarts, strict=True):
            slot.restarts, slot.streak = counts
            slot.workers = [
                _unpacked(packed, self.output) for packed in before.workers if packed["slot"] == slot.number
            ]
        self.fleet.reap()
        for worker in self.fleet.workers:
            if worker.is_leaving:
                worker.drain(self.fleet.drain_timeout_s)
            elif not worker.was_sent_go:
                self.fleet.run(self.fleet.bring_up(worker))
        for slot in self.fleet.slots:
            self.fleet.ensure(slot)
        client = Client(socket.socket(fileno=before.client_fd))
        self.output.say(f"replaced, workers that go on: {len(self.fleet.workers)}")
        await client.tell({"ok": True, "supervisor_sha256": self._sha256})
        self.control.adopt(client)

    async def _end(self, starting: asyncio.Future[None]) -> None:
        self.fleet.is_stopping = True
        self.notifier.send("STOPPING=1", "STATUS=draining")
        if self._before is None:  # else it has to tell its client, which takes no time
            starting.cancel()
        if self._reload_task is not None:
            self._reload_task.cancel()
        await self.fleet.stop()
        await asyncio.gather(starting, return_exceptions=True)
        await self.control.close()
        self.control_path.unlink(missing_ok=True)
        self.output.say("stopped")

    def stop(self) -> None:
        """Drain and end; the second time, at once."""
        if self._stop.is_set():
            self.output.say("stopping at once")
            self.fleet.kill()
        else:
            self.output.say(f"draining, workers: {len(self.fleet.workers)}")
        self._stop.set()

    def _reload_config(self) -> None:
        try:
            self.begin_reload({}, _ignore)
        except SupervisorError as exc:
            self.output.say(f"SIGHUP: {exc}")

    def _pass_on(self) -> None:
        for worker in self.fleet.workers:
            if worker.state != "starting":  # it may have no handler yet, and would die
                worker.send_signal(signal.SIGUSR1)

    def _notify_ready(self) -> None:
        self.notifier.send("READY=1", f"STATUS={self.fleet.release}, workers: {self.options.workers}")

    # Commands

    async def answer(self, request: dict[str, Any], client: Client) -> None:
        """Answer one request of the control socket.

        Raises:
            SupervisorError: it cannot be done; the text is for the client.
        """
        command = request.get("cmd")
        if command == "status":
            await client.tell(self.status())
        elif command == "reload":
            await self._answer_reload(request, client)
        elif command == "replace":
            await self._replace(request, client)
        elif command == "stop":
            await client.tell({"ok": True, "state": "stopping"})
            if not self._stop.is_set():
                self.stop()
        else:
            raise SupervisorError(f"cmd: {command!r} is not known; takes status, reload, replace, stop")

    @property
    def state(self) -> str:
        """``starting serving reloading baking stopping``."""
        if self._stop.is_set():
            return "stopping"
        if not self._is_started:
            return "starting"
        if self.reload is None:
            return "serving"
        return "baking" if self.reload.stage == "bake" else "reloading"

    @property
    def address(self) -> str:
        """The address of the listening socket, as it was bound."""
        name = self.listener.getsockname()
        if not isinstance(name, tuple):
            return str(name)
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    def status(self) -> dict[str, Any]:
        """Return the answer to ``status``."""
        return {
            "ok": True,
            "version": self.fleet.release.version,
            "release_dir": self.fleet.release.directory or None,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self.started_at, 3),
            "supervisor_sha256": self._sha256,
            "state": self.state,
            "listen": self.address,
            "workers": [
                {
                    "slot": worker.slot,
                    "pid": worker.pid,
                    "version": worker.version,
                    "generation": worker.generation,
                    "state": worker.state,
                    "uptime_s": round(worker.uptime_s, 3),
                    "restarts": self.fleet.slots[worker.slot].restarts,
                }
                for worker in self.fleet.workers
            ],
            "last_reload": self.last_reload,
        }

    # Reload

    def begin_reload(
        self, request: dict[str, Any], tell: Callable[..., None]
    ) -> tuple[Reload, asyncio.Task[dict[str, Any]]]:
        """Start a reload that goes on whoever asked for it; its task gives the last line of the answer.

        Raises:
            SupervisorError: it is refused, and nothing has been started.
        """
        self._refuse_if_busy()
        bake_s = _seconds(request, "bake_s", self.options.bake_s)
        timeout_s = _seconds(request, "timeout_s", 20.0)
        target = self._target(request)
        self._reread_table()
        self.reload = Reload(self.fleet, target, bake_s=bake_s, timeout_s=timeout_s, tell=tell)
        self._reload_task = asyncio.ensure_future(self._reload(self.reload))
        return self.reload, self._reload_task

    def _refuse_if_busy(self) -> None:
        if self.reload is not None:
            raise SupervisorError(f"a reload to {self.reload.target} is under way")
        if self.state != "serving" or self._is_replacing:
            raise SupervisorError(f"the supervisor is {'replacing' if self._is_replacing else self.state}")

    def _target(self, request: dict[str, Any]) -> Release:
        directory, version = request.get("release_dir"), request.get("version")
        if not isinstance(directory, str | None) or not isinstance(version, str | None):
            raise SupervisorError("release_dir and version are texts")
        if directory is None:
            return replace(self.fleet.release, version=version or self.fleet.release.version)
        if self._worker_command is not None:
            raise SupervisorError("release_dir: this supervisor runs one program and no releases")
        return Release.at((self.options.root or Path()) / directory, version or "")

    def _reread_table(self) -> None:
        now = read_table(self.options.config, listen=self.options.listen)
        for key in ("listen", "data_dir"):
            before, after = getattr(self.table, key), getattr(now, key)
            if before != after:
                raise SupervisorError(
                    f"{self.options.config}: engine.{key} has changed from {before} to {after}: "
                    "that needs a restart, a reload keeps it"
                )
        self.fleet.drain_timeout_s = now.drain_timeout_s

    async def _reload(self, reload: Reload) -> dict[str, Any]:
        before = self.fleet.release.version
        self.notifier.send(
            "RELOADING=1",
            f"MONOTONIC_USEC={time.monotonic_ns() // 1000}",
            f"STATUS=reload to {reload.target}",
        )
        self.output.say(f"reload from {self.fleet.release} to {reload.target}")
        answer: dict[str, Any]
        try:
            await reload.run()
            answer = {"ok": True, "version": self.fleet.release.version}
        except StageError as exc:
            text = f"reload to {reload.target} failed at {exc.stage}: {exc}"
            answer = {"ok": False, "error": text, "stage": exc.stage, "log": exc.log}
        except asyncio.CancelledError:
            text = f"reload to {reload.target} ended at {reload.stage}: the supervisor was told to stop"
            answer = {"ok": False, "error": text, "stage": reload.stage, "log": []}
        except Exception as exc:  # noqa: BLE001 - a mistake of ours: the next reload must not find us busy
            self.fleet.withdraw([worker for worker in self.fleet.workers if worker.is_candidate])
            text = f"reload to {reload.target} ended at {reload.stage}: {exc!r}"
            answer = {"ok": False, "error": text, "stage": reload.stage, "log": []}
        if reload.accepted.done():
            answer["accepting_after_s"] = reload.accepted.result()
        self.output.say(answer.get("error", f"reload to {self.fleet.release} is done"))
        self.last_reload = {
            "at": time.time(),
            "from": before,
            "to": reload.target.version or self.fleet.release.version,
            "ok": answer["ok"],
            "error": answer.get("error"),
            "accepting_after_s": answer.get("accepting_after_s"),
        }
        self.reload = self._reload_task = None
        if not self._stop.is_set():
            self._notify_ready()
        return answer

    async def _answer_reload(self, request: dict[str, Any], client: Client) -> None:
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        try:
            reload, task = self.begin_reload(
                request, lambda event, **fields: events.put_nowait({"event": event, **fields})
            )
        except SupervisorError as exc:
            await client.tell({"ok": False, "error": str(exc), "stage": "start", "log": []})
            return
        task.add_done_callback(lambda _: events.put_nowait(None))
        if not request.get("wait_bake", True):
            reload.accepted.add_done_callback(lambda _: events.put_nowait(None))
        while (event := await events.get()) is not None:
            await client.tell(event)
        if task.done():
            await client.tell(task.result())
        else:
            version = self.fleet.release.version
            after_s = reload.accepted.result()
            await client.tell({"ok": True, "version": version, "accepting_after_s": after_s})

    # Replacement

    async def _replace(self, request: dict[str, Any], client: Client) -> None:
        self._refuse_if_busy()
        wanted = request.get("supervisor")
        if not isinstance(wanted, str | None):
            raise SupervisorError("supervisor: takes a path")
        path = (self.options.root or self.options.folder) / (wanted or _FILE)
        self._is_replacing = True
        try:
            state = self._handover(client).write()
            try:
                await check_successor(path, self.options.argv(), state)
            finally:
                os.close(state)
            await client.tell({"event": "replacing", "supervisor": str(path)})
            await self._hold_signals()
            self._execute(path, client)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._is_replacing = False

    async def _hold_signals(self) -> None:
        """Keep new signals for the code after the replacement, and act on those that have come.

        Raises:
            SupervisorError: one of them was to stop.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for _ in range(3):  # turns of the loop: the pipe is read, the handlers are called
            await asyncio.sleep(0)
        if self._stop.is_set():
            raise SupervisorError("the supervisor is stopping")

    def _execute(self, path: Path, client: Client) -> None:
        """Become the other file.

        Raises:
            SupervisorError: the system refused it, and everything is as before.
        """
        self.output.flush(0.5)
        handover = self._handover(client)
        state = handover.write()
        try:
            handover.share(True)
            arguments = [*self.options.argv(), "--handover", str(state)]
            os.execv(sys.executable, [sys.executable, "-I", str(path), *arguments])  # noqa: S606
        except OSError as exc:
            handover.share(False)
            os.close(state)
            raise SupervisorError(f"{path} cannot be executed: {exc}") from exc

    def _handover(self, client: Client) -> Handover:
        return Handover(
            format=HANDOVER_FORMAT,
            version=self._version,
            worker_command=self._worker_command,
            listen_fd=self.listener.fileno(),
            control_fd=self.control.sock.fileno(),
            lock_fd=self.lock,
            client_fd=client.sock.fileno(),
            generation=self.fleet.generation,
            started_at=self.started_at,
            release=[self.fleet.release.directory, self.fleet.release.version],
            table=asdict(self.table),
            last_reload=self.last_reload,
            restarts=[[slot.restarts, slot.streak] for slot in self.fleet.slots],
            workers=[_packed(worker) for worker in self.fleet.workers],
        )


def _ignore(event: str, **fields: Any) -> None:
    pass


def _seconds(request: dict[str, Any], key: str, default: float) -> float:
    value = request.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:  # noqa: PLR2004
        raise SupervisorError(f"{key}: {value!r} is no number of seconds from 0 to 3600")
    return float(value)


def main(
    argv: Sequence[str] | None = None, *, worker_command: Sequence[str] | None = None, version: str = ""
) -> int:
    """Run a supervisor to its end and return the exit code: 0 stopped, 1 failed, 2 wrong usage.

    Args:
        argv: arguments, default the process's.
        worker_command: starts a worker; ``--config F`` is added. Without it, the release's own Python.
        version: that such a worker must have; empty: any.
    """
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else USAGE
    output = Output()
    try:
        before = None if options.handover is None else Handover.read(options.handover)
        if options.check:
            os.write(1, _UNDERSTOOD)
            return 0
        return _run(options, output, before, worker_command, version)
    except SupervisorError as exc:
        output.say(str(exc))
        return exc.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        output.flush(1)


def _run(
    options: Options,
    output: Output,
    before: Handover | None,
    worker_command: Sequence[str] | None,
    version: str,
) -> int:
    if before is not None:
        assert options.handover is not None
        os.close(options.handover)
    try:
        os.chdir(options.folder)
    except OSError as exc:
        raise SupervisorError(f"{options.folder}: {exc.strerror}", exit_code=USAGE) from exc
    table = (
        read_table(options.config, listen=options.listen) if before is None else EngineTable(**before.table)
    )

    async def supervise() -> int:
        supervisor = Supervisor(
            options, table, output, worker_command=worker_command, version=version, before=before
        )
        return await supervisor.run()

    return asyncio.run(supervise())


if __name__ == "__main__":
    sys.exit(main())

"""One cache server as a process group: start, stop, crash, freeze, start again on the same port.

Decisions that shape this module:

*No root.* Squid and Traffic Server refuse to run as root, and none of the four needs it. Started by root,
they run as ``nobody``. That user often may not even pass the directories above the working directory (a
home, pytest's temporary directory: mode 0700). So the process enters its directory first (``chdir`` comes
before ``setuid`` in ``subprocess``) and every path in its configuration is relative or starts with
``/proc/self/cwd``, which the kernel follows without asking for the directories above. Nothing outside the
working directory changes its mode.

*No survivors.* Each server leads a process group of its own, so a signal reaches its workers too and Ctrl-C
in a terminal does not. A *lifeline* kills the group when this Python is gone, however it went: a tiny shell
that waits on a pipe whose other end only we hold. Not ``PR_SET_PDEATHSIG``: that fires when the *thread*
which started the child ends, is not inherited by workers, and a stopped nginx master would not pass a
SIGTERM on.

*Ports* are those of `release.lab.caches.ports`: a killed server can be started again on its own.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from release.lab.caches.errors import CacheError
from release.lab.caches.ports import accepts, is_free

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0  #: for a graceful end; after it SIGKILL
POLL_S = 0.01
LOG_TAIL_LINES = 20

_LIFELINE = 'read -r _ || kill -s KILL -- "-$1"; shift; rm -f -- "$@"'


class Cache:
    """A cache server in a directory of its own. `start_varnish` and its sisters make and start one.

    Attributes:
        name: of the node; also of its directory.
        driver: ``varnish``, ``ats``, ``nginx`` or ``squid``.
        port: on 127.0.0.1; stays the same over `kill` and `start`.
        purge_path: prefix of a purge request's path: ``""`` or, for nginx, ``"/purge"``.
        workdir: its directory: configuration, logs, objects on disk.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        name: str,
        driver: str,
        argv: Sequence[str],
        port: int,
        purge_path: str = "",
        leftovers: Sequence[str] = (),  # files a killed server leaves outside its directory
    ) -> None:
        self.name = name
        self.driver = driver
        self.port = port
        self.purge_path = purge_path
        self.workdir = workdir.resolve() / name
        self._argv = list(argv)
        self._leftovers = list(leftovers)
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: subprocess.Popen[bytes] | None = None
        self._is_paused = False

    def __repr__(self) -> str:
        return f"<Cache {self.name} [{self.driver}, port {self.port}, pid {self.pid}]>"

    @property
    def url(self) -> str:
        """Address without a path: ``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """``host:port``, as another cache takes it for its *backend*."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Leader of its process group, ``None`` when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def is_running(self) -> bool:
        """Whether the process is there; a paused one is."""
        return self.pid is not None

    @property
    def log_path(self) -> Path:
        """Standard output and standard error of the server, over all its starts."""
        return self.workdir / "output.log"

    def write(self, files: Mapping[str, str], *, directories: Sequence[str] = ()) -> None:
        """Make the working directory, its *directories* and its *files*, readable for the server's user."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        for directory in directories:
            (self.workdir / directory).mkdir(parents=True, exist_ok=True)
        for file_name, text in files.items():
            path = self.workdir / file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if owner := _owner():
            for path in (self.workdir, *self.workdir.rglob("*")):
                os.chown(path, *owner, follow_symlinks=False)

    def run_under(self, *command: str) -> None:
        """Have the next start be one of *command*, which becomes the server, such as ``env NAME=VALUE``."""
        self._argv = [*command, *self._argv]

    def start(self) -> None:
        """Start the server; return when it accepts connections. Does nothing when it runs.

        nginx and Traffic Server find their objects on disk again, Varnish and Squid start empty.

        Raises:
            CacheError: the port is taken, it ended, or accepted no connection within `START_TIMEOUT_S`.
        """
        if self.is_running:
            return
        if not is_free(self.port):  # else we would take the other server's answer for ours
            raise CacheError(self.name, f"port {self.port} is taken")
        user, group = _owner() or (None, None)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                cwd=self.workdir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                process_group=0,
            )
        self._lifeline = subprocess.Popen(
            ["/bin/sh", "-c", _LIFELINE, "sh", str(self._process.pid), *self._leftovers],
            stdin=subprocess.PIPE,
            process_group=0,
        )
        self._is_paused = False
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server gracefully, after `STOP_TIMEOUT_S` by force; returns when the port is closed."""
        if self._is_paused:
            self.resume()
        if self._process is not None and self.is_running:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the whole process group at once, as a crash would; returns when the port is closed."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # an interrupt may have left it locked
            self._process.wait(STOP_TIMEOUT_S)
        self._process, self._is_paused = None, False
        self._cut_lifeline()
        # The group's workers end on their own time; the port is free when the last one is gone.
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while accepts(self.port):
            if time.monotonic() > deadline:
                raise CacheError(self.name, f"port {self.port} still answers after SIGKILL")
            time.sleep(POLL_S)

    def pause(self) -> None:
        """Freeze the server: connections are accepted by the kernel, but nothing is answered.

        Returns when every thread of it has stopped: a busy machine takes a moment for that.
        """
        self._signal(signal.SIGSTOP)
        self._is_paused = True
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._process is not None and not _has_stopped(self._process.pid):
            if time.monotonic() > deadline:
                raise CacheError(self.name, "does not stop on SIGSTOP")
            time.sleep(POLL_S)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal(signal.SIGCONT)
        self._is_paused = False

    def log_tail(self) -> str:
        """Return the last lines of all its logs."""
        paths = [self.log_path, *sorted(self.workdir.glob("*/diags.log")), self.workdir / "cache.log"]
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file()]
        return "\n".join(line for text in texts for line in text.splitlines()[-LOG_TAIL_LINES:])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # the whole group is gone already
                os.killpg(self._process.pid, number)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not accepts(self.port):
            if not self.is_running:
                raise CacheError(self.name, f"{self._argv[0]} ended at start", log=self.log_tail())
            if time.monotonic() > deadline:
                raise CacheError(self.name, f"no connection after {START_TIMEOUT_S:g} s", log=self.log_tail())
            time.sleep(POLL_S)

    def _cut_lifeline(self) -> None:
        """Let the watching shell end without its kill (a line on its input says so) and tidy up."""
        if self._lifeline is not None:
            with contextlib.suppress(BrokenPipeError):
                self._lifeline.communicate(b"\n")
            self._lifeline = None


def _has_stopped(group: int) -> bool:
    """Tell whether every thread of a process group is stopped (or over)."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                for thread in path.parent.glob("task/*/stat"):
                    if thread.read_text().rpartition(")")[2].split()[0] not in "TtZX":
                        return False
    return True


def find_binary(name: str) -> str | None:
    """Return the path of a server's program; Debian keeps servers out of a user's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin")


def _owner() -> tuple[int, int] | None:
    """User and group the servers run as; ``None``: ours, since we are not root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid

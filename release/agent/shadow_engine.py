"""One shadow: an engine of a release on a port of loopback, started for a comparison.

Root makes, opens and reads files here, the engine is another account's: its folder is ``var``, and those
above it are root's, so no name in them is a link that the engine has put there.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path

from .answers import TAIL_LINES, Refused
from .files import write_whole
from .shadow_config import shadow_of, text_of
from .status import HTTP_OK, get

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from typing import Any

    from .guard import Guard

MEMORY_SHARE = 4  #: of the memory that is available at its start a program may take one part
MEMORY_LEAST_KIB = 512 * 1024  #: with less an engine does not start
SPARE = """\
echo 1000 2>/dev/null >/proc/self/oom_score_adj
ulimit -d "$1" || :
shift
ionice -c 3 true 2>/dev/null && set -- ionice -c 3 "$@"
exec nice -n 5 "$@"
"""  #: for sh: the kernel ends it first where memory runs out, and its disk access waits for that of others
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
POLL_S = 0.05
NEW_LOG = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW


def spared(
    command: list[str],
    folder: Path,
    owner: tuple[int, int],
    *,
    log: Path,
    environ: dict[str, str] | None = None,
    stdout: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in *folder*, as *owner*, that leaves the machine to what serves; it leads a group.

    Args:
        command: program and arguments.
        folder: where it works, and its home.
        owner: user and group.
        log: made here, takes what it says; its standard output, too, where *stdout* is None.
        environ: beside ``PATH``, which is all that it sees of ours.
        stdout: as `subprocess.Popen` takes it.
    """
    is_root = os.geteuid() == 0
    with os.fdopen(os.open(log, NEW_LOG, 0o600), "ab") as said:
        return subprocess.Popen(
            ["sh", "-c", SPARE, "sh", str(_memory_kib()), *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said if stdout is None else stdout,
            stderr=said,
            start_new_session=True,
            user=owner[0] if is_root else None,
            group=owner[1] if is_root else None,
            extra_groups=[] if is_root else None,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(folder),
                "LC_ALL": "C.UTF-8",
                **(environ or {}),
            },
        )


class Shadow:
    """A shadow of one version.

    Args:
        version: of it.
        folder: of its own, made here.
        python: of its release.
        owner: user and group that it runs as.

    Attributes:
        url: where it listens.
    """

    def __init__(self, version: str, folder: Path, python: Path, owner: tuple[int, int]) -> None:
        self.version = version
        self.python = python
        self._folder = folder
        self._owner = owner
        self._address = f"127.0.0.1:{_free_port()}"
        self.url = f"http://{self._address}"
        self._data = folder / "var"  # the engine's, and nothing else: root works beside it
        self._log = folder / "log"
        self._pid = 0

    def configure(self, table: dict[str, Any], *, sink: str, token: str) -> None:
        """Write its configuration, see `shadow_config.shadow_of`."""
        self._folder.mkdir()
        self._folder.chmod(0o711)
        self._data.mkdir(mode=0o700)
        made = shadow_of(table, listen=self._address, data_dir=str(self._data), sink=sink, token=token)
        path = self._folder / "engine.toml"
        write_whole(path, text_of(made).encode(), 0o600)
        for each in (self._data, path):
            os.chown(each, *self._owner, follow_symlinks=False)

    def start(self, guard: Guard, *, life_s: float) -> None:
        """Start it; it ends after *life_s* by itself."""
        command = [
            "timeout",
            "-s",
            "KILL",
            str(round(life_s)),
            str(self.python),
            "-I",
            "-m",
            "engine",
            "serve",
        ]
        command += ["--config", str(self._folder / "engine.toml")]
        self._process = spared(command, self._data, self._owner, log=self._log)
        guard.watch(self._process.pid)

    def wait_ready(self, until: float) -> None:
        """Wait until it takes requests.

        Raises:
            Refused: it ended, is not ready in time, or says that it is another version.
        """
        while True:
            self.need_alive()
            status, text = get(self._address, "/readyz")
            if status == HTTP_OK:
                break
            if time.monotonic() > until:
                said = text.decode(errors="replace")[:300]
                raise Refused("shadow", f"the shadow of {self.version} is not ready: {said}", self._tail())
            time.sleep(POLL_S)
        about = json.loads(get(self._address, "/version")[1])
        if about.get("version") != self.version:
            raise Refused("shadow", f"the shadow of {self.version} says that it is {about.get('version')}")
        self._pid = int(about["pid"])

    def need_alive(self) -> None:
        """Refuse to go on with a shadow that has ended."""
        code = self._process.poll()
        if code is not None:
            doing = "ended while the recording was played" if self._pid else "does not start"
            text = f"the shadow of {self.version} {doing} (exit code {code})"
            tail = self._tail()
            raise Refused("shadow", f"{text}: {tail[-1]}" if tail else text, tail)

    def cpu_s(self) -> float:
        """Return the seconds of CPU time that it has taken; 0 when it is gone."""
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
        return 0.0

    def _tail(self) -> list[str]:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()
            return [line for line in lines if line.strip()][-TAIL_LINES:]
        return []


def _memory_kib() -> int:
    """Return how much memory a program may take."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    free = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable:"))
    return max(MEMORY_LEAST_KIB, free // MEMORY_SHARE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

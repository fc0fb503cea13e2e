"""A machine that systemd runs, as process 1: namespaces over this one, so that nothing here is changed.

Its files are an overlay over this machine's, which outlives a reboot; ``/run``, ``/dev``, cgroups, network,
processes and name are its own. Only the journal and what is enabled in there is started, nothing of what this
machine starts. Needs root, and systemd's files.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Run in a cgroup of its own, whose namespace is made from there.
ENTER = """
for tree in $(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts); do
    case $tree in
    */systemd | */unified | /sys/fs/cgroup)
        mkdir -p "$tree/$1"
        echo $$ >"$tree/$1/cgroup.procs"
        ;;
    esac
done
exec unshare --mount --pid --uts --net --ipc --cgroup --fork --kill-child sh -c "$2" "$0" "$1"
"""
BOOT = """
set -e
mount --make-rprivate /
mkdir -p "$0/upper" "$0/work" "$0/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" "$0/root"
cd "$0/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
fi
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
mkdir dev/shm dev/pts dev/mqueue dev/hugepages  # as PrivateDevices= wants to find them
mount -t tmpfs tmpfs dev/shm
mount -t devpts devpts dev/pts
mount -t mqueue mqueue dev/mqueue
ln -s pts/ptmx dev/ptmx
for node in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "dev/${node%:*}" c 1 "${node#*:}"
done
ln -s /proc/self/fd dev/fd
if [ ! -e etc/systemd/ready ]; then
    rm -rf etc/systemd/system etc/machine-id
    mkdir etc/systemd/system
    head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n' >etc/machine-id
    for wanted in lib/systemd/system/*.wants/*; do
        case ${wanted##*/} in
        systemd-journald*) ;;
        *) ln -sf /dev/null "etc/systemd/system/${wanted##*/}" ;;
        esac
    done
    touch etc/systemd/ready
fi
hostname booted
mkdir -p .before
pivot_root . .before
cd /
umount -l /.before
container=purgeline exec /lib/systemd/systemd --system --unit=multi-user.target --show-status=no
"""
BOOT_TIMEOUT_S = 60.0


class Booted:
    """The machine; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = Path("/srv/purgeline")  #: in there
        self._cgroup = f"purgeline-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.boot()
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._process is not None
        self._process.kill()  # and with it all that is in there
        self._process.wait(20)
        for tree in ("", "systemd", "unified"):
            with contextlib.suppress(OSError):
                for folder in sorted(self._folders(Path("/sys/fs/cgroup", tree, self._cgroup)), reverse=True):
                    folder.rmdir()

    @staticmethod
    def _folders(top: Path) -> Iterator[Path]:
        yield top
        yield from (path for path in top.rglob("*") if path.is_dir())

    def boot(self) -> None:
        """Start it, and wait until all that is enabled has been started."""
        with (self.folder / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", ENTER, str(self.folder), self._cgroup, BOOT],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: bool(self._init()), timeout_s=BOOT_TIMEOUT_S, what="process 1")
        wait_until(
            lambda: (
                self.run("systemctl", "is-system-running", check=False).stdout.strip()
                in {"running", "degraded"}
            ),
            timeout_s=BOOT_TIMEOUT_S,
            what="the boot",
        )

    def wait_down(self) -> None:
        """Wait until it has shut down."""
        assert self._process is not None
        self._process.wait(BOOT_TIMEOUT_S)

    def _init(self) -> int:
        """Return the number that process 1 has here, 0 before it is systemd."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        return 0

    def run(
        self, *command: str, check: bool = True, stdin: str = "", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in there, as root."""
        inside = ["nsenter", "-t", str(self._init()), "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w", "--"]
        done = subprocess.run(
            [*inside, *command], capture_output=True, text=True, check=False, timeout=timeout_s, input=stdin
        )
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def show(self, key: str, unit: str = "purgeline.service") -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={key}", unit).stdout.strip()

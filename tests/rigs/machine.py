"""A machine to try states on: mount and network namespaces over this one, so that nothing here is changed.

``/etc``, ``/var/log`` and ``/var/spool`` are overlays, ``/run`` and ``/srv`` are empty and ``/proc/sys`` is a
folder of plain files, so accounts, units, configuration files and kernel settings can be written and looked
at. Programs and ``/tmp`` are this machine's, and its processes are seen; accounts that are made in there have
numbers of their own, so that none of those processes seems to be theirs. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SETUP = """
set -e
mount --make-rprivate /
for path in etc var/log var/spool; do
    mkdir -p "$0/upper/$path" "$0/work/$path"
    mount -t overlay overlay -o "lowerdir=/$path,upperdir=$0/upper/$path,workdir=$0/work/$path" "/$path"
done
sed -i '/^#*SYS_[UG]ID_M/d' /etc/login.defs
first=$((20000 + $$ % 4000 * 10))
for kind in U G; do
    printf 'SYS_%sID_MIN %d\nSYS_%sID_MAX %d\n' $kind $first $kind $((first + 9)) >>/etc/login.defs
done
mount -t tmpfs tmpfs /run
mount --bind "$0/sysctl" /proc/sys
mount --bind "$0/srv" /srv
ip link set lo up
echo ready
exec cat
"""

#: What `sysctl` finds: no module nf_conntrack, and more files than the states ask for.
KERNEL = {
    "net.core.somaxconn": "4096",
    "net.ipv4.tcp_max_tw_buckets": "65536",
    "net.ipv4.tcp_max_syn_backlog": "1024",
    "net.ipv4.tcp_tw_reuse": "2",
    "net.ipv4.tcp_timestamps": "0",
    "net.ipv4.ip_local_port_range": "32768\t60999",
    "fs.file-max": "9223372036854775807",
    "fs.nr_open": "1073741816",
}


class Machine:
    """A running machine; a context manager."""

    def __init__(self, folder: Path, *, net_of: Machine | None = None) -> None:
        self.folder = folder
        self._net_of = net_of  #: share its network
        self.root = folder / "srv/purgeline"  #: in there also ``/srv/purgeline``
        self.root.parent.mkdir()
        for key, value in KERNEL.items():
            self.sysctl_file(key).parent.mkdir(parents=True, exist_ok=True)
            self.sysctl_file(key).write_text(f"{value}\n", encoding="utf-8")

    def sysctl_file(self, key: str) -> Path:
        return self.folder / "sysctl" / key.replace(".", "/")

    def __enter__(self) -> Self:
        net = ["unshare", "--net"] if self._net_of is None else self._net_of.argv([], namespaces=["--net"])
        self._process = subprocess.Popen(
            [*net, "unshare", "--mount", "sh", "-c", SETUP, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "the machine did not start"
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.communicate(timeout=10)  # `cat` ends at the end of its input, the namespaces with it

    def argv(self, command: Sequence[str], *, namespaces: Sequence[str] = ("--mount", "--net")) -> list[str]:
        """Return the command that runs *command* in there."""
        return ["nsenter", "--target", str(self._process.pid), *namespaces, *command]

    def run(
        self, *command: str, check: bool = True, stdin: str = "", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in there."""
        done = subprocess.run(
            self.argv(command),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            input=stdin,
        )
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def start(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a command in there whose output goes to *log*; the caller ends it."""
        with log.open("ab") as file:
            return subprocess.Popen(
                self.argv(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def read(self, path: str | Path) -> str:
        """Return the text of a file in there."""
        return self.run("cat", str(path)).stdout

    def has(self, path: str | Path) -> bool:
        """Tell whether there is a file in there."""
        return self.run("test", "-e", str(path), check=False).returncode == 0


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill what `Machine.start` started, with its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)


def make_certificate(machine: Machine) -> None:
    """Put the certificate there that salt/pillar.example names."""
    machine.run("mkdir", "-p", "/etc/ssl/purgeline")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=purge.example.com"]
    machine.run(*request, "-keyout", "/etc/ssl/purgeline/purge.key", "-out", "/etc/ssl/purgeline/purge.pem")

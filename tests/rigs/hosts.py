"""Hosts for tests: namespaces, each with its address, name, processes, ``/run``, ``/srv``, cache and sshd.

A bridge in a namespace for the controller, a pair of virtual links per host. What runs on the controller is
run there with `Hosts.command`. `Host.crash` ends a host as a power cut does (connections are refused),
`Host.cut` takes its link away (connections hang). Needs root, iproute2 and openssh-server.

Names of namespaces begin with the process that made them, so two test runs do not meet, and what a killed
run left behind is known by that and removed by the next rig.
"""

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.waiting import wait_until

SSHD = "/usr/sbin/sshd"
START_TIMEOUT_S = 20.0
END_TIMEOUT_S = 10.0
NAMESPACE = re.compile(r"p(\d+)x\d+(?:c|h\d+)")

needs_hosts = pytest.mark.skipif(
    os.geteuid() != 0 or not Path(SSHD).exists() or shutil.which("ip") is None,
    reason="needs root, sshd and iproute2",
)

_numbers = itertools.count()

_SSHD_CONFIG = """\
Port 22
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {keys}
PidFile none
UsePAM no
PasswordAuthentication no
StrictModes no
PermitRootLogin yes
Subsystem sftp internal-sftp
MaxStartups 64:30:128
LogLevel VERBOSE
"""
_BOOT = """\
hostname {name}
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir /run/sshd
[ ! -e ~/.bashrc ] || mount --bind /dev/null ~/.bashrc
mkdir -p ~/.cache {folder}/cache
mount --bind {folder}/cache ~/.cache
mount {srv} /srv
{login}
exec {sshd} -D -e -f {folder}/sshd_config
"""


#: An account that is not root's, with a home of its own, and with sudo where sudo is.
_LOGIN = """\
mkdir /run/etc
cp {folder}/authorized_keys /run/authorized_keys
cp -p /etc/passwd /etc/group /etc/shadow /run/etc
echo "127.0.1.1 $(hostname)" >/run/etc/hosts
echo '{name}:x:61234:61234::/run/home:/bin/sh' >>/run/etc/passwd
echo '{name}:x:61234:' >>/run/etc/group
echo '{name}:*:19000:0:99999:7:::' >>/run/etc/shadow
for file in passwd group shadow hosts; do mount --bind /run/etc/$file /etc/$file; done
mkdir /run/home
chown 61234:61234 /run/home
if [ -d /etc/sudoers.d ]; then
    mount -t tmpfs -o mode=0755 tmpfs /etc/sudoers.d
    echo '{name} ALL=(root) NOPASSWD: ALL' >/etc/sudoers.d/login
    chmod 0440 /etc/sudoers.d/login
fi
"""


def run(*argv: str) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"


def sweep() -> None:
    """Remove the namespaces of runs that were killed, with what still runs in them."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        name = line.split(" ", 1)[0]
        found = NAMESPACE.fullmatch(name)
        if found and not Path(f"/proc/{found[1]}").exists():
            remove(name)


def remove(namespace: str) -> None:
    """Take a namespace away, and what runs in it; nothing happens if another run has just done so."""
    pids = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    for pid in pids.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


class Host:
    """One host. Its ``/srv`` is `srv` outside, unless it has a size of its own: then a crash empties it."""

    def __init__(self, rig: "Hosts", name: str, number: int, *, srv_bytes: int = 0) -> None:
        self.name = name
        self.address = f"10.77.0.{number + 10}"
        self.namespace = f"{rig.prefix}h{number}"
        self.folder = rig.folder / name
        self.srv = self.folder / "srv"
        self._rig = rig
        self._srv_bytes = srv_bytes
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}>"

    def make(self) -> None:
        """Make its namespace, link and files."""
        self.srv.mkdir(parents=True)
        run(
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            self.name,
            "-f",
            str(self.folder / "host_key"),
        )
        (self.folder / "authorized_keys").write_bytes(self._rig.public_key.read_bytes())
        (self.folder / "sshd_config").write_text(
            _SSHD_CONFIG.format(address=self.address, folder=self.folder, keys=self._keys)
        )
        controller = self._rig.namespace
        run("ip", "netns", "add", self.namespace)
        peer = ["peer", "name", "eth0", "netns", self.namespace]
        run("ip", "-n", controller, "link", "add", self.namespace, "type", "veth", *peer)
        run("ip", "-n", controller, "link", "set", self.namespace, "master", "br0", "up")
        run("ip", "-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")

    def start(self) -> None:
        """Boot it; returns when sshd answers."""
        srv = f"-t tmpfs -o size={self._srv_bytes} tmpfs" if self._srv_bytes else f"--bind {self.srv}"
        login = _LOGIN.format(name=self._rig.login, folder=self.folder) if self._rig.login != "root" else ""
        script = _BOOT.format(name=self.name, srv=srv, sshd=SSHD, folder=self.folder, login=login)
        with (self.folder / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, "unshare", "-m", "-u", "-p", "--fork", "--kill-child",
                 "--mount-proc", "sh", "-ec", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
            )  # fmt: skip
        wait_until(self._answers, what=f"{self.name} starting", timeout_s=START_TIMEOUT_S)

    @property
    def _keys(self) -> str:
        """Who may log in; another account than root's cannot read the rig's folder."""
        return f"{self.folder}/authorized_keys" if self._rig.login == "root" else "/run/authorized_keys"

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "console.log").read_text()
        probe = [
            "ip",
            "netns",
            "exec",
            self._rig.namespace,
            "bash",
            "-c",
            f"exec 3<>/dev/tcp/{self.address}/22",
        ]
        return subprocess.run(probe, capture_output=True, check=False, timeout=10).returncode == 0

    def crash(self) -> None:
        """End everything on it at once; connections are refused."""
        process, self._process = self._process, None
        if process is None:
            return
        init = self._init(process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if init:  # it goes last: when all its processes are gone
            last = Path(f"/proc/{init}")
            wait_until(lambda: not last.exists(), what=f"{self.name} ending", timeout_s=END_TIMEOUT_S)

    @staticmethod
    def _init(process: "subprocess.Popen[bytes]") -> int:
        """Return the number here of its process 1, 0 when there is none."""
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    def cut(self) -> None:
        """Take its link away; connections hang."""
        run("ip", "-n", self.namespace, "link", "set", "eth0", "down")

    def heal(self) -> None:
        """Give its link back."""
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")

    def command(self, *argv: str) -> list[str]:
        """Return a command that runs in its network, with the files and processes of this machine."""
        return ["ip", "netns", "exec", self.namespace, *argv]

    def inside(self, *argv: str) -> list[str]:
        """Return a command that runs on it as if logged in: its files, processes, name and network."""
        assert self._process is not None, f"{self.name} does not run"
        init = self._init(self._process)
        return ["nsenter", "--target", str(init), "--mount", "--uts", "--pid", "--net", *argv]


class Hosts:
    """Some hosts and a controller.

    Args:
        folder: for keys, logs and the hosts' ``/srv``.
        count: hosts; they are called ``h1``, ``h2`` …
        srv_bytes: size of each ``/srv``; 0: a folder of this machine.
        login: user that the controller logs in as.
    """

    def __init__(self, folder: Path, count: int = 3, *, srv_bytes: int = 0, login: str = "root") -> None:
        self.folder = folder
        self.login = login
        self.prefix = f"p{os.getpid()}x{next(_numbers)}"  # with "h99" it fits the 15 bytes of a link's name
        self.namespace = f"{self.prefix}c"
        self.key = folder / "key"
        self.public_key = folder / "key.pub"
        self.hosts = [Host(self, f"h{number + 1}", number, srv_bytes=srv_bytes) for number in range(count)]

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self) -> None:
        sweep()
        self.folder.mkdir(parents=True, exist_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "controller", "-f", str(self.key))
        run("ip", "netns", "add", self.namespace)
        for link in (["lo"], ["br0"]):
            if link == ["br0"]:
                run("ip", "-n", self.namespace, "link", "add", "br0", "type", "bridge")
                run("ip", "-n", self.namespace, "addr", "add", "10.77.0.1/24", "dev", "br0")
            run("ip", "-n", self.namespace, "link", "set", *link, "up")
        for host in self.hosts:
            host.make()
        for host in self.hosts:
            host.start()

    def close(self) -> None:
        """End every host and take the namespaces away; a host that does not end keeps no other."""
        with contextlib.ExitStack() as stack:
            for name in (self.namespace, *(host.namespace for host in self.hosts)):
                stack.callback(remove, name)
            for host in self.hosts:
                stack.callback(host.crash)

    @property
    def known_hosts(self) -> Path:
        """Write and return the file with the hosts' keys."""
        path = self.folder / "known_hosts"
        lines = []
        for host in self.hosts:
            kind, key, _ = (host.folder / "host_key.pub").read_text().split(" ", 2)
            lines.append(f"{host.address} {kind} {key}\n")
        path.write_text("".join(lines))
        return path

    def inventory(self) -> Path:
        """Write and return the inventory of these hosts."""
        path = self.folder / "hosts.toml"
        tables = [
            f'[[hosts]]\nname = "{host.name}"\naddress = "{host.address}"\nuser = "{self.login}"\n'
            for host in self.hosts
        ]
        path.write_text("\n".join(tables))
        return path

    def command(self, *argv: str) -> list[str]:
        """Return a command that runs on the controller."""
        return ["ip", "netns", "exec", self.namespace, *argv]

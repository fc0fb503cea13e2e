"""A real sshd on a loopback port, with keys of its own, and a home whose client trusts it or does not."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import wait_until

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
PasswordAuthentication no
StrictModes no
PermitRootLogin yes
Subsystem sftp internal-sftp
MaxStartups 64:30:128
"""


class Sshd:
    """The server; `running` starts and ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.key = folder / "key"
        for path in (folder / "host_key", self.key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        (folder / "authorized_keys").write_text((folder / "key.pub").read_text())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        (folder / "sshd_config").write_text(CONFIG.format(port=self.port, folder=folder))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def known_hosts_line(self) -> str:
        """Its line of a known-hosts file."""
        return f"[127.0.0.1]:{self.port} {(self.folder / 'host_key.pub').read_text()}"

    @contextlib.contextmanager
    def running(self) -> Iterator["Sshd"]:
        """Run it."""
        Path("/run/sshd").mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", self.folder / "sshd_config"],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_until(self._listens, what="sshd listening", timeout_s=10, errors=(OSError,))
            yield self
        finally:
            self.stop()

    def _listens(self) -> bool:
        socket.create_connection(("127.0.0.1", self.port), 1).close()
        return True

    def stop(self) -> None:
        """Kill the server; sessions go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def kill_sessions(self) -> None:
        """Kill the processes of its sessions, as the end of a network would end them."""
        assert self._process is not None
        for pid in _descendants(self._process.pid):
            if "sshd" in _name(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in children for found in (int(child), *_descendants(int(child)))]


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""

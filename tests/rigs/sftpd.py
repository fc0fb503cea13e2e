"""A real sshd for files only, on a loopback port, with keys of its own and a home for who connects to it."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

from tests.waiting import wait_until

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/pid
UsePAM no
PasswordAuthentication no
StrictModes no
ForceCommand internal-sftp
Subsystem sftp internal-sftp
MaxStartups 64:30:128
"""


class Sshd:
    """Its files are in *folder*. With *home* as HOME, one gets in and trusts its host key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.port = 0
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        for name in ("host_key", "user_key"):
            self.make_key(name)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        (self.home / ".ssh" / "config").write_text(f"Host 127.0.0.1\n  IdentityFile {folder}/user_key\n")

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"

    def make_key(self, name: str) -> str:
        path = self.folder / name
        path.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return " ".join(path.with_name(f"{name}.pub").read_text().split()[:2])

    def trust(self, key: str = "") -> None:
        key = key or " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key}\n")

    def url(self, folder: Path) -> str:
        return f"ssh://{getuser()}@127.0.0.1:{self.port}{folder}"

    @contextmanager
    def running(self) -> Iterator["Sshd"]:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            self.port = chosen.getsockname()[1]
        config = self.folder / "sshd_config"
        config.write_text(CONFIG.format(port=self.port, folder=self.folder))
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program, "openssh-server is missing: ./inv setup"
        with (self.folder / "log").open("w") as log:
            process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stderr=log)
        try:
            self._wait(process)
            self.trust()
            yield self
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        def listens() -> bool:
            assert process.poll() is None, (self.folder / "log").read_text()
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True

        wait_until(listens, what="sshd listening", timeout_s=10, errors=(OSError,))

"""A repository on another machine, over SFTP: an account that may do nothing else is enough.

Connections are Fabric's, so ``~/.ssh/config`` and agents count. Fabric trusts unknown host keys; here a host
whose key is not known is refused. Files are flushed to the other machine's disk before they get their name
(OpenSSH's ``fsync`` and ``posix-rename`` extensions). SFTP cannot flush a folder: after a power cut the old
index may be back, never half of one.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
import stat
from typing import IO, TYPE_CHECKING

import paramiko
from fabric import Connection
from paramiko.sftp import CMD_EXTENDED, SFTPError

from release.errors import RepositoryError
from release.known_hosts import HostKeyError, trust
from release.repository.transports.transport import CHUNK_BYTES, TEMPORARY, Stat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult


class SshTransport:
    """A `Transport` over SFTP.

    Args:
        url: ``ssh://[user@]host[:port]/path``.
        known_hosts: file with trusted host keys; empty: the user's and the system's.
        timeout_s: for connecting and for each answer.
    """

    def __init__(self, url: SplitResult, *, known_hosts: str, timeout_s: float) -> None:
        self._host = url.hostname or ""
        self._user, self._port = url.username, url.port
        self._folder = url.path.rstrip("/")
        self.url = url.geturl()
        self._known_hosts = known_hosts
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._session: _Session | None = None

    def read(self, name: str, bytes_max: int) -> bytes | None:
        """See the protocol."""
        with self._errors(f"read {name}") as sftp:
            try:
                with sftp.open(self._path(name), "rb") as file:
                    content: bytes = file.read(bytes_max + 1)
            except FileNotFoundError:
                return None
        if len(content) > bytes_max:
            raise RepositoryError(f"{self.url}: {name} is larger than {bytes_max} bytes")
        return content

    def stream(self, name: str) -> Iterator[bytes]:
        """See the protocol."""
        with self._errors(f"read {name}") as sftp, sftp.open(self._path(name), "rb") as file:
            file.prefetch(file.stat().st_size)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def names(self) -> dict[str, Stat]:
        """See the protocol."""
        with self._errors("list the folder") as sftp:
            try:
                entries = sftp.listdir_attr(self._folder)
            except FileNotFoundError:
                return {}
            return {entry.filename: Stat(entry.st_size or 0, entry.st_mtime or 0) for entry in entries}

    def stage(self, content: IO[bytes]) -> str:
        """See the protocol."""
        name = TEMPORARY + secrets.token_hex(8)
        path = self._path(name)
        with self._errors("write to it") as sftp:
            self._make_folder(sftp)
            try:
                with sftp.open(path, "wx") as file:
                    _copy(content, file)
                    sftp.flush_to_disk(file)
                sftp.chmod(path, 0o644)
            except BaseException:
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                    sftp.remove(path)
                raise
        return name

    def commit(self, staged: str, name: str) -> None:
        """See the protocol."""
        with self._errors(f"replace {name}") as sftp:
            sftp.posix_rename(self._path(staged), self._path(name))

    def claim(self, staged: str, name: str) -> bool:
        """See the protocol. SFTP's own rename does not replace a file."""
        with self._errors(f"write {name}") as sftp:
            try:
                sftp.rename(self._path(staged), self._path(name))
            except FileNotFoundError:
                raise
            except OSError:
                if not _is_there(sftp, self._path(name)):
                    raise
                return False
        return True

    def remove(self, name: str) -> None:
        """See the protocol."""
        with self._errors(f"remove {name}") as sftp, contextlib.suppress(FileNotFoundError):
            sftp.remove(self._path(name))

    def close(self) -> None:
        """See the protocol."""
        connection, self._connection, self._session = self._connection, None, None
        if connection is not None:
            connection.close()

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _make_folder(self, sftp: _Session) -> None:
        missing = []
        folder = self._folder
        while folder and not _is_there(sftp, folder):
            missing.append(folder)
            folder = folder.rpartition("/")[0]
        for path in reversed(missing):
            with contextlib.suppress(OSError):  # another publisher may make it; if not, writing to it fails
                sftp.mkdir(path, 0o755)

    def _open(self) -> _Session:
        if self._session is None:
            self._connection = connection = Connection(
                self._host,
                user=self._user,
                port=self._port,
                connect_timeout=self._timeout_s,
                connect_kwargs={"banner_timeout": self._timeout_s, "auth_timeout": self._timeout_s},
            )
            trust(connection, self._known_hosts)
            connection.open()
            session = _Session.from_transport(connection.transport)
            session.get_channel().settimeout(self._timeout_s)
            self._session = session
        return self._session

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[_Session]:
        try:
            yield self._open()
        except RepositoryError:
            raise
        except HostKeyError as exc:
            self.close()
            why = {
                "unknown": f"its key ({exc}) is not found in known_hosts; check its fingerprint and add it",
                "other": f"the host shows another key than the known one ({exc}); find out why before you "
                "change known_hosts",
            }
            raise RepositoryError(f"{self.url}: {why.get(exc.kind, str(exc))}") from exc
        except (OSError, EOFError, SFTPError, paramiko.SSHException) as exc:
            if not isinstance(exc, OSError) or isinstance(exc, TimeoutError | ConnectionError):
                self.close()  # the next call connects anew
            raise RepositoryError(f"repository {self.url}: cannot {doing}: {_reason(exc)}") from exc


class _Session(paramiko.SFTPClient):  # type: ignore[misc]  # paramiko has no types
    """SFTP with one more of OpenSSH's extensions."""

    def flush_to_disk(self, file: paramiko.SFTPFile) -> None:
        """Flush an open file; a server without that extension goes without it."""
        try:
            self._request(CMD_EXTENDED, "fsync@openssh.com", file.handle)
        except OSError as exc:
            if "unsupported" not in str(exc).lower():
                raise


def _copy(content: IO[bytes], file: paramiko.SFTPFile) -> None:
    """Write the content without waiting for each answer; the last write waits for all of them."""
    file.set_pipelined(pipelined=True)
    last = b""
    while chunk := content.read(CHUNK_BYTES):
        file.write(last)
        last = chunk
    file.set_pipelined(pipelined=False)  # the next write collects every answer, so that no error is lost
    file.write(last)


def _is_there(sftp: _Session, path: str) -> bool:
    try:
        return stat.S_IFMT(sftp.stat(path).st_mode or 0) != 0
    except FileNotFoundError:
        return False


def _reason(exc: Exception) -> str:
    if isinstance(exc, paramiko.AuthenticationException):
        return "the host takes none of your keys; check the user and ssh-add -l"
    if isinstance(exc, socket.gaierror):
        return f"no such host: {exc.strerror}"
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, OSError) and exc.errno == errno.EACCES:
        return "permission denied"
    text = str(exc) or type(exc).__name__
    return f"{text} (is its disk full?)" if text == "Failure" else text

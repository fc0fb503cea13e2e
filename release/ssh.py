"""A host reached by SSH: Fabric's connection, with the host's key verified.

Fabric trusts unknown hosts by default; here only keys from the known-hosts files count, for jump hosts too.
The operation runs in a plain channel of the connection rather than by Fabric's `run`: JSON goes in, JSON
lines come back as they are printed, and every wait ends. A host that disappears in the middle is noticed in
about twice `connect_timeout_s` (keep-alive packets that nobody acknowledges), not at the end of the step's
time.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import logging
import math
import shlex
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import paramiko
from fabric import Config, Connection

from release.errors import HostError
from release.link import KILL_AFTER_S, SLACK_S, AnswerReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from release.inventory import Host
    from release.settings import Settings

USER_KNOWN_HOSTS: Final = "~/.ssh/known_hosts"
SYSTEM_KNOWN_HOSTS: Final = Path("/etc/ssh/ssh_known_hosts")
POLL_S: Final = 0.2
COMMAND_TIMEOUT_S: Final = 20.0  #: for the small commands around an operation

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else its threads write tracebacks on stderr


class _UnknownKeyError(paramiko.SSHException):  # type: ignore[misc] # paramiko has no types
    """The host showed a key that no known-hosts file has."""

    def __init__(self, key: paramiko.PKey) -> None:
        digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
        super().__init__(f"{key.get_name()} SHA256:{digest}")


class _RefusePolicy(paramiko.RejectPolicy):  # type: ignore[misc] # as above
    """Refuses as `RejectPolicy` does, and keeps the key for the message."""

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
        raise _UnknownKeyError(key)


class SshLink:
    """One host by SSH.

    Args:
        host: from the inventory.
        settings: known hosts, keys and time-outs.
        root: the installation's folder on the host.
        script: ``host.py``, brought to the host's cache once per connection.
    """

    def __init__(self, host: Host, settings: Settings, *, root: str, script: Path) -> None:
        self._host = host
        self._settings = settings
        self._cache = f"{root.rstrip('/')}/cache"
        self._script = script
        self._script_sha256 = hashlib.sha256(script.read_bytes()).hexdigest()
        self._lock = threading.Lock()  # one thread connects, others wait for it
        self._connection: Connection | None = None
        self._is_prepared = False

    def __repr__(self) -> str:
        return f"<SshLink {self._host.name} {self._place}>"

    @property
    def _place(self) -> str:
        return f"{self._host.address or self._host.name}:{self._host.port}"

    @property
    def _known_hosts(self) -> str:
        return self._settings.known_hosts or USER_KNOWN_HOSTS

    def exchange(
        self, op: str, request: bytes, *, timeout_s: float, on_event: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """See `release.link.Link`."""
        connection = self._ready()
        reader = AnswerReader(self._host.name, on_event)
        argv = [self._host.python, "-I", self._remote_script, op]
        code = self._run(connection, argv, reader, request=request, timeout_s=timeout_s)
        return reader.finish(code, timeout_s=timeout_s)

    def put(self, source: Path, *, sha256: str, timeout_s: float) -> str:
        """See `release.link.Link`."""
        connection = self._ready()
        target = f"{self._cache}/{source.name}"
        self._put(connection, source, target, sha256=sha256, timeout_s=timeout_s)
        return target

    def close(self) -> None:
        """See `release.link.Link`."""
        with self._lock:
            self._drop()

    # --- connection ------------------------------------------------------------------------

    @property
    def _remote_script(self) -> str:
        return f"{self._cache}/host-{self._script_sha256}.py"

    def _ready(self) -> Connection:
        """Return a connection to a host that has the script."""
        with self._lock:
            if self._connection is not None and not self._connection.is_connected:
                self._drop()
            if self._connection is None:
                self._connection = self._connect()
            if not self._is_prepared:
                self._put(
                    self._connection,
                    self._script,
                    self._remote_script,
                    sha256=self._script_sha256,
                    timeout_s=COMMAND_TIMEOUT_S,
                )
                self._is_prepared = True
            return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it is gone either way
                self._connection.close()
        self._connection, self._is_prepared = None, False

    def _connect(self) -> Connection:
        timeout_s = self._settings.connect_timeout_s
        kwargs: dict[str, Any] = {f"{part}_timeout": timeout_s for part in ("banner", "auth", "channel")}
        if self._settings.ssh_key_file:
            kwargs["key_filename"] = str(Path(self._settings.ssh_key_file).expanduser())
        try:
            connection = Connection(
                self._host.address or self._host.name,
                user=self._host.user or None,
                port=self._host.port if self._host.port != paramiko.config.SSH_PORT else None,
                config=Config(),
                connect_timeout=max(1, round(timeout_s)),
                connect_kwargs=kwargs,
            )
            for hop in _hops(connection):
                self._trust(hop)
            connection.open()
        except Exception as exc:
            raise self._explain(exc) from exc
        _notice_loss(connection.transport, timeout_s)
        return connection

    def _trust(self, connection: Connection) -> None:
        client = connection.client
        client.set_missing_host_key_policy(_RefusePolicy())
        own = Path(self._known_hosts).expanduser()
        for path in (own,) if self._settings.known_hosts else (own, SYSTEM_KNOWN_HOSTS):
            if path.exists():
                client.load_system_host_keys(str(path))

    def _explain(self, exc: Exception) -> HostError:
        """Say in a sentence why there is no connection, and what to do."""
        known, port = self._known_hosts, self._host.port
        address = self._host.address or self._host.name
        name = address if port == paramiko.config.SSH_PORT else f"[{address}]:{port}"
        add = f"ssh-keyscan -p {port} {address} >> {known}"
        kind = "unreachable"
        match exc:
            case _UnknownKeyError():
                kind = "host-key"
                why = f"its key ({exc}) is not in {known}; compare it on the host, then add it: {add}"
            case paramiko.BadHostKeyException():
                kind = "host-key"
                why = (
                    f"its key is not the one in {known}: installed anew, or somebody is in between; "
                    f"find out, then: ssh-keygen -R '{name}' -f {known} && {add}"
                )
            case paramiko.AuthenticationException():
                kind = "auth"
                user = self._host.user or "the caller"
                why = f"does not let {user} in ({exc}); add a public key there, or load the private one"
            case TimeoutError():
                why = f"no answer from {self._place} within {self._settings.connect_timeout_s:g} s"
            case socket.gaierror():
                why = f"the address {address!r} is not known: {exc.strerror}"
            case paramiko.ssh_exception.NoValidConnectionsError() | ConnectionRefusedError():
                first = next(iter(getattr(exc, "errors", {None: exc}).values()))
                is_refused = getattr(first, "errno", None) == errno.ECONNREFUSED
                why = f"{self._place} refuses the connection" if is_refused else f"{self._place}: {first}"
            case _:
                why = f"cannot connect to {self._place}: {str(exc) or type(exc).__name__}"
        return HostError(self._host.name, why, kind=kind)

    # --- commands --------------------------------------------------------------------------

    def _run(
        self,
        connection: Connection,
        argv: list[str],
        reader: AnswerReader,
        *,
        request: bytes = b"",
        timeout_s: float,
    ) -> int:
        """Run one command under timeout(1), feed *reader*, return the exit code."""
        command = shlex.join(["timeout", "-k", str(KILL_AFTER_S), str(math.ceil(timeout_s)), *argv])
        until = time.monotonic() + timeout_s + SLACK_S
        transport = connection.transport
        try:
            with contextlib.closing(
                transport.open_session(timeout=self._settings.connect_timeout_s)
            ) as channel:
                channel.settimeout(POLL_S)
                channel.exec_command(command)
                _send(channel, request, until)
                _receive(channel, reader, until)
                while not channel.status_event.wait(POLL_S):
                    if time.monotonic() > until:
                        raise HostError(self._host.name, f"no end within {timeout_s:g} s", kind="timeout")
                _drain_stderr(channel, reader)
                code = int(channel.exit_status)
        except (paramiko.SSHException, EOFError, OSError) as exc:
            if not transport.is_active():
                raise self._lost() from exc
            raise HostError(self._host.name, f"cannot run a command: {exc}", kind="protocol") from exc
        if code == -1 and reader.answer is None:  # closed without an exit status
            raise self._lost()
        return code

    def _lost(self) -> HostError:
        return HostError(
            self._host.name,
            f"the connection to {self._place} was lost in mid-step; what it did is unknown",
            kind="lost",
        )

    def _put(
        self, connection: Connection, source: Path, target: str, *, sha256: str, timeout_s: float
    ) -> None:
        """Bring a file over: under another name, then renamed; nothing when it is there."""
        folder = target.rpartition("/")[0]
        seen = _Lines()
        shell = (
            f"mkdir -p {shlex.quote(folder)} && {{ sha256sum {shlex.quote(target)} 2>/dev/null || true; }}"
        )
        code = self._run(connection, ["sh", "-c", shell], seen, timeout_s=COMMAND_TIMEOUT_S)
        if code:
            raise HostError(self._host.name, f"cannot make {folder}: {seen.text or code}", kind="upload")
        if seen.text.split(" ")[0].lstrip("\\") == sha256:
            return
        until = time.monotonic() + timeout_s

        def in_time(_done: int, _all: int) -> None:
            if time.monotonic() > until:
                raise TimeoutError(f"took longer than {timeout_s:g} s")

        temporary = f"{target}.{uuid.uuid4().hex[:8]}.part"
        try:
            with contextlib.closing(paramiko.SFTPClient.from_transport(connection.transport)) as sftp:
                sftp.get_channel().settimeout(self._settings.connect_timeout_s)
                try:
                    sftp.put(str(source), temporary, callback=in_time)
                    sftp.posix_rename(temporary, target)
                except BaseException:
                    with contextlib.suppress(Exception):
                        sftp.remove(temporary)
                    raise
        except (paramiko.SSHException, EOFError, OSError) as exc:
            if not connection.transport.is_active():
                raise self._lost() from exc
            raise HostError(
                self._host.name, f"cannot write {target}: {exc or type(exc).__name__}", kind="upload"
            ) from exc


class _Lines(AnswerReader):
    """Keeps the output of a small command as text."""

    def __init__(self) -> None:
        super().__init__("", lambda _event: None)
        self.text = ""

    def feed(self, piece: bytes) -> None:
        self.text = (self.text + piece.decode(errors="replace")).strip()

    feed_stderr = feed


def _hops(connection: Connection) -> list[Connection]:
    """Return the connection and the jump hosts before it."""
    hops = []
    hop: Any = connection
    while isinstance(hop, Connection):
        hops.append(hop)
        hop = hop.gateway
    return hops


def _notice_loss(transport: paramiko.Transport, timeout_s: float) -> None:
    """Let the kernel give the connection up when the host does not acknowledge for *timeout_s*."""
    transport.set_keepalive(max(1, round(timeout_s / 2)))
    if isinstance(transport.sock, socket.socket):  # through a jump host it is a channel
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout_s * 1000))


def _send(channel: paramiko.Channel, request: bytes, until: float) -> None:
    rest = memoryview(request)
    while rest and not channel.closed:
        try:
            rest = rest[channel.send(rest) :]
        except TimeoutError:
            if time.monotonic() > until:
                raise
    channel.shutdown_write()


def _receive(channel: paramiko.Channel, reader: AnswerReader, until: float) -> None:
    """Read both streams until they end; the time limit is checked by the caller."""
    is_open = True
    while is_open and time.monotonic() < until:
        try:
            piece = channel.recv(65536)
            is_open = bool(piece)
            reader.feed(piece)
        except TimeoutError:
            pass
        _drain_stderr(channel, reader)


def _drain_stderr(channel: paramiko.Channel, reader: AnswerReader) -> None:
    while channel.recv_stderr_ready():
        reader.feed_stderr(channel.recv_stderr(65536))

"""A host reached by SSH.

The operation runs in a plain channel of Fabric's connection rather than by its `run`: JSON goes in, JSON
lines come back as they are printed, and every wait ends. A host that disappears in the middle is noticed in
about twice ``connect_timeout_s`` (keep-alive packets that nobody acknowledges), not at the end of the step's
time.
"""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import paramiko

from release.agent import package
from release.errors import HostError
from release.hosts.connect import connect, place_of
from release.hosts.link import KILL_AFTER_S, NOT_FOUND, SLACK_S, AnswerReader, command_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fabric import Connection

    from release.inventory import Host
    from release.settings import Settings

POLL_S: Final = 0.2
COMMAND_TIMEOUT_S: Final = 20.0  #: for the small commands around an operation


class SshLink:
    """One host by SSH.

    Args:
        host: from the inventory.
        settings: known hosts, keys and time-outs.
        root: the installation's folder on the host.
        agent: folder of the agent, which each connection sees to be in the host's cache.
    """

    def __init__(self, host: Host, settings: Settings, *, root: str, agent: Path) -> None:
        self._host = host
        self._settings = settings
        self._cache = f"{root.rstrip('/')}/cache"
        self._agent = package.contents(agent)
        self._digest = package.digest_of(self._agent)
        self._lock = threading.Lock()  # one thread connects, others wait for it
        self._connection: Connection | None = None
        self._is_prepared = False

    def __repr__(self) -> str:
        return f"<SshLink {self._host.name} {place_of(self._host)}>"

    def exchange(
        self, op: str, request: bytes, *, timeout_s: float, on_event: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """See `release.hosts.link.Link`."""
        connection = self._ready()
        reader = AnswerReader(self._host.name, on_event)
        argv = command_of(self._host.python, self._remote_agent, op)
        code = self._run(connection, argv, reader, request=request, timeout_s=timeout_s)
        return reader.finish(code, timeout_s=timeout_s)

    def put(self, source: Path, *, sha256: str, timeout_s: float) -> str:
        """See `release.hosts.link.Link`."""
        connection = self._ready()
        target = f"{self._cache}/{source.name}"
        self._put(connection, source, target, sha256=sha256, timeout_s=timeout_s)
        return target

    def close(self) -> None:
        """See `release.hosts.link.Link`."""
        with self._lock:
            self._drop()

    # --- connection ------------------------------------------------------------------------

    @property
    def _remote_agent(self) -> str:
        return f"{self._cache}/agent-{self._digest}"

    def _ready(self) -> Connection:
        """Return a connection to a host that has the agent."""
        with self._lock:
            if self._connection is not None and not self._connection.is_connected:
                self._drop()
            if self._connection is None:
                self._connection = connect(self._host, self._settings)
            if not self._is_prepared:
                self._place_agent(self._connection)
                self._is_prepared = True
            return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it is gone either way
                self._connection.close()
        self._connection, self._is_prepared = None, False

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
            f"the connection to {place_of(self._host)} was lost in mid-step; what it did is unknown",
            kind="lost",
        )

    def _place_agent(self, connection: Connection) -> None:
        """Bring the agent over unless it is there: the same bytes, and nothing else in its folder."""
        folder = shlex.quote(self._remote_agent)
        there = f"cd {folder} 2>/dev/null && LC_ALL=C && export LC_ALL && sha256sum -- * 2>&1 | sha256sum"
        if self._digest_there(connection, there) == self._digest:
            return
        texts = {name: content.decode() for name, content in self._agent.items()}
        program = Path(package.__file__).read_text(encoding="utf-8")
        argv = [self._host.python, "-I", "-c", program, self._remote_agent]
        said = _Lines()
        request = json.dumps(texts).encode()
        code = self._run(connection, argv, said, request=request, timeout_s=COMMAND_TIMEOUT_S)
        if code and code not in NOT_FOUND:  # without a Python the operation says what is missing
            why = (said.text.splitlines() or [f"exit code {code}"])[-1]
            raise HostError(self._host.name, f"cannot write {self._remote_agent}: {why}", kind="upload")

    def _digest_there(self, connection: Connection, command: str) -> str:
        """Make the host's cache folder; return the digest that a shell command prints, if any."""
        said = _Lines()
        shell = f"mkdir -p {shlex.quote(self._cache)} && {{ {command} || true; }}"
        code = self._run(connection, ["sh", "-c", shell], said, timeout_s=COMMAND_TIMEOUT_S)
        if code:
            raise HostError(self._host.name, f"cannot make {self._cache}: {said.text or code}", kind="upload")
        return said.text.split(" ")[0].lstrip("\\")

    def _put(
        self, connection: Connection, source: Path, target: str, *, sha256: str, timeout_s: float
    ) -> None:
        """Bring a file over: under another name, then renamed; nothing when it is there."""
        until = time.monotonic() + timeout_s
        if self._upload(connection, source, target, until=until, unless_there=True):
            return
        if self._digest_there(connection, f"sha256sum {shlex.quote(target)} 2>/dev/null") != sha256:
            self._upload(connection, source, target, until=until, unless_there=False)

    def _upload(
        self, connection: Connection, source: Path, target: str, *, until: float, unless_there: bool
    ) -> bool:
        """Bring a file over; return False where one of its size is there already, with *unless_there*.

        One session at a time: a host may allow no more.
        """

        def in_time(_done: int, _all: int) -> None:
            if time.monotonic() > until:
                raise TimeoutError("took longer than the time that a step has")

        temporary = f"{target}.{uuid.uuid4().hex[:8]}.part"
        try:
            with contextlib.closing(paramiko.SFTPClient.from_transport(connection.transport)) as sftp:
                sftp.get_channel().settimeout(self._settings.connect_timeout_s)
                if unless_there and _has_size(sftp, target, source.stat().st_size):
                    return False
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
        return True


class _Lines(AnswerReader):
    """Keeps the output of a small command as text."""

    def __init__(self) -> None:
        super().__init__("", lambda _event: None)
        self.text = ""

    def feed(self, piece: bytes) -> None:
        self.text = (self.text + piece.decode(errors="replace")).strip()

    feed_stderr = feed


def _has_size(sftp: paramiko.SFTPClient, path: str, size: int) -> bool:
    """Tell whether there is a file of this size."""
    try:
        return bool(sftp.stat(path).st_size == size)
    except FileNotFoundError:
        return False


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

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
from release.hosts.login import LOOK, NO_RIGHTS, Login

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fabric import Connection

    from release.inventory import Host
    from release.settings import Settings

POLL_S: Final = 0.2
SESSION_PAUSE_S: Final = 0.05
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
        self._root = root.rstrip("/")
        self._agent = package.contents(agent)
        self._digest = package.digest_of(self._agent)
        self._lock = threading.Lock()  # one thread connects, others wait for it
        self._connection: Connection | None = None
        self._login: Login | None = None

    def __repr__(self) -> str:
        return f"<SshLink {self._host.name} {place_of(self._host)}>"

    def exchange(
        self, op: str, request: bytes, *, timeout_s: float, on_event: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """See `release.hosts.link.Link`."""
        connection, login = self._ready()
        reader = AnswerReader(self._host.name, on_event)
        argv = command_of(self._host.python, f"{login.place}/{self._agent_name}", op)
        code = self._run(connection, argv, reader, request=request, timeout_s=timeout_s, before=login.before)
        return reader.finish(code, timeout_s=timeout_s) | (
            {"by_sudo": login.why_sudo} if login.before else {}
        )

    def put(self, source: Path, *, sha256: str, timeout_s: float) -> str:
        """See `release.hosts.link.Link`."""
        connection, login = self._ready()
        target = f"{login.place}/{source.name}"
        self._put(connection, source, target, sha256=sha256, timeout_s=timeout_s)
        return target

    def close(self) -> None:
        """See `release.hosts.link.Link`."""
        with self._lock:
            self._drop()

    # --- connection ------------------------------------------------------------------------

    @property
    def _agent_name(self) -> str:
        return f"agent-{self._digest}"

    def _ready(self) -> tuple[Connection, Login]:
        """Return a connection to a host that has the agent, and what the login may do there."""
        with self._lock:
            if self._connection is not None and not self._connection.is_connected:
                self._drop()
            if self._connection is None:
                self._connection = connect(self._host, self._settings)
            if self._login is None:
                login = self._look(self._connection)
                if login.digest != self._digest:
                    self._place_agent(self._connection, f"{login.place}/{self._agent_name}")
                self._login = login
            return self._connection, self._login

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it is gone either way
                self._connection.close()
        self._connection, self._login = None, None

    # --- commands --------------------------------------------------------------------------

    def _run(
        self,
        connection: Connection,
        argv: list[str],
        reader: AnswerReader,
        *,
        request: bytes = b"",
        timeout_s: float,
        before: Sequence[str] = (),
    ) -> int:
        """Run one command under timeout(1), feed *reader*, return the exit code.

        What goes *before* it is sudo: a login could not end what root runs, root can.
        """
        command = shlex.join([*before, "timeout", "-k", str(KILL_AFTER_S), str(math.ceil(timeout_s)), *argv])
        until = time.monotonic() + timeout_s + SLACK_S
        transport = connection.transport
        try:
            with contextlib.closing(self._session(transport)) as channel:
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

    def _session(self, transport: paramiko.Transport) -> paramiko.Channel:
        """Open a session; where the host allows no more of them, wait until one has ended.

        A host with ``MaxSessions 1`` still counts the one that has just been closed here.
        """
        timeout_s = self._settings.connect_timeout_s
        until = time.monotonic() + timeout_s
        while True:
            try:
                return transport.open_session(timeout=timeout_s)
            except paramiko.ChannelException:
                if time.monotonic() > until:
                    raise
                time.sleep(SESSION_PAUSE_S)

    def _lost(self) -> HostError:
        return HostError(
            self._host.name,
            f"the connection to {place_of(self._host)} was lost in mid-step; what it did is unknown",
            kind="lost",
        )

    def _look(self, connection: Connection) -> Login:
        """Find out what the login may do, and whether the agent is there: these bytes, nothing else."""
        said = _Lines()
        argv = ["sh", "-c", LOOK, "sh", self._root, self._agent_name]
        code = self._run(connection, argv, said, timeout_s=COMMAND_TIMEOUT_S)
        if code:
            kind = "rights" if code == NO_RIGHTS else "upload"
            raise HostError(self._host.name, said.text.strip() or f"exit code {code}", kind=kind)
        try:
            return Login.read(said.text)
        except ValueError as exc:
            raise HostError(self._host.name, f"its shell does not answer: {exc}", kind="protocol") from exc

    def _place_agent(self, connection: Connection, folder: str) -> None:
        """Bring the agent over."""
        texts = {name: content.decode() for name, content in self._agent.items()}
        program = Path(package.__file__).read_text(encoding="utf-8")
        argv = [self._host.python, "-I", "-c", program, folder]
        said = _Lines()
        request = json.dumps(texts).encode()
        code = self._run(connection, argv, said, request=request, timeout_s=COMMAND_TIMEOUT_S)
        if code and code not in NOT_FOUND:  # without a Python the operation says what is missing
            why = (said.text.strip().splitlines() or [f"exit code {code}"])[-1]
            raise HostError(self._host.name, f"cannot write {folder}: {why}", kind="upload")

    def _digest_of(self, connection: Connection, path: str) -> str:
        """Return the digest of a file on the host; nothing when it is not there."""
        said = _Lines()
        self._run(connection, ["sha256sum", "--", path], said, timeout_s=COMMAND_TIMEOUT_S)
        return said.text.split(" ")[0].lstrip("\\")

    def _put(
        self, connection: Connection, source: Path, target: str, *, sha256: str, timeout_s: float
    ) -> None:
        """Bring a file over: under another name, then renamed; nothing when it is there."""
        until = time.monotonic() + timeout_s
        if self._upload(connection, source, target, until=until, unless_there=True):
            return
        if self._digest_of(connection, target) != sha256:
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
            with contextlib.closing(self._session(connection.transport)) as channel:
                channel.invoke_subsystem("sftp")
                sftp = paramiko.SFTPClient(channel)
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
        self.text += piece.decode(errors="replace")

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

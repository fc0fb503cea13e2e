"""How one operation of the agent is run on one host, and this machine as such a host.

A `Link` moves bytes and raises `HostError`; `release.hosts.remote` makes outcomes of what it gives. There
are two: `LocalLink` here, without SSH or root, and `release.hosts.ssh.SshLink`. Both bound every wait: the
operation runs under ``timeout -k``, so it ends on the host also when nobody listens any more, and this side
waits `SLACK_S` longer than that at most.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from release.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLACK_S: Final = 10.0  #: after its time limit an operation may take so long to be killed and reported
KILL_AFTER_S: Final = 5  #: ``timeout -k``: from SIGTERM to SIGKILL
LINE_MAX_BYTES: Final = 8 * 1024 * 1024
STDERR_KEPT_BYTES: Final = 4096
TIMED_OUT: Final = 124  #: exit code of timeout(1); 137 when it had to kill
NOT_FOUND: Final = (126, 127)


class Link(Protocol):
    """One host. Used by several threads at once: a heartbeat goes beside a step."""

    def exchange(
        self, op: str, request: bytes, *, timeout_s: float, on_event: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Run one operation and return its answer, the last line of its output.

        Args:
            op: operation of the agent.
            request: JSON for its standard input.
            timeout_s: after which the host ends it.
            on_event: called with each progress line.

        Raises:
            HostError: there is no answer; kind ``unreachable``, ``host-key``, ``auth``, ``lost``, ``timeout``
                or ``protocol``.
        """

    def put(self, source: Path, *, sha256: str, timeout_s: float) -> str:
        """Bring a file to the host's cache, unless it is there; return its path there.

        Raises:
            HostError: as `exchange`; kind ``upload`` when the host would not take it.
        """

    def close(self) -> None:
        """End the connection. It is made again when needed."""


class AnswerReader:
    """Splits an operation's output into events and the one answer."""

    def __init__(self, host: str, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._host = host
        self._on_event = on_event
        self._rest = b""
        self._stderr = b""
        self._noise = ""
        self.answer: dict[str, Any] | None = None

    def feed(self, piece: bytes) -> None:
        """Take a piece of standard output.

        Raises:
            HostError: a line without an end.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LINE_MAX_BYTES:
            raise HostError(self._host, "sent a line without an end", kind="protocol")
        for line in lines:
            self._take(line)

    def feed_stderr(self, piece: bytes) -> None:
        """Take a piece of standard error; the end of it is kept, for errors."""
        self._stderr = (self._stderr + piece)[-STDERR_KEPT_BYTES:]

    def finish(self, exit_code: int, *, timeout_s: float) -> dict[str, Any]:
        """Return the answer, at the end of the output.

        Raises:
            HostError: there was none; says what there was instead.
        """
        self._take(self._rest)
        if self.answer is not None:
            return self.answer
        tail = self._stderr.decode(errors="replace").strip().splitlines()
        if exit_code == TIMED_OUT or exit_code in {137, -signal.SIGKILL}:
            raise HostError(
                self._host, f"took longer than {timeout_s:g} s and was ended", kind="timeout", log=tail
            )
        said = (tail or [self._noise or "nothing"])[-1]
        if exit_code in NOT_FOUND:
            said += "; a host needs coreutils and Python 3.11 or newer (`python` in the inventory)"
        raise HostError(self._host, f"no answer, exit code {exit_code}: {said}", kind="protocol", log=tail)

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if not text or self.answer is not None:
            return
        try:
            entry = json.loads(text)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            self._noise = text  # what a login shell prints, say
        elif isinstance(entry.get("ok"), bool):
            self.answer = entry
        else:
            self._on_event(entry)


class LocalLink:
    """This machine: the same agent in a process of its own, which Ctrl-C does not reach."""

    def __init__(self, host: str, agent: Path) -> None:
        self._host = host
        self._agent = agent

    def __repr__(self) -> str:
        return f"<LocalLink {self._host} {self._agent}>"

    def exchange(
        self, op: str, request: bytes, *, timeout_s: float, on_event: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """See `Link`."""
        reader = AnswerReader(self._host, on_event)
        limit = ["timeout", "-k", str(KILL_AFTER_S), str(math.ceil(timeout_s))]
        try:
            process = subprocess.Popen(
                [*limit, *command_of(sys.executable, str(self._agent), op)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as exc:
            raise HostError(self._host, f"cannot run {limit[0]}: {exc}", kind="protocol") from exc
        try:
            code = _converse(process, request, reader, until=time.monotonic() + timeout_s + SLACK_S)
        finally:
            _end(process)
        return reader.finish(code, timeout_s=timeout_s)

    def put(self, source: Path, *, sha256: str, timeout_s: float) -> str:
        """See `Link`. The file is on this machine already."""
        return str(source.resolve())

    def close(self) -> None:
        """See `Link`."""


def command_of(python: str, agent: str, op: str) -> list[str]:
    """Return the command that runs an operation of the agent in a folder.

    Without bytecode, which the digest in the folder's name would not cover: each operation compiles the few
    modules that it needs.
    """
    return [python, "-I", "-B", agent, op]


def _converse(process: subprocess.Popen[bytes], request: bytes, reader: AnswerReader, *, until: float) -> int:
    """Write the request, read until the end of the output; return the exit code."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(BrokenPipeError):  # its answer says why
        process.stdin.write(request)
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    takers: dict[IO[bytes], Callable[[bytes], None]] = {
        process.stdout: reader.feed,
        process.stderr: reader.feed_stderr,
    }
    with selectors.DefaultSelector() as selector:
        for stream in takers:
            selector.register(stream, selectors.EVENT_READ)
        # A program that the operation left behind may hold the pipes: its answer and its end are enough.
        while selector.get_map() and time.monotonic() < until:
            ready = selector.select(0.2)
            if not ready and process.poll() is not None:
                break
            for key, _ in ready:
                stream = next(stream for stream in takers if stream.fileno() == key.fd)
                piece = os.read(key.fd, 65536)
                if piece:
                    takers[stream](piece)
                else:
                    selector.unregister(stream)
    try:
        return process.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return TIMED_OUT


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of an operation, and close our ends."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()

"""One publisher at a time: a lock file in the repository, which works the same for a folder and over SSH.

The file says who holds it. A publisher of this machine that has ended counts at once as gone. One of another
machine does when its lock stayed the same for `stale_s` seconds of our own clock: nobody holds it for longer
than it takes to write the index, artefacts are uploaded before. A publisher who breaks a lock holds a second
one while he looks again, so that two cannot break one after the other and remove a lock that is alive.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import os
import random
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import msgspec

from release.errors import LockedError, RepositoryError

if TYPE_CHECKING:
    from types import TracebackType

    from release.repository.transports.transport import Transport

LOCK: Final = "publish.lock"
BREAK: Final = "publish.lock.break"
_BYTES_MAX: Final = 4096
_POLL_S: Final = 0.1


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lock."""

    token: str
    who: str
    host: str
    machine: str  #: this boot of this machine, and its table of processes
    pid: int
    started: str  #: when that process started, so that a new one with its number is told apart
    at: int  #: UNIX seconds


class PublishLock:
    """Context manager: the lock of the repository behind *transport*.

    Args:
        transport: where the lock file is.
        wait_s: seconds to wait for another publisher.
        stale_s: seconds after which a lock that did not change counts as left behind.

    Raises:
        LockedError: on entering: another publisher has it for longer than *wait_s*; says who.
        RepositoryError: on entering: the lock cannot be written.
    """

    def __init__(self, transport: Transport, *, wait_s: float = 90, stale_s: float = 30) -> None:
        self._transport = transport
        self._wait_s = wait_s
        self._stale_s = stale_s
        self._content = b""
        self._watched: dict[str, tuple[bytes, float]] = {}

    def __enter__(self) -> Self:
        holder = this_process()
        content = msgspec.json.encode(holder)
        deadline = time.monotonic() + self._wait_s
        while not self._claim(LOCK, content):
            held = self._transport.read(LOCK, _BYTES_MAX)
            if held is not None and (_has_ended(held) or self._is_unchanged(LOCK, held)):
                self._break(held, content)
            elif time.monotonic() >= deadline:
                raise LockedError(_held_text(self._transport.url, held or b""))
            else:
                time.sleep(_POLL_S * random.uniform(0.5, 1.5))  # noqa: S311  # spreads those who wait
        self._content = content
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(RepositoryError):  # it is found to be stale then; the first error counts
            if self.is_ours():
                self._transport.remove(LOCK)

    def is_ours(self) -> bool:
        """Tell whether the lock is still ours: a publisher who holds it for too long loses it."""
        return self._transport.read(LOCK, _BYTES_MAX) == self._content

    def _claim(self, name: str, content: bytes) -> bool:
        """Write *content* to the file *name* unless it exists; nobody ever sees half of it."""
        if self._transport.read(name, _BYTES_MAX) is not None:
            return False
        staged = self._transport.stage(io.BytesIO(content))
        is_done = False
        try:
            is_done = self._transport.claim(staged, name)
        finally:
            if not is_done:
                self._transport.remove(staged)
        return is_done

    def _break(self, stale: bytes, content: bytes) -> None:
        """Remove the lock if its content still is *stale*."""
        if self._claim(BREAK, content):
            try:
                if self._transport.read(LOCK, _BYTES_MAX) == stale:
                    self._transport.remove(LOCK)
            finally:
                self._transport.remove(BREAK)
            return
        other = self._transport.read(BREAK, _BYTES_MAX)
        if other is not None and (_has_ended(other) or self._is_unchanged(BREAK, other)):
            self._transport.remove(BREAK)
        else:
            time.sleep(_POLL_S)

    def _is_unchanged(self, name: str, content: bytes) -> bool:
        before, since = self._watched.get(name, (b"", 0.0))
        if before != content:
            self._watched[name] = (content, time.monotonic())
            return False
        return time.monotonic() - since >= self._stale_s


def this_process() -> Holder:
    """Return this process as the holder of a lock."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        who = str(os.getuid())
    return Holder(
        token=secrets.token_hex(8),
        who=who,
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        started=_start_of(os.getpid()),
        at=int(time.time()),
    )


def _machine() -> str:
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _start_of(pid: int) -> str:
    """Return when a process started, in ticks since boot; ``""`` when there is no such process."""
    with contextlib.suppress(OSError, IndexError):
        # After the name, which may hold anything in its brackets, the start is the 20th field.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return ""


def _has_ended(content: bytes) -> bool:
    """Tell whether the holder was a process of this machine that has ended."""
    try:
        holder = msgspec.json.decode(content, type=Holder)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    machine = _machine()
    return bool(machine) and holder.machine == machine and _start_of(holder.pid) != holder.started


def _held_text(url: str, content: bytes) -> str:
    try:
        holder = msgspec.json.decode(content, type=Holder)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"repository {url}: somebody publishes just now; try again, or remove {LOCK} if nobody does"
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder.at))
    return (
        f"repository {url}: {holder.who} on {holder.host} (pid {holder.pid}) publishes since {since}; "
        f"try again, or remove {LOCK} there if nobody does"
    )

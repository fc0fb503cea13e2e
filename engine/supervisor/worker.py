"""One worker process: what it says, what it is told, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from . import asking, orders
from .errors import StageError

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from .output import LogTail
    from .release import Release

_POLL_S: Final = 0.01
_KILL_AFTER_S: Final = 2.0  #: past a drain's limit
_LOG_END_S: Final = 0.3  #: for the last lines of a worker that has exited


class Worker:
    """One worker process, its control socket, its log pipe and its private HTTP socket.

    Attributes:
        state: ``starting`` (until ``/readyz``), ``ready``, ``accepting``, ``draining``.
        version: as the worker said itself; empty until it was asked.
        is_candidate: a reload has started the worker and has not yet decided for it.
        is_leaving: the worker was told to end, so its end is no surprise.
        is_announced: the other workers know it as a peer.
        was_sent_go: the worker may have clients.
        requests, errors_5xx: answers since its start, as it said last.
        exited: the exit code, once; negative: the signal that ended the worker.
        accepting: done when the worker has said that it accepts.
        unread: what its control socket gave beyond the last whole line.
    """

    def __init__(
        self,
        *,
        slot: int,
        generation: int,
        release: Release,
        has_predecessor: bool,
        pid: int,
        control: socket.socket,
        log_fd: int,
        path: Path,
        tail: LogTail,
        is_candidate: bool = False,
    ) -> None:
        self.slot, self.generation, self.release, self.pid = slot, generation, release, pid
        self.has_predecessor = has_predecessor
        self.path = path
        self.tail = tail
        self.state = "starting"
        self.version = ""
        self.is_candidate = is_candidate
        self.is_leaving = self.is_announced = self.was_sent_go = False
        self.requests = self.errors_5xx = 0
        self.stale: dict[str, str] = {}  #: nodes whose canary was stale, with the reason
        self.canaries = ""  #: whether it has tried its nodes by canaries: ``waiting seen elsewhere``
        self.started_at = time.monotonic()
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.accepting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.unread = b""
        self._log_ended = asyncio.Event()
        self.control, self.log_fd = control, log_fd
        self._loop = asyncio.get_running_loop()
        self._kill_timer: asyncio.TimerHandle | None = None
        control.setblocking(False)
        os.set_blocking(log_fd, False)
        self._loop.add_reader(control, self._read_control)
        self._loop.add_reader(log_fd, self._read_log)

    def __str__(self) -> str:
        version = self.version or self.release.version or "of unknown version"
        return f"worker {self.slot} (generation {self.generation}, pid {self.pid}, {version})"

    @property
    def uptime_s(self) -> float:
        """Seconds since the worker was spawned."""
        return time.monotonic() - self.started_at

    # What the worker says

    def _read_control(self) -> None:
        try:
            data = self.control.recv(orders.READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self.control)
            return
        events, self.unread = orders.events(self.unread, data)
        for event in events:
            self._told(event)

    def _told(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event == "accepting" and self.was_sent_go and not self.is_leaving and not self.accepting.done():
            self.state = "accepting"
            self.canaries = orders.word(message, "canaries")
            self.accepting.set_result(None)
        elif event == "health":
            counts = orders.counts(message, "requests", "errors_5xx")
            if counts is not None:  # else it is of another version, perhaps
                self.requests, self.errors_5xx = counts
            self.stale = orders.texts(message, "stale")
            self.canaries = orders.word(message, "canaries")

    def _read_log(self) -> None:
        try:
            data = os.read(self.log_fd, orders.READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.tail.feed(data)
        if not data:
            self._loop.remove_reader(self.log_fd)
            self._log_ended.set()

    # What the worker is told

    def send(self, command: str, **fields: Any) -> None:
        """Send a command. A worker that has not read the last thousand of them hangs, and is killed."""
        line = orders.order(command, **fields)
        try:
            is_sent = self.control.send(line) == len(line)
        except BlockingIOError:
            is_sent = False
        except OSError:
            return  # the worker is gone, or about to be
        if not is_sent:
            self.kill()

    def go(self) -> None:
        """Let the worker accept connections."""
        self.was_sent_go = True
        self.send("go")

    def drain(self, limit_s: float) -> None:
        """Let the worker finish and exit; one that takes longer than it may is killed."""
        self.is_leaving = True
        self.state = "draining"
        self.send("drain", limit_s=limit_s)
        if self._kill_timer is None:
            self._kill_timer = self._loop.call_later(limit_s + _KILL_AFTER_S, self.kill)

    def dismiss(self) -> None:
        """Kill a worker that is not wanted any more."""
        self.is_leaving = True
        self.kill()

    def kill(self) -> None:
        """End the worker by SIGKILL, if it is there."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if the worker is there; the pid is the worker's until `reap` has collected it."""
        if not self.exited.done():
            os.kill(self.pid, number)

    def reap(self) -> bool:
        """Collect the process if it has exited; tell whether it just did."""
        if self.exited.done():
            return False
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # cannot be: something else collected the process
            pid, status = self.pid, 0
        if pid == 0:
            return False
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self.exited.set_result(os.waitstatus_to_exitcode(status))
        return True

    async def close(self) -> None:
        """Give the last lines of the log time to arrive, then close socket and pipe."""
        await self.read_log_to_end()
        for source in (self.control, self.log_fd):
            self._loop.remove_reader(source)
        self.control.close()
        os.close(self.log_fd)

    async def read_log_to_end(self) -> None:
        """Wait a moment for the end of the log; a process that the worker started may hold the pipe open."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._log_ended.wait(), _LOG_END_S)

    # What the worker is asked

    async def ask(self, path: str, *, timeout_s: float = asking.TIMEOUT_S) -> tuple[int, bytes]:
        """GET a path on the private socket; return status and body. Errors: as `asking.ask`."""
        return await asking.ask(self.path, path, timeout_s=timeout_s)

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until the worker is ready, and see that it is the version it should be.

        Raises:
            StageError: ``start``: it ended; ``ready``: it is not ready in time; ``version``: it is another.
        """
        until = time.monotonic() + timeout_s
        problem = "its private socket does not answer"
        while True:
            left_s = until - time.monotonic()
            try:
                status, body = await self.ask(
                    "/readyz", timeout_s=max(_POLL_S, min(asking.TIMEOUT_S, left_s))
                )
            except (OSError, ValueError):
                pass
            else:
                if status == asking.OK:
                    break
                problem = asking.reason_of(status, body)
            if self.exited.done():
                raise await self.failure("start", f"ended before it was ready ({self.end()})")
            if left_s <= 0:
                raise await self.failure("ready", f"was not ready within {timeout_s:g} s: {problem}")
            await asyncio.wait({self.exited}, timeout=_POLL_S)
        if not self.version:
            await self._check_version()
        self.state = "ready"

    async def _check_version(self) -> None:
        try:
            _, body = await self.ask("/version")
            self.version = str(json.loads(body)["version"])
        except (OSError, ValueError, TypeError, LookupError) as exc:
            raise await self.failure("version", f"does not say its version: {exc!r}") from exc
        if self.release.version not in {"", self.version}:
            text = f"says that it is version {self.version}, expected was {self.release.version}"
            raise await self.failure("version", text)

    async def wait_accepting(self, timeout_s: float) -> None:
        """Wait until the worker has said that it accepts.

        Raises:
            StageError: ``go``: it ended, or did not say so in time.
        """
        either: set[asyncio.Future[Any]] = {self.accepting, self.exited}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self.exited.done():
            raise await self.failure("go", f"ended when it was told to accept ({self.end()})")
        if not self.accepting.done():
            raise await self.failure("go", f"did not accept within {timeout_s:g} s")

    async def failure(self, stage: str, text: str) -> StageError:
        """Return an error about this worker, with the last lines of its log."""
        if self.exited.done():
            await self.read_log_to_end()
        code = self.exited.result() if self.exited.done() else None
        return StageError(stage, f"{self} {text}", log=self.tail.lines(), exit_code=code)

    def end(self) -> str:
        """Say how the worker ended."""
        return end_of(self.exited.result())


def end_of(exit_code: int) -> str:
    """Say how a process ended; a negative exit code is the signal that killed it."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"killed by signal {-exit_code}"

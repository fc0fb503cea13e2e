"""How a worker is started: its process, and what it inherits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING, Any, Final

from .errors import StageError
from .orders import PROTOCOL
from .output import LogTail
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .doors import DoorSockets
    from .release import Release

_FROM_SYSTEMD: Final = (
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)


class Launcher:
    """Starts workers, each with the listening socket and the lock of the data folder.

    Args:
        command: returns what a worker of a release is started with.
        listener: the socket that all workers accept from.
        doors: those of doors.
        lock: descriptor of the lock; whoever has it open holds it.
        run_dir: folder of the workers' private sockets.
        write: takes what workers log.
        generation: the last one that was used.

    Attributes:
        generation: counts the workers that were started.
    """

    def __init__(
        self,
        command: Callable[[Release], list[str]],
        *,
        listener: socket.socket,
        doors: DoorSockets,
        lock: int,
        run_dir: Path,
        write: Callable[[bytes], None],
        generation: int = 0,
    ) -> None:
        self.generation = generation
        self._command = command
        self._kept = (listener.fileno(), lock)
        self._doors = doors
        self._run_dir = run_dir
        self._write = write

    def start(
        self, release: Release, *, slot: int, count: int, has_predecessor: bool, is_candidate: bool
    ) -> Worker:
        """Start a worker that does not accept yet.

        Args:
            release: what it runs.
            slot: number of its slot.
            count: number of all slots.
            has_predecessor: another worker works in the slot.
            is_candidate: a reload starts it.

        Raises:
            StageError: the program cannot be started.
        """
        self.generation += 1
        path = self._run_dir / f"w{slot}-g{self.generation}.sock"
        settings = {
            "protocol": PROTOCOL,
            "listen_fd": self._kept[0],
            "socket": str(path),
            "slot": slot,
            "count": count,
            "generation": self.generation,
            "has_predecessor": has_predecessor,
            "door_fds": self._doors.descriptors(),
        }
        try:
            path.unlink(missing_ok=True)
            pid, control, log_fd = launch(
                self._command(release), settings, keep=(*self._kept, *self._doors.descriptors().values())
            )
        except OSError as exc:
            raise StageError("start", f"a worker of {release} cannot be started: {exc}") from exc
        return Worker(
            slot=slot,
            generation=self.generation,
            release=release,
            has_predecessor=has_predecessor,
            pid=pid,
            control=control,
            log_fd=log_fd,
            path=path,
            tail=LogTail(self._write),
            is_candidate=is_candidate,
        )


def launch(
    command: Sequence[str], settings: dict[str, Any], *, keep: Sequence[int]
) -> tuple[int, socket.socket, int]:
    """Start a worker; return its pid, our end of its control socket, and that of the pipe it logs to.

    Args:
        command: program and arguments.
        settings: what ``PURGELINE_WORKER`` says, without ``control_fd``.
        keep: descriptors that the worker inherits besides.

    Raises:
        OSError: the program cannot be started.
    """
    env = {name: value for name, value in os.environ.items() if name not in _FROM_SYSTEMD}
    ours, theirs = socket.socketpair()
    with theirs:
        text = json.dumps({**settings, "control_fd": theirs.fileno()})
        reader, writer = os.pipe()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env={**env, "PYTHONSAFEPATH": "1", "PURGELINE_WORKER": text},
                pass_fds=(theirs.fileno(), *keep),
                process_group=0,  # Ctrl-C is for the supervisor, which tells them what it means
            )
        except OSError:
            ours.close()
            os.close(reader)
            raise
        finally:
            os.close(writer)
    process.returncode = 0  # `Worker.reap` collects it
    return process.pid, ours, reader

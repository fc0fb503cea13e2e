"""What a host has only one of: the lock of the data folder, the listening socket, the control socket."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .control import open_control, refuse_if_live
from .doors import DoorSockets
from .errors import USAGE, SupervisorError
from .listener import bind, handed_down
from .lock import take_lock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .handover import Handover
    from .options import Options
    from .output import Output
    from .table import EngineTable


@dataclass(frozen=True, slots=True)
class Places:
    """The folders and sockets of one supervisor."""

    data_dir: Path
    run_dir: Path  #: of the workers' private sockets
    control: Path

    @classmethod
    def of(cls, options: Options, table: EngineTable) -> Places:
        """Return the places that the command line names, and for the others those below ``data_dir``."""
        data_dir = options.folder / table.data_dir
        run_dir = options.run_dir or data_dir / "run"
        return cls(data_dir, run_dir, options.control or run_dir / "control.sock")


class Held(NamedTuple):
    """What a supervisor holds for as long as it lives."""

    listener: socket.socket
    lock: int  #: descriptor; workers inherit it
    control: socket.socket
    doors: DoorSockets


def hold(places: Places, table: EngineTable, doors: Sequence[str], *, wait_s: float, output: Output) -> Held:
    """Take the lock, then listen on both sockets.

    Args:
        places: where they are.
        table: the address, unless systemd hands a socket down.
        doors: names of the sockets of doors.
        wait_s: for the workers of a killed supervisor to let the lock go.
        output: is told what has to be waited for.

    Raises:
        SupervisorError: another supervisor runs, or a folder or socket cannot be made.
    """
    refuse_if_live(places.control)
    lock = take_lock(places.data_dir / "supervisor.lock", wait_s=wait_s, output=output)
    for folder in (places.run_dir, places.control.parent):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise SupervisorError(f"{folder} cannot be made: {exc.strerror}", exit_code=USAGE) from exc
    for orphan in places.run_dir.glob("w*-g*.sock"):
        orphan.unlink(missing_ok=True)
    listener = handed_down() or bind(table, output)
    sockets = DoorSockets()
    sockets.open(doors, table.listen_backlog)
    return Held(listener, lock, open_control(places.control), sockets)


def take_over(before: Handover) -> Held:
    """Return what the supervisor before this one held; its successor's children do not inherit it."""
    before.share(False)
    return Held(
        socket.socket(fileno=before.listen_fd),
        before.lock_fd,
        socket.socket(fileno=before.control_fd),
        DoorSockets(before.door_fds),
    )

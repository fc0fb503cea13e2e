"""What a supervisor leaves to the one that takes its place in the same process."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .errors import SupervisorError
from .output import LogTail
from .release import Release
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT: Final = 1  #: of the state
UNDERSTOOD: Final = b"handover understood\n"  #: what ``--check`` says of a state that it can go on with
_KEPT: Final = (  # attributes of a worker that are handed on as they are
    "slot",
    "generation",
    "has_predecessor",
    "pid",
    "state",
    "version",
    "is_leaving",
    "is_announced",
    "was_sent_go",
    "requests",
    "errors_5xx",
    "started_at",
)
_NEEDED: Final = (*_KEPT, "release", "path", "control_fd", "log_fd")  # `unpacked` cannot do without


@dataclass(slots=True, kw_only=True)
class Handover:
    """The state of a supervisor, for the one that `replace` executes in its place."""

    format: int
    version: str
    worker_command: list[str] | None
    listen_fd: int
    control_fd: int
    lock_fd: int
    client_fd: int  #: of the client that asked for the replacement and waits for the answer
    generation: int
    started_at: float
    release: list[str]
    table: dict[str, Any]
    last_reload: dict[str, Any] | None
    restarts: list[list[int]]  #: per slot: restarts, streak
    workers: list[dict[str, Any]]
    door_fds: dict[str, int] = field(default_factory=dict)  #: of a version that had none: nothing

    def write(self) -> int:
        """Return the descriptor of a memory file that holds the state."""
        state = os.memfd_create("supervisor", 0)
        os.write(state, json.dumps(asdict(self)).encode())
        return state

    @classmethod
    def read(cls, state: int) -> Handover:
        """Return what `write` wrote, from the beginning whatever was read before.

        Raises:
            SupervisorError: this version of the supervisor does not understand it.
        """
        try:
            text = os.pread(state, os.fstat(state).st_size, 0)
        except OSError as exc:
            raise SupervisorError(f"--handover: not a supervisor's state: {exc!r}") from exc
        return cls.parse(text)

    @classmethod
    def parse(cls, text: bytes) -> Handover:
        """Return the state that a JSON document holds.

        The other version may be older or newer: what is not known is passed over, and everything that
        `unpacked` cannot do without is asked for here, where it can still be refused.

        Raises:
            SupervisorError: this version of the supervisor does not understand it.
        """
        try:
            table = json.loads(text)
            handover = cls(
                **{
                    each.name: table[each.name]
                    for each in fields(cls)
                    if each.name in table or each.name != "door_fds"
                }
            )
            lacking = {key for worker in handover.workers for key in _NEEDED if key not in worker}
        except (ValueError, TypeError, KeyError) as exc:
            raise SupervisorError(f"--handover: not a supervisor's state: {exc!r}") from exc
        if handover.format != FORMAT:
            raise SupervisorError(f"--handover: format {handover.format}, this file takes {FORMAT}")
        if lacking:
            raise SupervisorError(f"--handover: a worker's state lacks {', '.join(sorted(lacking))}")
        return handover

    def share(self, is_shared: bool) -> None:
        """Let the descriptors survive an execution, or not."""
        own = [self.listen_fd, self.control_fd, self.lock_fd, self.client_fd, *self.door_fds.values()]
        theirs = [worker[key] for worker in self.workers for key in ("control_fd", "log_fd")]
        for descriptor in own + theirs:
            os.set_inheritable(descriptor, is_shared)


def packed(worker: Worker) -> dict[str, Any]:
    """Return the state of a worker, its descriptors as numbers."""
    return {
        **{name: getattr(worker, name) for name in _KEPT},
        "release": [worker.release.directory, worker.release.version],
        "path": str(worker.path),
        "control_fd": worker.control.fileno(),
        "log_fd": worker.log_fd,
        "unread": worker.unread.decode("latin-1"),
        "tail": worker.tail.kept.decode("latin-1"),
        "partial": worker.tail.partial.decode("latin-1"),
    }


def unpacked(state: dict[str, Any], write: Callable[[bytes], None]) -> Worker:
    """Return the worker whose state `packed` returned; *write* takes what it logs."""
    worker = Worker(
        slot=state["slot"],
        generation=state["generation"],
        release=Release(*state["release"]),
        has_predecessor=state["has_predecessor"],
        pid=state["pid"],
        control=socket.socket(fileno=state["control_fd"]),
        log_fd=state["log_fd"],
        path=Path(state["path"]),
        tail=LogTail(write),
    )
    for name in _KEPT:
        setattr(worker, name, state[name])
    worker.unread = state.get("unread", "").encode("latin-1")
    worker.tail.kept = state.get("tail", "").encode("latin-1")
    worker.tail.partial = state.get("partial", "").encode("latin-1")
    if worker.state == "accepting":
        worker.accepting.set_result(None)
    return worker

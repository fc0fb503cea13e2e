"""The supervisor's control socket: one JSON line asks, JSON lines answer."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

from .answers import Refused

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .layout import Host

GONE_WAIT_S = 2.0  # a supervisor that was killed may take connections for so long


@contextlib.contextmanager
def connect(host: Host, timeout_s: float) -> Iterator[socket.socket]:
    """Connect to the control socket, whose path may be longer than an address takes."""
    folder = os.open(host.shared / "run", os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout_s)
            client.connect(f"/proc/self/fd/{folder}/control.sock")
            yield client
    finally:
        os.close(folder)


def is_supervised(host: Host) -> bool:
    """Tell whether a supervisor listens; an error if we may not ask."""
    try:
        with connect(host, 5):
            return True
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return False
    except (BlockingIOError, TimeoutError):  # it listens, and is slow to take up
        return True


def ask(
    host: Host,
    request: dict[str, Any],
    *,
    timeout_s: float,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Send one request to the supervisor and return its answer; lines before it go to *on_event*.

    Raises:
        Refused: there is no answer; kind ``supervisor``.
    """
    try:
        with connect(host, timeout_s) as client:
            client.sendall(json.dumps(request).encode() + b"\n")
            for line in client.makefile("rb"):
                answer = json.loads(line)
                if "ok" in answer:
                    return answer  # type: ignore[no-any-return]
                if on_event is not None:
                    on_event(answer)
    except (OSError, ValueError) as exc:
        raise Refused("supervisor", f"the supervisor does not answer: {exc}") from exc
    raise Refused("supervisor", "the supervisor ended the connection without an answer")


def running(host: Host, timeout_s: float = 5.0) -> dict[str, Any]:
    """Return the supervisor's status; empty if none runs.

    The socket of one that was just killed may take a connection that nobody answers: that is none.
    """
    until = time.monotonic() + GONE_WAIT_S
    while is_supervised(host):
        try:
            return ask(host, {"cmd": "status"}, timeout_s=timeout_s)
        except Refused:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)
    return {}

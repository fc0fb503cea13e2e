"""The sockets of doors, ``[[door]]``: held like the engine's own, through every reload."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from .errors import USAGE, SupervisorError
from .listener import listening_at, receiving_at
from .table import DATAGRAMS

if TYPE_CHECKING:
    from collections.abc import Sequence


class DoorSockets:
    """The sockets by their names: the ``listen`` of a door, with ``udp/`` before it where it takes datagrams.

    Args:
        descriptors: of the supervisor before this one.
    """

    def __init__(self, descriptors: dict[str, int] | None = None) -> None:
        self._sockets = {name: socket.socket(fileno=number) for name, number in (descriptors or {}).items()}

    def descriptors(self) -> dict[str, int]:
        """Return their numbers."""
        return {name: sock.fileno() for name, sock in self._sockets.items()}

    def open(self, names: Sequence[str], backlog: int) -> None:
        """Open those of *names* that are not open yet; the others stay as they are.

        Raises:
            SupervisorError: one cannot be bound, and nothing has changed.
        """
        opened: dict[str, socket.socket] = {}
        for name in names:
            if name in self._sockets:
                continue
            listen = name.removeprefix(DATAGRAMS)
            try:
                is_listener = listen == name
                opened[name] = listening_at(listen, backlog) if is_listener else receiving_at(listen)
            except OSError as exc:
                for sock in opened.values():
                    sock.close()
                text = f"door.listen: {listen} cannot be bound: {exc.strerror or exc}"
                raise SupervisorError(text, exit_code=USAGE) from exc
        self._sockets |= opened

    def keep(self, names: Sequence[str]) -> None:
        """Close all others: their doors are gone."""
        for name in self._sockets.keys() - set(names):
            self._sockets.pop(name).close()

"""The listening sockets of doors, ``[[door]]``: held like the engine's own, through every reload."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from .errors import USAGE, SupervisorError
from .listener import listening_at

if TYPE_CHECKING:
    from collections.abc import Sequence


class DoorSockets:
    """The sockets by the ``listen`` of their door.

    Args:
        descriptors: of the supervisor before this one.
    """

    def __init__(self, descriptors: dict[str, int] | None = None) -> None:
        self._sockets = {
            listen: socket.socket(fileno=number) for listen, number in (descriptors or {}).items()
        }

    def descriptors(self) -> dict[str, int]:
        """Return their numbers."""
        return {listen: sock.fileno() for listen, sock in self._sockets.items()}

    def open(self, listens: Sequence[str], backlog: int) -> None:
        """Listen on those of *listens* that are not open yet; the others stay as they are.

        Raises:
            SupervisorError: one cannot be bound, and nothing has changed.
        """
        opened: dict[str, socket.socket] = {}
        for listen in listens:
            if listen in self._sockets:
                continue
            try:
                opened[listen] = listening_at(listen, backlog)
            except OSError as exc:
                for sock in opened.values():
                    sock.close()
                text = f"door.listen: {listen} cannot be bound: {exc.strerror or exc}"
                raise SupervisorError(text, exit_code=USAGE) from exc
        self._sockets |= opened

    def keep(self, listens: Sequence[str]) -> None:
        """Close all others: their doors are gone."""
        for listen in self._sockets.keys() - set(listens):
            self._sockets.pop(listen).close()

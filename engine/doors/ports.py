"""The ports of the doors: a gate and a listening socket each, opened and ended as the engine's own port."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from engine.intake.listener import Listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from engine.doors.submitting import Submitting
    from engine.intake.gate import Gate


class Door(Protocol):
    """A protocol on a port of its own."""

    def connection(self, gate: Gate, loop: asyncio.AbstractEventLoop) -> asyncio.Protocol:
        """Return the protocol of a new connection."""


class DoorPorts:
    """All doors of an engine.

    Args:
        doors: by their ``listen``.
        make_gate: makes the gate of one: each has limits of its own.
        submitting: what the clients of all doors wait for.
    """

    def __init__(
        self, doors: Mapping[str, Door], make_gate: Callable[[], Gate], submitting: Submitting
    ) -> None:
        self._doors = doors
        self.gates = {listen: make_gate() for listen in doors}
        self._submitting = submitting
        self._loop = asyncio.get_running_loop()
        self._listeners: list[Listener] = []

    def __repr__(self) -> str:
        return f"<DoorPorts {list(self._doors)}>"

    def accept_on(self, sockets: Mapping[str, socket.socket]) -> None:
        """Accept connections on these, by ``listen``; they listen already."""
        for listen, door in self._doors.items():
            if listen in sockets:
                listener = Listener(sockets[listen], self._maker(door, self.gates[listen]))
                listener.start()
                self._listeners.append(listener)

    def _maker(self, door: Door, gate: Gate) -> Callable[[], asyncio.Protocol]:
        return lambda: door.connection(gate, self._loop)

    def stop_accepting(self) -> None:
        """Close the sockets. Safe to call again."""
        for listener in self._listeners:
            listener.close()

    def stop_waiting(self) -> None:
        """Answer the clients that wait for caches with what there is."""
        self._submitting.stop_waiting()


def all_gates(port: Gate, doors: DoorPorts) -> Sequence[Gate]:
    """Return the gates of an engine: that of its own port, and those of its doors."""
    return [port, *doors.gates.values()]

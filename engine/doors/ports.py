"""The ports of the doors: a gate and a listening socket each, opened and ended as the engine's own port."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from engine.intake.listener import Listener

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from engine.base.protocols import Streamed
    from engine.doors.readers import Readers
    from engine.doors.submitting import Submitting
    from engine.intake.gate import Gate


class Door(Protocol):
    """A protocol on a port of its own."""

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Of its port; None: it has none."""

    def gate(self, limits: Mapping[str, Any]) -> Gate:
        """Return the gate of its port, with limits of its own."""

    async def open(self) -> None:
        """Be ready for connections.

        Raises:
            StoreError: what it keeps cannot be read.
        """

    def connection(self, gate: Gate, loop: asyncio.AbstractEventLoop) -> Streamed:
        """Return what reads a new connection."""

    async def close(self) -> None:
        """End what it began. Safe to call again."""


class DatagramDoor(Protocol):
    """A protocol of datagrams, which has no connections."""

    def receive_on(self, sock: socket.socket) -> None:
        """Take the datagrams of a socket, which is bound already."""

    def stop_receiving(self) -> None:
        """Take no more. Safe to call again."""

    async def wait_saved(self, timeout_s: float) -> None:
        """Wait until what was taken is saved or refused, for at most *timeout_s*."""

    def close(self) -> None:
        """Close the socket. Safe to call again."""


class DoorPorts:
    """All doors of an engine.

    Args:
        doors: by the names of their sockets.
        datagram_doors: as well.
        limits: of the gate of each.
        submitting: what the clients of all doors wait for.
        readers: doors without a port.
    """

    def __init__(
        self,
        doors: Mapping[str, Door],
        datagram_doors: Mapping[str, DatagramDoor],
        limits: Mapping[str, Any],
        submitting: Submitting,
        readers: Readers,
    ) -> None:
        self._doors = doors
        self._datagram_doors = datagram_doors
        self.readers = readers
        self.gates = {name: door.gate(limits) for name, door in doors.items()}
        self._submitting = submitting
        self._loop = asyncio.get_running_loop()
        self._listeners: list[Listener] = []

    def __repr__(self) -> str:
        return f"<DoorPorts {[*self._doors, *self._datagram_doors]}>"

    async def open(self) -> None:
        """Make all of them ready.

        Raises:
            StoreError: what one of them keeps cannot be read.
        """
        for door in self._doors.values():
            await door.open()

    async def close(self) -> None:
        """End what they began, let readers go, and close the sockets by which datagrams went out.

        Safe to call again.
        """
        self.readers.close()
        for datagram_door in self._datagram_doors.values():
            datagram_door.close()
        for door in self._doors.values():
            await door.close()

    def accept_on(self, sockets: Mapping[str, socket.socket]) -> None:
        """Accept connections and take datagrams on these, by name; they are open already. Readers begin."""
        self.readers.start()
        for listen, door in self._doors.items():
            if listen in sockets:
                listener = Listener(sockets[listen], self._maker(door, self.gates[listen]), door.tls)
                listener.start()
                self._listeners.append(listener)
        for name, datagram_door in self._datagram_doors.items():
            if name in sockets:
                datagram_door.receive_on(sockets[name])

    def _maker(self, door: Door, gate: Gate) -> Callable[[], Streamed]:
        return lambda: door.connection(gate, self._loop)

    def stop_accepting(self) -> None:
        """Close the listening sockets, take no more datagrams, read nothing more. Safe to call again."""
        self.readers.stop()
        for listener in self._listeners:
            listener.close()
        for door in self._datagram_doors.values():
            door.stop_receiving()

    async def wait_saved(self, timeout_s: float) -> None:
        """Wait until what came in datagrams, or was read, is saved or refused, for at most *timeout_s*."""
        await asyncio.gather(
            self.readers.finish(timeout_s),
            *(door.wait_saved(timeout_s) for door in self._datagram_doors.values()),
        )

    def stop_waiting(self) -> None:
        """Answer the clients that wait for caches with what there is."""
        self._submitting.stop_waiting()


def all_gates(port: Gate, doors: DoorPorts) -> Sequence[Gate]:
    """Return the gates of an engine: that of its own port, and those of its doors."""
    return [port, *doors.gates.values()]

"""A client's connection to a port of RFC 8007."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.intake.fast_lane import ClientConnection

if TYPE_CHECKING:
    import asyncio

    from engine.intake.gate import PortGate


class CdniConnection(ClientConnection):
    """A connection that aiohttp serves from its first byte on."""

    def __init__(self, gate: PortGate, loop: asyncio.AbstractEventLoop, door: str, *, has_tls: bool) -> None:
        super().__init__(gate, loop, door)
        self._has_tls = has_tls

    def eof_received(self) -> bool:
        """See `ClientConnection.eof_received`; a TLS connection has no half that could stay open."""
        stays = super().eof_received()
        return stays and not self._has_tls

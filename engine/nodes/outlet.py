"""What sends the requests of a channel: a connection, or what writes them into a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.nodes.queue import Item


class Outlet(Protocol):
    """Takes requests when it has room, and gives back what it could not do."""

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answer."""

    @property
    def items(self) -> Iterable[Item]:
        """The same requests."""

    @property
    def oldest_sent_at(self) -> float:
        """When the oldest of them was sent; infinity: there is none."""

    @property
    def takes_more(self) -> bool:
        """Whether a request could go out now."""

    @property
    def peer(self) -> str:
        """The address that it goes to; empty: none."""

    def fill(self) -> None:
        """Send waiting requests."""

    def abort(self, reason: str) -> None:
        """Close at once, and give back what is in flight."""

"""The place of one answer in the order of its connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.intake.replies import Reply


class Connection(Protocol):
    """A client's connection, as its slots see it."""

    def flush(self) -> None:
        """Write the answers that are next in order."""


class Slot:
    """Takes the answer of one request.

    Attributes:
        is_last: the connection ends with it.
        reply: the answer, once it is there.
    """

    __slots__ = ("_connection", "is_last", "reply")

    def __init__(self, connection: Connection, *, is_last: bool) -> None:
        self._connection = connection
        self.is_last = is_last
        self.reply: Reply | None = None

    def __call__(self, reply: Reply) -> None:
        """Keep the answer, and have it written when those before it are."""
        self.reply = reply
        self._connection.flush()

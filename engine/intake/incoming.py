"""A request of the fast lane whose body is still coming."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.intake.auth import Token
    from engine.intake.heads import Head


class Incoming:
    """The parts of a body until it is complete.

    Args:
        head: of the request.
        token: the client's; a request without one is refused by its head.
        begun: the bytes of the body that came with the head, less than all.
    """

    __slots__ = ("_chunks", "_missing", "head", "token")

    def __init__(self, head: Head, token: Token, begun: bytes) -> None:
        self.head = head
        self.token = token
        self._chunks = [begun]
        self._missing = head.body_bytes - len(begun)

    def take(self, data: bytes) -> bytes | None:
        """Take the next bytes; return those behind the body, or None while it is not complete."""
        missing = self._missing
        if len(data) < missing:
            self._chunks.append(data)
            self._missing = missing - len(data)
            return None
        self._chunks.append(data[:missing])
        return data[missing:]

    def body(self) -> bytes:
        """Return the body, which is complete."""
        return b"".join(self._chunks)

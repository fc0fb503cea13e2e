"""Doors that nobody comes to: the engine goes and reads. Begun, stopped and finished as the ports are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Reader(Protocol):
    """One such door."""

    def start(self) -> None:
        """Begin to read."""

    def stop(self) -> None:
        """Read nothing more. Safe to call again."""

    async def finish(self, limit_s: float) -> None:
        """Wait until what has been read is saved, for so long at most."""

    def close(self) -> None:
        """Let go."""


class Readers:
    """All doors of an engine that read."""

    def __init__(self, readers: Sequence[Reader] = ()) -> None:
        self._readers = list(readers)

    def __repr__(self) -> str:
        return f"<Readers {self._readers}>"

    def start(self) -> None:
        """Begin to read."""
        for reader in self._readers:
            reader.start()

    def stop(self) -> None:
        """Read nothing more. Safe to call again."""
        for reader in self._readers:
            reader.stop()

    async def finish(self, limit_s: float) -> None:
        """Wait until what has been read is saved, for so long at most."""
        await asyncio.gather(*(reader.finish(limit_s) for reader in self._readers))

    def close(self) -> None:
        """Let go."""
        for reader in self._readers:
            reader.close()

"""Who delivers the queue of a node, among engines that share a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.tasks.records import ParkedRow

WasThere: TypeAlias = "Callable[[ParkedRow], bool]"
"""Tells of a row whether it was surely in its queue at a moment."""


class Claims(Protocol):
    """Who may deliver a node's queue, among engines that share it."""

    async def take(self, node: str) -> bool:
        """Claim a node's queue, or keep it; False: another engine has it."""

    async def give_back(self, node: str) -> None:
        """Let others have it."""

    async def moment(self) -> WasThere:
        """Return what tells which rows are in their queues now."""

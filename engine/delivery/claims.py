"""Who may deliver a node's queue, among engines that share it; `engine.cluster.claims` knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.delivery.sent import WasThere


class Claims(Protocol):
    """Who may deliver a node's queue, among engines that share it."""

    async def take(self, node: str) -> bool:
        """Claim a node's queue, or keep it; False: another engine has it."""

    async def give_back(self, node: str) -> None:
        """Let others have it."""

    async def moment(self) -> WasThere:
        """Return what tells which rows are in their queues now."""

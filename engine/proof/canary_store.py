"""What engines that share a store share of their canaries: the key of the values, and the last results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.proof.canary_results import NodeCanary


class CanaryStore(Protocol):
    """Where both are kept. Every method raises `StoreError` when the store cannot be used."""

    async def key(self) -> bytes:
        """Return the key; it is made by whoever asks first."""

    async def results(self) -> dict[str, NodeCanary]:
        """Return the last result of each node that another engine may have found."""

    async def save(self, results: Mapping[str, NodeCanary]) -> None:
        """Keep results for other engines."""

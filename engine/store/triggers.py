"""The interface of what keeps triggers, beside the tasks that do them: all workers and engines see the same.

A trigger is written before its client is told 201, and again when it has changed. Who has read an older one
than there is by now writes nothing: `Triggers.put` tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from engine.tasks.triggers import TriggerRecord


class Kept(NamedTuple):
    """A trigger as it was read."""

    version: int
    record: TriggerRecord


class Listed(NamedTuple):
    """A trigger as a collection lists it."""

    id: str
    status: str  #: as it was seen last


class Triggers(Protocol):
    """Blocking; any thread may ask. All methods raise `StoreError` when the store cannot be used."""

    def open(self) -> None:
        """Make it usable. Safe to call again."""

    def add(self, record: TriggerRecord, /) -> None:
        """Keep a new trigger."""

    def get(self, token: str, trigger_id: str, /) -> Kept | None:
        """Return a trigger of a token; None: that token has none of this id."""

    def put(self, kept: Kept, record: TriggerRecord, /) -> bool:
        """Write what became of a trigger; False: it has changed since it was read, or is gone."""

    def remove(self, token: str, trigger_id: str, /) -> bool:
        """Forget a trigger; False: there was none."""

    def listed(self, token: str, settled: Collection[str] | None = None, /) -> list[Listed]:
        """Return the triggers of a token, oldest first.

        Args:
            token: its name.
            settled: of those that have settled, only those with one of these; None: all.
        """

    def unsettled(self, behind: str, limit: int, /) -> Sequence[tuple[str, str]]:
        """Return id and token of up to *limit* triggers that have not settled, by id, behind *behind*."""

    def forget(self, before_at: float, limit: int, /) -> int:
        """Delete up to *limit* triggers that settled before *before_at*, UNIX time; return how many."""

    def trim(self, token: str, most: int, limit: int, /) -> int:
        """Delete so many settled triggers of a token, the oldest first, that *most* of it are left.

        Args:
            token: its name.
            most: triggers; those that have not settled count, and stay.
            limit: of those that are deleted at a time.

        Returns:
            how many are deleted.
        """

    def close(self) -> None:
        """Let go of files."""

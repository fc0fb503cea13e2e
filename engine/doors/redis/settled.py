"""What became of the entries of one stream, until Redis knows it: acknowledgements, and what is set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.doors.redis.poison import Refused, problem_of
from engine.errors import StoreError

if TYPE_CHECKING:
    from engine.doors.redis.entries import Entry
    from engine.doors.redis.group import Group
    from engine.doors.redis.poison import Poison
    from engine.doors.redis.reach import Reach
    from engine.intake.replies import Reply
    from engine.saver.reader import StoreReader


class Settled:
    """The entries of one stream that are no longer in hand.

    Args:
        group: acknowledges.
        poison: takes what is refused for good.
        threads: where both are called.
        reach: counts, and tells the operator.
    """

    def __init__(self, group: Group, poison: Poison, threads: StoreReader, reach: Reach) -> None:
        self._group = group
        self._poison = poison
        self._threads = threads
        self._reach = reach
        self._acked: list[str] = []  # to be acknowledged
        self._refused: list[Refused] = []  # to be set aside, then acknowledged

    def __repr__(self) -> str:
        return f"<Settled [{len(self._acked)} to acknowledge, {len(self._refused)} to set aside]>"

    @property
    def ids(self) -> set[str]:
        """The ids of all."""
        return {*self._acked, *(one.id for one in self._refused)}

    def add(self, entry_id: str, outcome: str) -> None:
        """Note that an entry is over; *outcome* is what is counted."""
        self._reach.count(outcome)
        self._acked.append(entry_id)

    def refuse(self, entry: Entry, why: Reply) -> None:
        """Note that an entry never will be a task."""
        self._refused.append(Refused("stream", self._group.stream, entry.id, entry.text, problem_of(why)))

    def take(self) -> list[str]:
        """Return the ids to acknowledge; whoever has them does it, or gives them back."""
        acked, self._acked = self._acked, []
        return acked

    def give_back(self, acked: list[str]) -> None:
        """They may not be acknowledged."""
        self._acked += acked

    async def write(self) -> None:
        """Set aside, and acknowledge.

        Raises:
            StoreError: the Redis is away; what was to be acknowledged still is.
        """
        await self.set_aside()
        if acked := self.take():
            try:
                await self._threads.read(self._group.acknowledge, acked)
            except StoreError:
                self.give_back(acked)
                raise

    async def set_aside(self) -> None:
        """Write what is refused to where it stays; what cannot be written is pending, and claimed again."""
        refused, self._refused = self._refused, []
        if not refused:
            return
        try:
            await self._threads.read(self._poison.add, refused)
        except StoreError as exc:
            self._reach.not_set_aside(str(exc), refused[0].detail, self._poison.key, len(refused))
            return
        for one in refused:
            self._acked.append(one.id)
            self._reach.refused(one.detail, self._poison.key)

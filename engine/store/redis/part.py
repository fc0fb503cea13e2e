"""What every part of the store works with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from loguru import logger

from engine.errors import StoreError
from engine.store.redis.records import read_entry
from engine.tasks.records import begun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.store.redis.keys import Keys
    from engine.store.redis.link import Link
    from engine.store.redis.records import Entry
    from engine.store.redis.script import Command


class RedisPart:
    """A part of the store.

    Args:
        link: to the servers.
        keys: names.

    Attributes:
        is_read_whole: a region that cannot be read is an error; else it is left out as long as others can.
        now: UNIX time by a clock that follows the server's, see `SteadyClock`; None: nothing follows it.
    """

    is_read_whole = False
    now: Callable[[], float] | None = None

    def __init__(self, link: Link, keys: Keys) -> None:
        self.link = link
        self.keys = keys
        self._told: set[str] = set()  # why entries cannot be read

    def readable(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands to several regions, and return their answers; None from those without a server.

        Raises:
            StoreError: no region can be read, or not all can and `is_read_whole`.
        """
        replies = self.link.run(commands)
        errors = [reply for reply in replies if isinstance(reply, StoreError)]
        if errors and (self.is_read_whole or not self.link.has_parts or len(errors) == len(replies)):
            raise errors[0]
        return [None if isinstance(reply, StoreError) else reply for reply in replies]

    def read_entries(self, region: int, replies: Sequence[Any]) -> Iterator[Entry]:
        """Yield what entries of a region hold, from the answers to an XRANGE of each.

        One that cannot be read stays where it is, and holds up no other.
        """
        for reply in replies:
            if reply:
                try:
                    yield self._with_begun(region, read_entry(region, *reply[0]))
                except StoreError as exc:
                    if str(exc) not in self._told:
                        self._told.add(str(exc))
                        logger.error("{}; it stays where it is, its tasks are not worked", exc)

    def _with_begun(self, region: int, entry: Entry) -> Entry:
        later = [record.id for record in entry.accepted if record.start_at > 0]
        if not later:
            return entry
        marks = self.link.all([("GET", self.keys.begun(region, task_id)) for task_id in later])
        known = {
            task_id: msgspec.msgpack.decode(mark, type=tuple[float, bytes])
            for task_id, mark in zip(later, marks, strict=True)
            if mark is not None
        }
        return msgspec.structs.replace(entry, accepted=begun(entry.accepted, known))

"""What every part of the store works with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.store.redis.keys import Keys
    from engine.store.redis.link import Link
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

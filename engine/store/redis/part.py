"""What every part of the store works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.store.redis.keys import Keys
    from engine.store.redis.link import Link


class RedisPart:
    """A part of the store.

    Args:
        link: to the servers.
        keys: names.
    """

    def __init__(self, link: Link, keys: Keys) -> None:
        self.link = link
        self.keys = keys

"""What ``check-config`` finds out about the Redis of a door: whether it answers, and its keys are streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.config.doors import RedisDoorConfig
from engine.config.redis_door_checks import where_of
from engine.config.redis_url import parse_redis_url
from engine.errors import StoreError
from engine.store.redis.link import Link

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.config.doors import AnyDoor

_TIMEOUT_S: Final = 2.0
_GOOD: Final = frozenset({"stream", "none"})


def redis_warnings(doors: Sequence[AnyDoor]) -> Iterator[str]:
    """Yield what a look shows to be wrong with the Redis of each door; takes seconds when one is away."""
    for door in doors:
        if isinstance(door, RedisDoorConfig):
            yield from _warnings_of(door)


def _warnings_of(door: RedisDoorConfig) -> Iterator[str]:
    link = Link(parse_redis_url(door.url), timeout_s=min(door.timeout_s, _TIMEOUT_S), connections_max=1)
    keys = [*door.streams, door.poison]
    try:
        replies = link.run([("TYPE", key) for key in keys])
    finally:
        link.close()
    for key, reply in zip(keys, replies, strict=True):
        if isinstance(reply, StoreError):
            yield f"{where_of(door)}: {key!r} cannot be looked at: {reply}"
            return
        if (kind := reply.decode()) not in _GOOD:
            yield f"{where_of(door)}: {key!r} is a {kind} and no stream, so nothing can be read from it"

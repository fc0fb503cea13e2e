"""Who makes tasks of what several engines hear: whoever holds a key of the Redis that they listen to.

A key and not the leader of the engines: one that leads may not hear, because its connection is gone, its
configuration has no such door, or it ends. The key is held by one that hears, for `TTL_S` from each time that
it says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.store.redis.script import Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.store.redis.link import Link

TTL_S: Final = 8.0
RENEW_S: Final = 2.0
KEEP_S: Final = 15.0
"""So long others keep what they have heard: the key lapses, one of them notices, and all is there still."""
_MARGIN_S: Final = 2.0  #: before the key lapses, its holder does not count on it any more
_TAKE: Final = Script(
    """
    local holder = redis.call('GET', KEYS[1])
    if not holder or holder == ARGV[1] then
        redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
        return ARGV[1]
    end
    return holder
    """
)
_RELEASE: Final = Script(
    """
    if redis.call('GET', KEYS[1]) == ARGV[1] then
        return redis.call('DEL', KEYS[1])
    end
    return 0
    """
)


class Hold:
    """The key, as one worker has it. `renew` and `release` block, and are called in a thread.

    Args:
        link: to the Redis that is listened to.
        key: the same for all engines of one store.
        own: name of this worker.
        now: a monotonic clock.
    """

    def __init__(self, link: Link, key: str, own: str, now: Callable[[], float]) -> None:
        self._link = link
        self._key = key
        self._own = own
        self._now = now
        self._seen = ("", -TTL_S)  # who holds it, and when that was asked for

    def __repr__(self) -> str:
        return f"<Hold {self._key} of {self._seen[0] or 'nobody'}>"

    def is_due(self) -> bool:
        """Tell whether to `renew`."""
        return self._now() - self._seen[1] >= RENEW_S

    def renew(self) -> None:
        """Take the key where nobody has it, or keep it.

        Raises:
            StoreError: the Redis is away, or does not let us.
        """
        at = self._now()
        ttl_ms = str(int(TTL_S * 1000))
        self._seen = (self._link.one(*_TAKE.call([self._key], [self._own, ttl_ms])).decode(), at)

    def release(self) -> None:
        """Let another have it at once; raises like `renew`."""
        self.forget()
        self._link.one(*_RELEASE.call([self._key], [self._own]))

    def forget(self) -> None:
        """This worker does not hear any more."""
        self._seen = ("", self._now() - RENEW_S)

    def leads(self) -> bool:
        """See `turn.Leads`."""
        holder, at = self._seen
        return holder == self._own and self._now() - at < TTL_S - _MARGIN_S

    def leader(self) -> str:
        """See `turn.Leads`."""
        holder, at = self._seen
        return holder if self._now() - at < TTL_S else ""

"""Triggers of all engines of one Redis.

Under ``purgeline:{cluster}:``: ``trigger:ID``, a hash of version, token and record; ``triggers:TOKEN``, a
hash of its ids and their status; ``triggers_open``, a sorted set of "id token" that have not settled, and
``triggers_settled``, one of those that have, by when. A script changes all four in one step.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.errors import StoreError
from engine.store.redis.script import Script
from engine.store.triggers import Kept, Listed
from engine.tasks.triggers import SETTLED, decode, encode

if TYPE_CHECKING:
    from collections.abc import Collection

    from engine.store.redis.keys import Keys
    from engine.store.redis.link import Link
    from engine.tasks.triggers import TriggerRecord

_PUT: Final = Script(
    """
-- KEYS trigger, triggers of its token, open, settled
-- ARGV id, token, version that it has (0: it is new), record, status, when it settled (0: it has not)
if ARGV[3] ~= '0' and redis.call('HGET', KEYS[1], 'version') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'version', tonumber(ARGV[3]) + 1, 'token', ARGV[2], 'record', ARGV[4])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[5])
local member = ARGV[1] .. ' ' .. ARGV[2]
if ARGV[6] == '0' then
  redis.call('ZADD', KEYS[3], 0, member)
else
  redis.call('ZREM', KEYS[3], member)
  redis.call('ZADD', KEYS[4], ARGV[6], member)
end
return 1
"""
)
_REMOVE: Final = Script(
    """
-- KEYS trigger, triggers of its token, open, settled; ARGV id, token
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return 0 end
local member = ARGV[1] .. ' ' .. ARGV[2]
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], member)
redis.call('ZREM', KEYS[4], member)
return redis.call('DEL', KEYS[1])
"""
)


class SharedTriggers:
    """See `engine.store.triggers.Triggers`.

    Args:
        link: to the servers.
        keys: names.
    """

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._open, self._settled = keys.cluster("triggers_open"), keys.cluster("triggers_settled")

    def open(self) -> None:
        """Do nothing: the store has opened the link."""

    def close(self) -> None:
        """Do nothing, as above."""

    def add(self, record: TriggerRecord) -> None:
        """See `Triggers.add`."""
        self._put(0, record)

    def put(self, kept: Kept, record: TriggerRecord) -> bool:
        """See `Triggers.put`."""
        return self._put(kept.version, record)

    def _put(self, version: int, record: TriggerRecord) -> bool:
        arguments = (
            record.id,
            record.token,
            version,
            encode(record),
            record.status.value,
            record.settled_at or 0,
        )
        return bool(self._call(_PUT, record.token, record.id, *arguments))

    def get(self, token: str, trigger_id: str) -> Kept | None:
        """See `Triggers.get`."""
        version, owner, text = self._link.one(
            "HMGET", self._trigger(trigger_id), "version", "token", "record"
        )
        if text is None or owner.decode() != token:
            return None
        try:
            return Kept(int(version), decode(text))
        except (msgspec.MsgspecError, ValueError) as exc:
            raise StoreError(f"the trigger {trigger_id} cannot be read: {exc}") from exc

    def remove(self, token: str, trigger_id: str) -> bool:
        """See `Triggers.remove`."""
        return bool(self._call(_REMOVE, token, trigger_id, trigger_id, token))

    def listed(self, token: str, settled: Collection[str] | None = None) -> list[Listed]:
        """See `Triggers.listed`."""
        left_out = frozenset[str]() if settled is None else SETTLED.difference(settled)
        reply = self._link.one("HGETALL", self._of_token(token))
        pairs = reply.items() if isinstance(reply, dict) else zip(*[iter(reply)] * 2, strict=True)
        named = sorted((name.decode(), status.decode()) for name, status in pairs)
        return [Listed(name, status) for name, status in named if status not in left_out]

    def unsettled(self, behind: str, limit: int) -> list[tuple[str, str]]:
        """See `Triggers.unsettled`."""
        start = f"({behind}!" if behind else "-"  # behind "id token": "!" comes after the space
        return [
            _pair(member)
            for member in self._link.one("ZRANGEBYLEX", self._open, start, "+", "LIMIT", 0, limit)
        ]

    def forget(self, before_at: float, limit: int) -> int:
        """See `Triggers.forget`."""
        found = self._link.one("ZRANGEBYSCORE", self._settled, "-inf", f"({before_at}", "LIMIT", 0, limit)
        for trigger_id, token in map(_pair, found):
            self.remove(token, trigger_id)
        return len(found)

    def trim(self, token: str, most: int, limit: int) -> int:
        """See `Triggers.trim`."""
        over = self._link.one("HLEN", self._of_token(token)) - most
        if over <= 0:
            return 0
        settled = (one.id for one in self.listed(token) if one.status in SETTLED)
        return sum(self.remove(token, trigger_id) for trigger_id in islice(settled, min(limit, over)))

    def _call(self, script: Script, token: str, trigger_id: str, *arguments: Any) -> Any:
        keys = [self._trigger(trigger_id), self._of_token(token), self._open, self._settled]
        return self._link.one(*script.call(keys, arguments), is_write=True)

    def _trigger(self, trigger_id: str) -> str:
        return self._keys.cluster(f"trigger:{trigger_id}")

    def _of_token(self, token: str) -> str:
        return self._keys.cluster(f"triggers:{token}")


def _pair(member: bytes) -> tuple[str, str]:
    trigger_id, _, token = member.decode().partition(" ")
    return trigger_id, token

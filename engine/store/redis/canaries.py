"""What engines share of their canaries: ``canary-key``, and ``canaries``, a hash, node → its last result.

Blocking; called by the threads that read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.store.redis.store import RedisStore


class RedisCanaries:
    """Reads and writes both; every method raises `StoreError` when Redis cannot be used."""

    def __init__(self, store: RedisStore) -> None:
        self._link = store.link
        self._key = store.keys.cluster("canary-key")
        self._results = store.keys.cluster("canaries")

    def key(self, proposed: bytes) -> bytes:
        """Return the key: *proposed*, unless another engine was first."""
        self._link.one("SET", self._key, proposed.hex(), "NX", is_write=True)
        found = self._link.one("GET", self._key) or b""
        try:
            return bytes.fromhex(found.decode())
        except ValueError as exc:
            raise StoreError(f"{self._key} holds no key of canaries: delete it") from exc

    def results(self) -> dict[str, bytes]:
        """Return node → what was written last of it."""
        reply = self._link.one("HGETALL", self._results)
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        return {name.decode(): text for name, text in pairs}

    def save(self, results: Mapping[str, bytes]) -> None:
        """Write results."""
        if results:
            flat = [word for pair in results.items() for word in pair]
            self._link.one("HSET", self._results, *flat, is_write=True)

"""The public keys of receipts, of all engines that ever worked with one Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.store.redis.keys import Keys
    from engine.store.redis.link import Link


class SharedKeys:
    """A hash, name of a key → the key as JSON. Blocking; any thread may ask.

    Args:
        link: to the servers.
        keys: names.
    """

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._name = keys.cluster("receipt_keys")

    def share(self, own: Mapping[str, bytes]) -> dict[str, bytes]:
        """Have *own* among them, and return all.

        Raises:
            StoreError: Redis cannot be read or written.
        """
        reply = self._link.one("HGETALL", self._name)
        pairs = reply.items() if isinstance(reply, dict) else zip(*[iter(reply)] * 2, strict=True)
        known: dict[str, bytes] = {name.decode(): key for name, key in pairs}
        missing = {name: key for name, key in own.items() if known.get(name) != key}
        if missing:
            words = [word for pair in missing.items() for word in pair]
            self._link.one("HSET", self._name, *words, is_write=True)
        return known | missing

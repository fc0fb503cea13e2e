"""Rewinds that are under way, as all engines of one Redis know them: of each node one, or none.

A key for each node, ``rewind:NODE``, holds the rewind's name and its tasks, so any engine refuses a second
one, shows the first, and can stop it. Its engine claims the node before it looks for what is to be sent; the
claim lapses when that engine has gone, or does not keep it. A rewind is over when no engine works on its
tasks: then the key goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import StoreError
from engine.store.redis.script import Script
from engine.tasks.rewinds import Rewind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from engine.store.redis.store import RedisStore

_CLAIM_MS: Final = 120_000  #: of an engine that does not say that it goes on
_KEPT_MS: Final = 60 * 86400 * 1000  #: longer than any rewind takes

_KEEP: Final = Script(
    """
-- KEYS rewind; ARGV the claim, ms. Answers whether it still holds that.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
)
_BEGUN: Final = Script(
    """
-- KEYS rewind; ARGV the claim, what it holds from now on, ms. Answers whether nobody else has the node.
local old = redis.call('GET', KEYS[1])
if old and old ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
"""
)
_DELETE: Final = Script(
    """
-- KEYS rewind; ARGV what it holds. Deletes it, if it still holds that.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
)


class _Kept(msgspec.Struct, array_like=True):
    """What a key holds. Fields are only added."""

    name: str
    since: float  #: when it began, UNIX time
    tasks: dict[str, int] = {}  #: id → how many targets it sends; none: they are being stored
    engine: str = ""  #: the consumer that stores them; empty: a version before does not tell


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


class SharedRewinds:
    """Blocking; any thread may ask. All methods raise `StoreError` when Redis cannot be read or written.

    Args:
        store: opened.
        is_nobody: tells whether a consumer is known to be no engine that lives.
    """

    def __init__(self, store: RedisStore, is_nobody: Callable[[str], bool]) -> None:
        self._store = store
        self._link = store.link
        self._is_nobody = is_nobody

    def claim(self, node: str, name: str, since: float) -> str:
        """Claim a node for the rewind *name*; return the name of the one that has it, empty: it is ours."""
        key, text = self._key(node), self._claim(name, since)
        while not self._link.one("SET", key, text, "NX", "PX", _CLAIM_MS, is_write=True):
            known = self.under_way([node])
            if known:
                return known[node].name
        return ""

    def keep(self, node: str, name: str, since: float) -> None:
        """Say that the tasks of the node's rewind are still being looked for, or stored."""
        if not self._call(_KEEP, node, self._claim(name, since), _CLAIM_MS):
            raise StoreError(
                f"the rewind {name!r} of {node!r} did not go on for too long, and others may begin one: "
                "look at its state, and rewind it again"
            )

    def begun(self, node: str, name: str, since: float, tasks: Mapping[str, int]) -> None:
        """Note the tasks of a rewind: id → how many targets it sends; without any it is over."""
        text = _encode(_Kept(name, since, dict(tasks))) if tasks else b""
        if not self._call(_BEGUN, node, self._claim(name, since), text, _KEPT_MS) and tasks:
            raise StoreError(f"another engine has begun a rewind of {node!r} meanwhile")

    def under_way(self, nodes: Iterable[str]) -> dict[str, Rewind]:
        """Return node → its rewind, of those that have one."""
        names = list(nodes)
        texts = self._link.one("MGET", *map(self._key, names)) if names else []
        found: dict[str, Rewind] = {}
        for node, text in zip(names, texts, strict=True):
            if text is not None:
                rewind = self._now(_decode(text))
                if rewind is not None:
                    found[node] = rewind
                else:
                    self._link.one(*_DELETE.call([self._key(node)], [text]), is_write=True)
        return found

    def _now(self, kept: _Kept) -> Rewind | None:
        """Return a rewind as it is by now; None: it is over."""
        if not kept.tasks:
            return None if self._has_lapsed(kept) else Rewind(kept.name, kept.since)
        values = self._store.values(list(kept.tasks))
        left = [name for name, value in values.items() if value is not None and value.startswith(b"@")]
        return Rewind(kept.name, kept.since, sum(kept.tasks[name] for name in left), left) if left else None

    def _has_lapsed(self, kept: _Kept) -> bool:
        """Tell whether the engine of a claim has gone; one that has just come is in its key alone."""
        beat = self._store.keys.cluster(f"beat:{kept.engine}")
        return kept.engine != "" and self._is_nobody(kept.engine) and not self._link.one("EXISTS", beat)

    def _claim(self, name: str, since: float) -> bytes:
        return _encode(_Kept(name, since, engine=self._store.consumer))

    def _call(self, script: Script, node: str, *arguments: bytes | int) -> bool:
        return bool(self._link.one(*script.call([self._key(node)], arguments), is_write=True))

    def _key(self, node: str) -> str:
        return self._store.keys.cluster(f"rewind:{node}")

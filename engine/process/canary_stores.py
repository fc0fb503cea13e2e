"""Where the key of canaries and their results are kept: in the data folder, or in a shared store."""

from __future__ import annotations

import os
import secrets
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from engine.base.durable import sync_folder
from engine.errors import StoreError
from engine.nodes.canary import KEY_BYTES
from engine.proof.canary_results import NodeCanary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.process.core import Core
    from engine.process.stores import Stores
    from engine.proof.canary_store import CanaryStore
    from engine.saver.reader import StoreReader
    from engine.store.redis.canaries import RedisCanaries

_FILE: Final = "canary.key"


def canary_store(core: Core, stores: Stores) -> CanaryStore:
    """Return where an engine's canaries are kept."""
    if not core.is_shared:
        return FolderCanaries(Path(core.config.engine.data_dir), core.reader)
    from engine.process.shared_store import SharedStore  # noqa: PLC0415 - an embedded store needs no Redis
    from engine.store.redis.canaries import RedisCanaries  # noqa: PLC0415 - as above

    assert isinstance(stores, SharedStore)
    return SharedCanaries(RedisCanaries(stores.store), core.reader)


class FolderCanaries:
    """The key in a file of the data folder, for all workers; they ask each other for results.

    Args:
        folder: the data folder.
        reader: has threads for it.
    """

    def __init__(self, folder: Path, reader: StoreReader) -> None:
        self._path = folder / _FILE
        self._reader = reader

    async def key(self) -> bytes:
        """See `CanaryStore.key`."""
        return await self._reader.read(read_or_make_key, self._path)

    async def results(self) -> dict[str, NodeCanary]:
        """See `CanaryStore.results`: there is no other engine."""
        return {}

    async def save(self, results: Mapping[str, NodeCanary]) -> None:
        """See `CanaryStore.save`."""


class SharedCanaries:
    """Key and results in Redis.

    Args:
        redis: where they are.
        reader: has threads for it.
    """

    def __init__(self, redis: RedisCanaries, reader: StoreReader) -> None:
        self._redis = redis
        self._reader = reader
        self._proposed = secrets.token_bytes(KEY_BYTES)

    async def key(self) -> bytes:
        """See `CanaryStore.key`. A store that was emptied is given the key that was there."""
        self._proposed = await self._reader.read(self._redis.key, self._proposed)
        return self._proposed

    async def results(self) -> dict[str, NodeCanary]:
        """See `CanaryStore.results`; what a later version says and this one cannot read is left out."""
        found: dict[str, NodeCanary] = {}
        for name, text in (await self._reader.read(self._redis.results)).items():
            try:
                found[name] = msgspec.json.decode(text, type=NodeCanary)
            except msgspec.DecodeError:
                continue
        return found

    async def save(self, results: Mapping[str, NodeCanary]) -> None:
        """See `CanaryStore.save`."""
        texts = {name: msgspec.json.encode(result) for name, result in results.items()}
        await self._reader.read(partial(self._redis.save, texts))


def read_or_make_key(path: Path) -> bytes:
    """Return the key in a file; it is made, for this user alone, when there is none. Of several one wins.

    Raises:
        StoreError: it cannot be read or written, or holds something else.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, secrets.token_bytes(KEY_BYTES))
                os.fsync(descriptor)
                os.link(new, path)
            except FileExistsError:
                pass  # another worker was first
            finally:
                os.close(descriptor)
                new.unlink()
            sync_folder(path.parent)
        key = path.read_bytes()
    except OSError as exc:
        raise StoreError(f"the key of canaries: {path}: {exc.strerror or exc}") from exc
    if len(key) != KEY_BYTES:
        raise StoreError(f"the key of canaries: {path} holds {len(key)} bytes, not {KEY_BYTES}: remove it")
    return key

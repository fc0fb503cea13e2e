"""What signs receipts in one engine, and tells the keys by which they are checked."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Protocol

from loguru import logger

from engine import _version
from engine.base.background import Background
from engine.errors import EngineError
from engine.proof import receipts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.proof.receipt_key import Jwk, KeyFolder
    from engine.saver.reader import StoreReader


class SharesKeys(Protocol):
    """Where engines of one store keep their public keys. Blocking."""

    def share(self, own: Mapping[str, bytes]) -> dict[str, bytes]:
        """Have *own* among them, name → key as JSON, and return all."""


class Signer:
    """Signs for one engine.

    Args:
        folder: its keys.
        shared: with a store that several engines share: the keys of all of them.
        reader: makes blocking calls.
        engine: its name.
    """

    def __init__(
        self, folder: KeyFolder, shared: SharesKeys | None, reader: StoreReader, *, engine: str
    ) -> None:
        self._folder = folder
        self._shared = shared
        self._reader = reader
        self._engine = engine
        self._starting = Background()

    def start(self) -> None:
        """Make the key, if this is the first start, and have the other engines know it."""
        self._starting.start(self._prepare())

    async def _prepare(self) -> None:
        try:
            await self.keys()
        except EngineError as exc:
            logger.warning("no receipts are signed until that is mended: {}", exc)

    async def keys(self) -> list[Jwk]:
        """Return the public keys of all engines of the store, those of this one first.

        Raises:
            StoreError: a key cannot be read or written.
        """
        return await self._reader.read(self._keys)

    def _keys(self) -> list[Jwk]:
        own = self._folder.public()
        if self._shared is None:
            return own
        named = {key["kid"]: json.dumps(key, sort_keys=True).encode() for key in own}
        everybody = self._shared.share(named)
        return own + [json.loads(key) for name, key in sorted(everybody.items()) if name not in named]

    async def sign(self, document: Mapping[str, Any]) -> str:
        """Return the receipt of a settled task; everybody can know the key by then.

        Raises:
            NotInstalledError: the extra is missing.
            StoreError: the key cannot be read, or not be told to the other engines.
        """
        await self.keys()
        return await self._reader.read(self._sign, document)

    def _sign(self, document: Mapping[str, Any]) -> str:
        key = self._folder.own()
        if key is None:
            raise receipts.NotInstalledError(receipts.MISSING)
        return receipts.sign(document, key, engine=self._engine, version=_version.__version__, at=time.time())

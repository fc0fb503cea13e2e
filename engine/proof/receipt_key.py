"""The key with which an engine signs receipts: made at its first start, in its data folder, for good.

``receipt-key.json`` is the private one, mode 0600, as a JSON Web Key (RFC 8037). It never leaves the folder.
The public keys that were ever made here stand in ``receipt-keys.json``, so a receipt can be checked after the
private one was replaced: move it away, and the next start makes another. Workers of one engine share both.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from engine.base.durable import sync_folder
from engine.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_NAME: Final = "receipt-key.json"
PUBLIC_NAME: Final = "receipt-keys.json"
_SECRET_BYTES: Final = 32

Jwk = dict[str, str]
"""A public JSON Web Key, as ``GET /v1/engine/keys`` has it."""


class ReceiptKey(NamedTuple):
    """A key to sign with."""

    kid: str  #: its thumbprint (RFC 7638)
    secret: bytes


class KeyFolder:
    """The keys in one data folder. Blocking; any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def own(self) -> ReceiptKey | None:
        """Return this engine's key, which is made when there is none; None: there is nothing to make it with.

        Raises:
            StoreError: the file cannot be read or written, or holds no key.
        """
        with self._lock:
            try:
                found = self._read() or self._make()
            except OSError as exc:
                raise StoreError(f"the key of receipts: {exc}") from exc
        return None if found is None else ReceiptKey(found["kid"], _bytes_of(found["d"]))

    def public(self) -> list[Jwk]:
        """Return the public keys that were made here, the latest last.

        Raises:
            StoreError: the file cannot be read.
        """
        self.own()
        try:
            text = (self._folder / PUBLIC_NAME).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise StoreError(f"the keys of receipts: {exc}") from exc
        keys: list[Jwk] = json.loads(text)["keys"]
        return keys

    def _read(self) -> dict[str, str] | None:
        path = self._folder / PRIVATE_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            key: dict[str, str] = json.loads(text)
            if len(_bytes_of(key["d"])) == _SECRET_BYTES and key["kid"] == _thumbprint(key["x"]):
                self._publish(key)
                return key
        except (ValueError, KeyError, TypeError):
            pass
        raise StoreError(f"{path} holds no key: move it away, and the next start makes another")

    def _make(self) -> dict[str, str] | None:
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
        except ImportError:
            return None
        made = Ed25519PrivateKey.generate()
        x = _text_of(made.public_key().public_bytes_raw())
        key = _public(x) | {"d": _text_of(made.private_bytes_raw())}
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / PRIVATE_NAME
        part = self._write(f"{PRIVATE_NAME}.{secrets.token_hex(4)}", key)
        try:
            os.link(part, path)  # of several workers that begin at once, one makes the key
        except FileExistsError:
            return self._read()
        finally:
            part.unlink()
        sync_folder(self._folder)
        self._publish(key)
        return key

    def _publish(self, key: dict[str, str]) -> None:
        """Have the public part of *key* among the keys that were made here."""
        path = self._folder / PUBLIC_NAME
        try:
            keys = json.loads(path.read_text(encoding="utf-8"))["keys"]
        except FileNotFoundError:
            keys = []
        if not any(known["kid"] == key["kid"] for known in keys):
            part = self._write(f"{PUBLIC_NAME}.{secrets.token_hex(4)}", {"keys": [*keys, _public(key["x"])]})
            part.replace(path)
            sync_folder(self._folder)

    def _write(self, name: str, document: dict[str, Any]) -> Path:
        path = self._folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(document) + "\n")
            file.flush()
            os.fsync(descriptor)
        return path


def _public(x: str) -> Jwk:
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": _thumbprint(x), "use": "sig", "alg": "EdDSA"}


def _thumbprint(x: str) -> str:
    """Return the name of a key: the digest of its required members in lexical order (RFC 7638)."""
    members = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    return _text_of(hashlib.sha256(members.encode()).digest())


def _text_of(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _bytes_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

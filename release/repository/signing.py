"""Signs the index of a repository and says whether a signature is to be trusted: ed25519.

An envelope is JSON, in the manner of DSSE::

    {"payload": base64, "signatures": [{"keyid": …, "sig": base64}]}

The signature is over the decoded payload. A keyid is the first 16 hex digits of the SHA-256 of the raw public
key. One good signature by one trusted key is enough, so a key is replaced in three steps: trust the new one
beside the old one everywhere, sign with the new one, stop trusting the old one. A key file may hold several
private keys, one PEM block after the other; then each of them signs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from release.agent.files import sync_folder, sync_name_of
from release.calling import call
from release.errors import RepositoryError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_KEY_BYTES: Final = 32
_OTHERS_MAY: Final = 0o077
_BLOCK: Final = re.compile(rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----\n?", re.DOTALL)


class _Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: bytes  # msgspec reads and writes bytes as base64


class _Envelope(msgspec.Struct, frozen=True):
    payload: bytes
    signatures: list[_Signature]


def keyid(public_key: bytes) -> str:
    """Return the name of a raw public key."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def new_key(path: Path) -> str:
    """Make a key pair, write the private key to the new file *path* (mode 0600), return the public one.

    Returns:
        Base64 of the 32 raw bytes, as ``trusted_keys`` takes it.

    Raises:
        SettingsError: *path* is there already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
        sync_name_of(path.parent)
    except FileExistsError:
        raise SettingsError(
            f"{path} is there already; move it away first, or name another key_file"
        ) from None
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be written: {exc.strerror}") from exc
    return public_text(key)


def load_keys(path: Path) -> list[Ed25519PrivateKey]:
    """Return the private keys of *path*, at least one.

    Raises:
        SettingsError: no such file, others may read it, or it holds something else.
    """
    try:
        if path.stat().st_mode & _OTHERS_MAY:
            raise SettingsError(f"{path}: others may read this private key; run chmod 600 {path}")
        text = path.read_bytes()
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: no such key file; make one with {call('repo --new-key')}, or set key_file"
        ) from None
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror}") from exc
    try:
        keys = [serialization.load_pem_private_key(block, None) for block in _BLOCK.findall(text)]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        keys = []
    private = [key for key in keys if isinstance(key, Ed25519PrivateKey)]
    if not private or len(private) != len(keys):
        raise SettingsError(f"{path}: takes ed25519 private keys as PEM (PKCS8) without a passphrase")
    return private


def public_text(key: Ed25519PrivateKey) -> str:
    """Return the public half of *key* as ``trusted_keys`` takes it."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def trusted(texts: Sequence[str]) -> dict[str, Ed25519PublicKey]:
    """Return keyid → key of the ``trusted_keys`` *texts*.

    Raises:
        SettingsError: none are given, or one is no key.
    """
    if not texts:
        raise SettingsError(
            f"no key is trusted: put the public key that {call('repo --new-key')} prints into trusted_keys, "
            "release.toml"
        )
    keys = {}
    for text in texts:
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != _KEY_BYTES:
            raise SettingsError(
                f"trusted_keys: {text!r} is not the base64 of an ed25519 public key (32 bytes)"
            )
        keys[keyid(raw)] = Ed25519PublicKey.from_public_bytes(raw)
    return keys


def seal(payload: bytes, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """Return the envelope of *payload*, signed with each of *keys*."""
    signatures = [_Signature(keyid(key.public_key().public_bytes_raw()), key.sign(payload)) for key in keys]
    return msgspec.json.encode(_Envelope(payload, signatures)) + b"\n"


def unseal(envelope: bytes, keys: dict[str, Ed25519PublicKey], what: str) -> bytes:
    """Return the payload of *envelope* if a signature by one of *keys* fits it.

    Args:
        envelope: as `seal` makes it.
        keys: trusted ones, see `trusted`.
        what: names the envelope in errors.

    Raises:
        RepositoryError: it is no envelope, no trusted key signed it, or it was changed afterwards.
    """
    try:
        sealed = msgspec.json.decode(envelope, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RepositoryError(f"{what} is damaged: it is no signed index ({exc})") from exc
    known = [signature for signature in sealed.signatures if signature.keyid in keys]
    for signature in known:
        try:
            keys[signature.keyid].verify(signature.sig, sealed.payload)
        except InvalidSignature:
            continue
        return sealed.payload
    if known:
        raise RepositoryError(f"{what} was changed after key {known[0].keyid} signed it; do not use it")
    signers = ", ".join(signature.keyid[:16] for signature in sealed.signatures) or "nobody"
    raise RepositoryError(
        f"{what} is signed by an unknown key ({signers}); trusted are {', '.join(keys)}: see trusted_keys"
    )

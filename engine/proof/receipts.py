"""Receipts: a settled task, signed, so that it can be shown to somebody who does not ask the engine. Pure.

A receipt is a JWS in compact form (RFC 7515) with an Ed25519 signature (``EdDSA``, RFC 8037). Its payload is
the task's document as clients see it, with who handed it in, and each node's ack and verification; ``digest``
is the SHA-256 of that document in canonical JSON, by which a receipt and a task can be compared.
The signature says that this engine answered so then; it says nothing of what was done to the store before.

The library (PyJWT) is imported where something is signed or checked: it is an extra, ``purgeline[receipts]``.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from engine.proof.receipt_key import ReceiptKey

MISSING: Final = "receipts need PyJWT and cryptography: install purgeline[receipts]"
_ALGORITHM: Final = "EdDSA"
_TYPE: Final = "purgeline-receipt"
_FORMAT: Final = 1  #: of the payload; fields are only added
_DIFFERENCES_MAX: Final = 5
_SHOWN_MAX: Final = 60
_ABSENT: Final = object()


class ReceiptError(EngineError):
    """A receipt that proves nothing; the text says why."""


class NotInstalledError(EngineError):
    """The extra ``receipts`` is missing."""


def sign(document: Mapping[str, Any], key: ReceiptKey, *, engine: str, version: str, at: float) -> str:
    """Return the receipt of a settled task.

    Args:
        document: of the task, as clients see it.
        key: this engine's.
        engine: its name.
        version: of its program.
        at: UNIX time.

    Raises:
        NotInstalledError: there is nothing to sign with.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
        from jwt import PyJWS  # noqa: PLC0415
    except ImportError:
        raise NotInstalledError(MISSING) from None
    payload = {
        "format": _FORMAT,
        "engine": engine,
        "version": version,
        "signed_at": round(at, 3),
        "digest": digest_of(document),
        "task": document,
    }
    return PyJWS().encode(
        canonical(payload),
        Ed25519PrivateKey.from_private_bytes(key.secret),
        algorithm=_ALGORITHM,
        headers={"kid": key.kid, "typ": _TYPE},
    )


def verify(receipt: str, keys: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the payload of a receipt that one of *keys* has signed, with ``kid``, the key's name.

    Args:
        receipt: a JWS in compact form.
        keys: JSON Web Keys, of a set that the reader trusts.

    Raises:
        ReceiptError: it is none, was changed, or is signed by another key.
        NotInstalledError: there is nothing to check it with.
    """
    try:
        import jwt  # noqa: PLC0415
    except ImportError:
        raise NotInstalledError(MISSING) from None
    try:
        header = jwt.get_unverified_header(receipt)
    except jwt.PyJWTError as exc:
        raise ReceiptError(f"this is no receipt: {exc}") from exc
    kid = header.get("kid")
    if header.get("typ") != _TYPE or header.get("alg") != _ALGORITHM or not isinstance(kid, str):
        raise ReceiptError(f"this is no receipt of an engine: its header is {header}")
    known = [key for key in keys if key.get("kid") == kid]
    if not known:
        raise ReceiptError(
            f"it is signed by the key {kid}, which is none of the {len(keys)} that are trusted"
        )
    try:
        trusted = jwt.PyJWK(dict(known[0]), algorithm=_ALGORITHM)
        text = jwt.PyJWS().decode_complete(receipt, trusted.key, algorithms=[_ALGORITHM])["payload"]
        payload = json.loads(text)
        task = payload["task"]
    except jwt.InvalidSignatureError:
        raise ReceiptError(f"it was changed after it was signed, or the key {kid} did not sign it") from None
    except (jwt.PyJWTError, ValueError, KeyError, TypeError) as exc:
        raise ReceiptError(f"it cannot be read: {exc!r}") from exc
    if payload.get("digest") != digest_of(task):
        raise ReceiptError("its digest is not that of the task in it")
    return {**payload, "kid": kid}


def differences(receipt: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Return where a task, as it is told now, is not what its receipt says; nothing: it is the same.

    Fields that a later version has added are no difference.
    """
    task: Mapping[str, Any] = receipt["task"]
    if digest_of(document) == receipt["digest"]:
        return []
    found = []
    for path, then, now in _pairs(task, document, ""):
        found.append(f"{path}: {_shown(then)} in the receipt, {_shown(now)} now")
        if len(found) == _DIFFERENCES_MAX:
            break
    return found


def digest_of(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a document, hex."""
    return hashlib.sha256(canonical(document)).hexdigest()


def canonical(document: Mapping[str, Any]) -> bytes:
    """Return JSON that is the same for the same document, in every process."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _pairs(then: Any, now: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs: its path, what it was, what it is."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key, value in then.items():
            yield from _pairs(value, now.get(key, _ABSENT), f"{path}.{key}" if path else key)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for place, (one, other) in enumerate(zip(then, now, strict=True)):
            yield from _pairs(one, other, f"{path}[{place}]")
    elif then != now:
        yield path, then, now


def _shown(value: Any) -> str:
    text = "nothing" if value is _ABSENT else json.dumps(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"

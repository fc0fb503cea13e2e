"""The evidence of an answer: signed by the child's key, over the whole request and the answer's bytes.

The key is the one of receipts (`engine.proof.receipt_key`): Ed25519, a key per engine, in its data folder.
What is signed is a line of text, so that no receipt can stand for an answer, nor an answer for a receipt:
``purgeline-tree NONCE METHOD PATH SHA256(REQUEST BODY) SHA256(ANSWER)``. Who stands between the two engines
changes neither what is asked for nor what is answered without being seen.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from engine.proof.receipt_key import ReceiptKey

_SIGNED: Final = "purgeline-tree"
NONCE_MAX: Final = 64
MISSING: Final = "the tree of engines needs cryptography: install purgeline[receipts]"


class SealError(EngineError):
    """An answer is no evidence; the text says why."""


class Asked(NamedTuple):
    """A request, as far as its answer is signed over it."""

    nonce: str
    method: str
    path: str  #: with its query, as it went out
    body: bytes = b""

    def signed(self, answer: bytes) -> bytes:
        """Return what is signed of its answer."""
        digests = f"{hashlib.sha256(self.body).hexdigest()} {hashlib.sha256(answer).hexdigest()}"
        return f"{_SIGNED} {self.nonce} {self.method} {self.path} {digests}".encode()


def seal(key: ReceiptKey, asked: Asked, body: bytes) -> str:
    """Return the signature of an answer."""
    return text_of(_signer(key.secret).sign(asked.signed(body)))


@functools.lru_cache(maxsize=4)
def _signer(secret: bytes) -> Ed25519PrivateKey:
    """Return what signs with a key: making it takes as long as a signature."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - an extra

    return Ed25519PrivateKey.from_private_bytes(secret)


class Trusted:
    """The keys of one child, by which its answers are checked.

    Args:
        keys: ``x`` of each, base64url, from the configuration.
        name: of the node.

    Raises:
        EngineError: there is nothing to check them with.
    """

    def __init__(self, keys: Iterable[str], name: str) -> None:
        try:
            import cryptography  # noqa: F401, PLC0415 - an extra
        except ImportError:
            raise EngineError(MISSING) from None
        self._name = name
        self._own = {thumbprint(x): x for x in keys}
        self._vouched: dict[str, str] = {}

    def vouch(self, keys: Iterable[str]) -> None:
        """Take keys that an engine with one of the configured keys has signed for: engines of its place."""
        self._vouched = {thumbprint(x): x for x in keys}

    def is_own(self, kid: str) -> bool:
        """Tell whether a key is one of the configured ones."""
        return kid in self._own

    def check(self, kid: str, signature: str, asked: Asked, body: bytes) -> None:
        """Check an answer.

        Raises:
            SealError: it is not signed, by another key, or not over this request and body.
        """
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        name = self._name
        if not signature:
            raise SealError(f"unproven: {name} answered without a signature ({MISSING})")
        x = self._own.get(kid) or self._vouched.get(kid)
        if x is None:
            raise SealError(
                f"unproven: {name} signed with the key {kid[:64]!r}, which is none of its public_keys "
                "(GET /v1/engine/keys of that engine shows its own)"
            )
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes_of(x))
            key.verify(bytes_of(signature), asked.signed(body))
        except (InvalidSignature, ValueError):
            raise SealError(
                f"unproven: the answer of {name} is not signed by its key over the nonce and the request "
                "that it was asked with: it is a stored one, it or the request was changed on its way, or it "
                "is another engine's"
            ) from None


def thumbprint(x: str) -> str:
    """Return the name of a public key (RFC 7638)."""
    members = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'
    return text_of(hashlib.sha256(members.encode()).digest())


def text_of(value: bytes) -> str:
    """Return bytes as base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def bytes_of(text: str) -> bytes:
    """Return what `text_of` made a text of.

    Raises:
        ValueError: it is none.
    """
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

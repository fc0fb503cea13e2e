"""Which answers of a child are evidence."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.proof.receipt_key import ReceiptKey
from engine.tree.seal import Asked, SealError, Trusted, seal, text_of, thumbprint

BODY = b'{"tasks":[]}'
ASKED = Asked("1f", "POST", "/v1/engine/tree/tasks", b'{"targets":["http://a/1"]}')


def key_pair(number: int) -> tuple[ReceiptKey, str]:
    secret = bytes([number]) * 32
    x = text_of(Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw())
    return ReceiptKey(thumbprint(x), secret), x


OWN, X = key_pair(1)
OTHER, OTHER_X = key_pair(2)


def test_an_answer_counts_that_is_signed_over_the_request_and_its_bytes() -> None:
    Trusted([X], "eu").check(OWN.kid, seal(OWN, ASKED, BODY), ASKED, BODY)


@pytest.mark.parametrize(
    ("kid", "signature", "asked", "body", "said"),
    [
        (OWN.kid, "", ASKED, BODY, "without a signature"),
        (OTHER.kid, seal(OTHER, ASKED, BODY), ASKED, BODY, "none of its public_keys"),
        (OWN.kid, seal(OTHER, ASKED, BODY), ASKED, BODY, "not signed by its key"),
        (OWN.kid, seal(OWN, ASKED._replace(nonce="2f"), BODY), ASKED, BODY, "a stored one"),
        (OWN.kid, seal(OWN, ASKED._replace(method="GET"), BODY), ASKED, BODY, "not signed by its key"),
        (OWN.kid, seal(OWN, ASKED._replace(path="/v1"), BODY), ASKED, BODY, "not signed by its key"),
        (OWN.kid, seal(OWN, ASKED._replace(body=b"{}"), BODY), ASKED, BODY, "the request was changed"),
        (OWN.kid, seal(OWN, ASKED, BODY), ASKED, BODY + b" ", "changed on its way"),
        (OWN.kid, "!", ASKED, BODY, "not signed by its key"),
        (OWN.kid, base64.urlsafe_b64encode(b"x" * 64).decode(), ASKED, BODY, "not signed by its key"),
    ],
)
def test_nothing_else_is_evidence(kid: str, signature: str, asked: Asked, body: bytes, said: str) -> None:
    with pytest.raises(SealError, match="unproven: ") as refused:
        Trusted([X], "eu").check(kid, signature, asked, body)
    assert said in str(refused.value)


def test_a_key_counts_that_a_named_one_vouched_for() -> None:
    trusted = Trusted([X], "eu")
    trusted.vouch([X, OTHER_X])
    trusted.check(OTHER.kid, seal(OTHER, ASKED, BODY), ASKED, BODY)
    trusted.vouch([X])  # it has left the place
    with pytest.raises(SealError):
        trusted.check(OTHER.kid, seal(OTHER, ASKED, BODY), ASKED, BODY)

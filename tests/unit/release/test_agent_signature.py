"""release.agent.signature: what it says of a signature is what the library of the controller says."""

import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from release.agent.signature import ORDER, P, signed

#: RFC 8032, section 7.1: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
PAYLOAD = b'{"serial": 5}'
SIGNATURE = KEY.sign(PAYLOAD)


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_examples_of_the_standard_are_verified(key: str, message: str, signature: str) -> None:
    parts = (bytes.fromhex(message), bytes.fromhex(signature), bytes.fromhex(key))
    assert signed(*parts)
    assert not signed(b"x" + parts[0], parts[1], parts[2])


def test_signatures_that_were_changed_get_the_librarys_answer() -> None:
    """Any bit, of the payload, of the signature or of the key; and texts of any length."""
    chance = random.Random(8032)
    for round_ in range(40):
        payload = chance.randbytes(round_ * 7)
        parts = [payload, KEY.sign(payload), PUBLIC]
        if round_ % 2:
            which = chance.randrange(3)
            changed = bytearray(parts[which] or b"\0")
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            parts[which] = bytes(changed)
        assert signed(*parts) is library(*parts), parts


def library(payload: bytes, signature: bytes, key: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, payload)
    except InvalidSignature:
        return False
    return True


def test_a_second_form_of_a_good_signature_is_none() -> None:
    """S and S + L fit the same equation; only the smaller one counts."""
    second = int.from_bytes(SIGNATURE[32:], "little") + ORDER
    assert signed(PAYLOAD, SIGNATURE, PUBLIC)
    assert not signed(PAYLOAD, SIGNATURE[:32] + second.to_bytes(32, "little"), PUBLIC)


@pytest.mark.parametrize(
    ("signature", "key"),
    [
        (SIGNATURE[:63], PUBLIC),
        (SIGNATURE + b"\0", PUBLIC),
        (b"", PUBLIC),
        (SIGNATURE, PUBLIC[:31]),
        (SIGNATURE, (P + 3).to_bytes(32, "little")),  # y beyond the prime
        (SIGNATURE, (2).to_bytes(32, "little")),  # no point has this y
        (SIGNATURE, ((1 << 255) + 1).to_bytes(32, "little")),  # x is 0, and odd
    ],
)
def test_what_is_no_signature_or_no_key_is_refused(signature: bytes, key: bytes) -> None:
    assert not signed(PAYLOAD, signature, key)

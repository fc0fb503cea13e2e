"""Receipts: what is signed, and how every change of it is found."""

from __future__ import annotations

import base64
import json
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import StoreError
from engine.proof import receipts
from engine.proof.receipt_key import KeyFolder
from engine.proof.receipts import NotInstalledError, ReceiptError, differences, sign, verify

if TYPE_CHECKING:
    from pathlib import Path

    from engine.proof.receipt_key import ReceiptKey

TASK: dict[str, Any] = {
    "task_id": "takedown-1",
    "state": "done",
    "by": {"token": "legal", "address": "10.0.0.7", "door": "http"},
    "created_at": 1795472993.25,
    "targets": ["http://img.example.com/ä.jpg"],
    "nodes": [{"name": "edge-1", "acked": 1, "acked_at": 1795472993.27, "verified_at": None}],
}


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path)


def own(folder: KeyFolder) -> ReceiptKey:
    key = folder.own()
    assert key is not None
    return key


def signed(folder: KeyFolder, task: dict[str, Any] = TASK) -> str:
    return sign(task, own(folder), engine="purge-1", version="1.0", at=1795473000.0)


def with_part(receipt: str, place: int, text: bytes) -> str:
    """Return a receipt with another part, encoded as JWS has it."""
    parts = receipt.split(".")
    parts[place] = base64.urlsafe_b64encode(text).rstrip(b"=").decode()
    return ".".join(parts)


def part(receipt: str, place: int) -> bytes:
    text = receipt.split(".")[place]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_a_receipt_says_what_the_task_was_and_who_signed_it(folder: KeyFolder) -> None:
    payload = verify(signed(folder), folder.public())
    assert payload["task"] == TASK
    assert (payload["engine"], payload["version"], payload["signed_at"]) == ("purge-1", "1.0", 1795473000.0)
    assert payload["kid"] == own(folder).kid
    assert len(payload["digest"]) == 64


def test_a_changed_payload_or_header_is_found(folder: KeyFolder) -> None:
    receipt = signed(folder)
    payload = part(receipt, 1)
    for place, text in (
        (1, payload.replace(b'"state":"done"', b'"state":"fail"')),
        (1, payload.replace(b"10.0.0.7", b"10.0.0.8")),
        (2, b"\0" * 64),
    ):
        with pytest.raises(ReceiptError, match="was changed after it was signed"):
            verify(with_part(receipt, place, text), folder.public())
    header = part(receipt, 0)
    for text in (header.replace(b"EdDSA", b"none"), header.replace(b"EdDSA", b"HS256")):
        with pytest.raises(ReceiptError, match="no receipt of an engine"):
            verify(with_part(receipt, 0, text), folder.public())


def test_a_key_that_nobody_trusts_proves_nothing(folder: KeyFolder, tmp_path: Path) -> None:
    other = KeyFolder(tmp_path / "other")
    with pytest.raises(ReceiptError, match="none of the 1 that are trusted"):
        verify(signed(other), folder.public())
    [mine], [theirs] = folder.public(), other.public()
    with pytest.raises(ReceiptError, match="was changed after it was signed, or the key"):
        verify(signed(other), [{**mine, "kid": theirs["kid"]}])


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "{}", "eyJ9.e30.e30", "\x00" * 40])
def test_what_is_no_receipt_is_told_so(folder: KeyFolder, text: str) -> None:
    with pytest.raises(ReceiptError, match="no receipt"):
        verify(text, folder.public())


def test_another_signature_of_the_same_key_is_no_receipt(folder: KeyFolder) -> None:
    """The key signs nothing else; what bears another type is refused all the same."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from jwt import PyJWS  # noqa: PLC0415

    key = own(folder)
    secret = Ed25519PrivateKey.from_private_bytes(key.secret)
    other = PyJWS().encode(b"{}", secret, algorithm="EdDSA", headers={"kid": key.kid, "typ": "other"})
    with pytest.raises(ReceiptError, match="no receipt of an engine"):
        verify(other, folder.public())
    empty = PyJWS().encode(
        b"[]", secret, algorithm="EdDSA", headers={"kid": key.kid, "typ": "purgeline-receipt"}
    )
    with pytest.raises(ReceiptError, match="cannot be read"):
        verify(empty, folder.public())


def test_a_task_that_was_changed_afterwards_is_found_by_its_receipt(folder: KeyFolder) -> None:
    payload = verify(signed(folder), folder.public())
    assert differences(payload, TASK) == []
    assert differences(payload, {**TASK, "added_later": 1}) == []
    changed = json.loads(json.dumps(TASK))
    changed["nodes"][0]["acked_at"] = 1.0
    changed["by"]["token"] = "nobody"
    del changed["state"]
    assert differences(payload, changed) == [
        'by.token: "legal" in the receipt, "nobody" now',
        "nodes[0].acked_at: 1795472993.27 in the receipt, 1.0 now",
        'state: "done" in the receipt, nothing now',
    ]


def test_the_key_is_made_once_and_only_its_owner_may_read_it(folder: KeyFolder, tmp_path: Path) -> None:
    key = own(folder)
    assert own(KeyFolder(tmp_path)) == key
    assert stat.S_IMODE((tmp_path / "receipt-key.json").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["receipt-key.json", "receipt-keys.json"]
    [public] = folder.public()
    assert set(public) == {"kty", "crv", "x", "kid", "use", "alg"}


def test_receipts_of_a_key_that_was_replaced_stay_good(folder: KeyFolder, tmp_path: Path) -> None:
    before = signed(folder)
    (tmp_path / "receipt-key.json").rename(tmp_path / "old")
    assert own(folder).kid != json.loads(part(before, 0))["kid"]
    assert len(folder.public()) == 2
    assert verify(before, folder.public())["task"] == TASK
    (tmp_path / "receipt-keys.json").unlink()  # it is made again, of the key that there is
    assert len(folder.public()) == 1


@pytest.mark.parametrize("text", ["", "{}", '{"d": "AA", "x": "AA", "kid": "AA"}', "[1]"])
def test_a_damaged_key_is_named(folder: KeyFolder, tmp_path: Path, text: str) -> None:
    (tmp_path / "receipt-key.json").write_text(text)
    with pytest.raises(StoreError, match=r"receipt-key\.json holds no key"):
        folder.own()


def test_without_the_extra_nothing_is_made_signed_or_checked(
    folder: KeyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt, keys = signed(folder), folder.public()
    for name in ("cryptography.hazmat.primitives.asymmetric.ed25519", "jwt"):
        monkeypatch.setitem(sys.modules, name, None)
    other = KeyFolder(tmp_path / "other")
    assert (other.own(), other.public()) == (None, [])
    with pytest.raises(NotInstalledError, match=r"purgeline\[receipts\]"):
        verify(receipt, keys)
    with pytest.raises(NotInstalledError):
        sign(TASK, own(folder), engine="", version="", at=0)
    assert receipts.MISSING

"""release.repository.signing: keys, envelopes, and who is believed."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from release.errors import RepositoryError, SettingsError
from release.repository import signing


def keys(tmp_path: Path, *names: str) -> tuple[Path, list[str]]:
    """Make the named keys; give one file with all of them and their public halves."""
    public = [signing.new_key(tmp_path / name) for name in names]
    together = tmp_path / "together"
    together.write_bytes(b"".join((tmp_path / name).read_bytes() for name in names))
    together.chmod(0o600)
    return together, public


def test_what_was_sealed_is_unsealed_by_who_trusts_the_key(tmp_path: Path) -> None:
    path, public = keys(tmp_path, "a")
    envelope = signing.seal(b"payload", signing.load_keys(path))
    assert signing.unseal(envelope, signing.trusted(public), "it") == b"payload"
    found = json.loads(envelope)
    assert base64.b64decode(found["payload"]) == b"payload"
    assert found["signatures"][0]["keyid"] == signing.keyid(base64.b64decode(public[0]))


def test_the_private_key_is_for_its_owner_alone_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "release.key"
    signing.new_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SettingsError, match="is there already"):
        signing.new_key(path)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="others may read this private key; run chmod 600"):
        signing.load_keys(path)


def test_one_key_replaces_another_without_a_moment_of_distrust(tmp_path: Path) -> None:
    both, (old, new) = keys(tmp_path, "old", "new")
    by_old = signing.seal(b"1", signing.load_keys(tmp_path / "old"))
    by_new = signing.seal(b"1", signing.load_keys(tmp_path / "new"))
    by_both = signing.seal(b"1", signing.load_keys(both))
    during = signing.trusted([old, new])
    assert {signing.unseal(envelope, during, "it") for envelope in (by_old, by_new, by_both)} == {b"1"}
    for only in (old, new):
        assert signing.unseal(by_both, signing.trusted([only]), "it") == b"1"
    with pytest.raises(RepositoryError, match="it is signed by an unknown key"):
        signing.unseal(by_old, signing.trusted([new]), "it")


def change(envelope: bytes, **values: Any) -> bytes:
    return json.dumps(json.loads(envelope) | values).encode()


def test_a_changed_payload_is_refused(tmp_path: Path) -> None:
    path, public = keys(tmp_path, "a")
    envelope = signing.seal(b"payload", signing.load_keys(path))
    forged = change(envelope, payload=base64.b64encode(b"another").decode())
    with pytest.raises(RepositoryError, match=r"it was changed after key [0-9a-f]{16} signed it"):
        signing.unseal(forged, signing.trusted(public), "it")


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"payload": 1, "signatures": []}',
        b'{"payload": "??", "signatures": []}',
    ],
)
def test_what_is_no_envelope_is_refused(tmp_path: Path, envelope: bytes) -> None:
    _, public = keys(tmp_path, "a")
    with pytest.raises(RepositoryError, match="it is damaged: it is no signed index"):
        signing.unseal(envelope, signing.trusted(public), "it")


def test_no_signature_at_all_is_nobodys(tmp_path: Path) -> None:
    path, public = keys(tmp_path, "a")
    bare = change(signing.seal(b"payload", signing.load_keys(path)), signatures=[])
    with pytest.raises(RepositoryError, match=r"unknown key \(nobody\)"):
        signing.unseal(bare, signing.trusted(public), "it")


@pytest.mark.parametrize("text", ["x", "AAAA", "*" * 44, ""])
def test_a_trusted_key_that_is_none_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="is not the base64 of an ed25519 public key"):
        signing.trusted([text])


def test_trusting_nobody_is_refused_with_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"no key is trusted: .* --new-key"):
        signing.trusted([])


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_file_with_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="takes ed25519 private keys as PEM"):
        signing.load_keys(path)
    with pytest.raises(SettingsError, match=r"no such key file; make one with \./inv repo --new-key"):
        signing.load_keys(tmp_path / "none")

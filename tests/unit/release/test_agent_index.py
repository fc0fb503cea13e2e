"""release.agent.index: a host unpacks what a trusted, current index names, and nothing older than it saw."""

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from release.agent import index
from release.agent.answers import Refused
from release.agent.layout import Host
from release.agent.tags import platform_tag, python_tag

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw()
TRUSTED = base64.b64encode(PUBLIC).decode()
HERE = {"python": python_tag(), "platform": platform_tag()}
BUILD = {"version": "1", "sha256": "ab", "size": 3, **HERE}


def sealed(payload: object, *, by: Ed25519PrivateKey = KEY, name: str = "") -> bytes:
    text = json.dumps(payload).encode()
    keyid = name or hashlib.sha256(by.public_key().public_bytes_raw()).hexdigest()[:16]
    signature = {"keyid": keyid, "sig": base64.b64encode(by.sign(text)).decode()}
    return json.dumps({"payload": base64.b64encode(text).decode(), "signatures": [signature]}).encode()


def contents(**changes: Any) -> dict[str, Any]:
    return {"serial": 5, "expires_at": time.time() + 3600, "artefacts": {"a": BUILD}, **changes}


def request(payload: object, **changes: Any) -> dict[str, Any]:
    envelope = base64.b64encode(sealed(payload)).decode()
    asked = {"version": "1", "sha256": "ab", "size": 3}
    return {"envelope": envelope, "trusted_keys": [TRUSTED], **asked, **changes}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.make()
    return made


def test_what_a_trusted_key_signed_is_believed_and_its_serial_kept(host: Host) -> None:
    index.check(host, request(contents()))
    assert (host.shared / "index-serial").read_text() == "5"
    index.check(host, request(contents()))
    with pytest.raises(Refused, match="its serial is 4, this host has seen 5"):
        index.check(host, request(contents(serial=4)))


def test_each_repository_has_serials_of_its_own(host: Host) -> None:
    """Those of one kept a host from another, whose serials are lower."""
    index.check(host, request(contents(serial=9, repository="one")))
    index.check(host, request(contents(serial=5, repository="two")))
    index.check(host, request(contents(serial=6, repository="two")))
    with pytest.raises(Refused, match="its serial is 5, this host has seen 6"):
        index.check(host, request(contents(serial=5, repository="two")))
    with pytest.raises(Refused, match="its serial is 8, this host has seen 9"):
        index.check(host, request(contents(serial=8, repository="one")))
    with pytest.raises(Refused, match="its serial is 8, this host has seen 9"):
        index.check(host, request(contents(serial=8)))  # of before there were ids: it may be anybody's


@pytest.mark.parametrize(
    ("payload", "changes", "why"),
    [
        (contents(expires_at=0), {}, "the index expired at 1970"),
        (contents(artefacts={}), {}, "the index has no version 1"),
        (contents(artefacts={"a": {**BUILD, "python": "cp38"}}), {}, "1 is built for cp38-linux"),
        (contents(artefacts={"a": {**BUILD, "yanked": "it leaks"}}), {}, "version 1 was yanked: it leaks"),
        (contents(), {"sha256": "cd"}, "the artefact's sha256 is not the index's: cd, not ab"),
        (contents(), {"size": 4}, "the artefact's size is not the index's: 4, not 3"),
        (contents(), {"envelope": "!"}, "envelope: takes base64"),
        ([], {}, "the index cannot be read"),
    ],
)
def test_a_request_that_is_not_the_indexs_is_refused(
    host: Host, payload: object, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        index.check(host, request(payload, **changes))
    assert not (host.shared / "index-serial").exists()


def test_the_build_for_this_host_is_found_among_others(host: Host) -> None:
    builds = {"a": {**BUILD, "python": "cp38", "sha256": "x"}, "b": BUILD}
    index.check(host, request(contents(artefacts=builds)))


def test_a_strangers_signature_and_a_change_are_told_apart() -> None:
    stranger = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    with pytest.raises(Refused, match="signed by an unknown key"):
        index.unseal(sealed(contents(), by=stranger), [TRUSTED])
    own_name = hashlib.sha256(PUBLIC).hexdigest()[:16]
    with pytest.raises(Refused, match="changed after it was signed"):
        index.unseal(sealed(contents(), by=stranger, name=own_name), [TRUSTED])


@pytest.mark.parametrize("envelope", [b"", b"{}", b"[]", b'{"payload": "!", "signatures": []}'])
def test_a_damaged_envelope_is_told_as_such(envelope: bytes) -> None:
    with pytest.raises(Refused, match="the index is damaged"):
        index.unseal(envelope, [TRUSTED])


@pytest.mark.parametrize("trusted", [[], [base64.b64encode(bytes(31)).decode()]])
def test_keys_that_are_none_are_refused(trusted: list[str]) -> None:
    with pytest.raises(Refused, match="trusted_keys: takes at least one ed25519 public key"):
        index.unseal(sealed(contents()), trusted)

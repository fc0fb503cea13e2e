"""release.known_hosts: which keys count, by lines of all kinds; certificates are made here."""

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)

from release import known_hosts
from release.known_hosts import HostKeyError

NOW = 1_000_000.0


def text_of(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def wire(text: str) -> bytes:
    return base64.b64decode(text.split()[1])


OWN, OTHER, ROOT = (Ed25519PrivateKey.generate() for _ in range(3))


def certificate(signer: Ed25519PrivateKey = ROOT, *, names: list[bytes] | None = None, **more: Any) -> bytes:
    """Return a certificate of `OWN`, in the wire format."""
    builder = SSHCertificateBuilder().public_key(OWN.public_key()).serial(1).key_id(b"cdn-1")
    builder = builder.type(more.get("type", SSHCertificateType.HOST))
    builder = builder.valid_after(more.get("after", 0)).valid_before(more.get("before", 2**40))
    builder = builder.valid_principals([b"cdn-1", b"*.example.com"] if names is None else names)
    if more.get("option"):
        builder = builder.add_critical_option(b"force-command", b"x")
    return wire(builder.sign(signer).public_bytes().decode())


def check(*lines: str, host: str = "cdn-1", port: int = 22, signed: bytes = b"") -> None:
    known = known_hosts.KnownHosts([known_hosts.parse(line) for line in lines])
    known.check(host, port, wire(text_of(OWN)), signed, now=NOW)


@pytest.mark.parametrize(
    ("names", "host", "port"),
    [
        ("cdn-1", "cdn-1", 22),
        ("a,CDN-1,b", "Cdn-1", 22),
        ("*", "cdn-1", 22),
        ("cdn-?", "cdn-1", 22),
        ("*,!cdn-2", "cdn-1", 22),
        ("[cdn-1]:2222", "cdn-1", 2222),
        ("[*]:2222", "cdn-1", 2222),
        ("|1|tmPoPrrHhRvzAEkdIMZ590aHf1Q=|WUxQS6qv2ZdONZkmy3vHyB0JHn4=", "cdn-1", 22),
    ],
)
def test_a_plain_key_counts_for_the_names_of_its_line(names: str, host: str, port: int) -> None:
    check(f"{names} {text_of(OWN)} a comment", host=host, port=port)


@pytest.mark.parametrize(
    ("names", "port"),
    [("cdn-2", 22), ("*,!cdn-1", 22), ("cdn-1", 2222), ("[cdn-1]:22222", 2222), ("|1|x", 22)],
)
def test_a_key_of_other_names_is_unknown(names: str, port: int) -> None:
    with pytest.raises(HostKeyError, match=r"^ssh-ed25519 SHA256:") as caught:
        check(f"{names} {text_of(OWN)}", port=port)
    assert caught.value.kind == "unknown"


def test_another_key_than_the_known_one_is_said_to_be_another() -> None:
    with pytest.raises(HostKeyError) as caught:
        check(f"cdn-1 {text_of(OTHER)}")
    assert caught.value.kind == "other"


def test_a_revoked_key_is_refused_though_a_line_has_it() -> None:
    lines = [f"cdn-1 {text_of(OWN)}", f"@revoked * {text_of(OWN)}"]
    with pytest.raises(HostKeyError, match="is revoked"):
        check(*lines)
    with pytest.raises(HostKeyError, match="is revoked"):
        check(f"@cert-authority * {text_of(ROOT)}", *lines, signed=certificate())
    with pytest.raises(HostKeyError, match="an authority that is revoked"):
        check(f"@cert-authority * {text_of(ROOT)}", f"@revoked * {text_of(ROOT)}", signed=certificate())


@pytest.mark.parametrize(
    ("host", "port"), [("cdn-1", 22), ("cdn-1", 2222), ("x.example.com", 22), ("X.Example.com", 2222)]
)
def test_a_certificate_of_a_known_authority_counts(host: str, port: int) -> None:
    """As OpenSSH has it, its line may leave the port out."""
    check(f"@cert-authority * {text_of(ROOT)}", signed=certificate(), host=host, port=port)


@pytest.mark.parametrize(
    ("signed", "why"),
    [
        (certificate(names=[b"cdn-2"]), "is for cdn-2, not cdn-1"),
        (certificate(before=999_999), "has expired"),
        (certificate(after=2_000_000), "does not count yet"),
        (certificate(type=SSHCertificateType.USER), "is a user's"),
        (certificate(option=True), "options that are not known"),
        (certificate()[:-3] + b"abc", "cannot be used"),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused_unless_its_plain_key_is_known(
    signed: bytes, why: str
) -> None:
    authority = f"@cert-authority cdn-1 {text_of(ROOT)}"
    with pytest.raises(HostKeyError, match=why) as caught:
        check(authority, signed=signed)
    assert caught.value.kind == "refused"
    check(authority, f"cdn-1 {text_of(OWN)}", signed=signed)


def test_a_certificate_of_an_unknown_authority_is_an_unknown_key() -> None:
    with pytest.raises(HostKeyError) as caught:
        check(f"@cert-authority * {text_of(ROOT)}", signed=certificate(OTHER))
    assert caught.value.kind == "unknown"
    with pytest.raises(HostKeyError):
        check(f"@cert-authority cdn-2 {text_of(ROOT)}", signed=certificate())


def test_a_host_is_asked_for_the_types_that_are_known_first() -> None:
    kinds = ["ssh-ed25519", "rsa-sha2-512", "ssh-ed25519-cert-v01@openssh.com"]
    known = known_hosts.KnownHosts([known_hosts.Line("", ("cdn-1",), "ssh-rsa", b"")])
    assert known.in_order("cdn-1", 22, kinds)[0] == "rsa-sha2-512"
    assert known.in_order("cdn-2", 22, kinds) == kinds
    signed = known_hosts.KnownHosts([known_hosts.parse(f"@cert-authority * {text_of(ROOT)}")])
    assert signed.in_order("cdn-2", 22, kinds)[0] == "ssh-ed25519-cert-v01@openssh.com"


def test_a_line_that_cannot_be_read_is_left_out_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before, one of them made every host fail."""
    path = tmp_path / "known_hosts"
    bad = [
        "cdn-1",
        "cdn-1 ssh-ed25519",
        "cdn-1 ssh-ed25519 !!!",
        "@what cdn-1 a b",
        "cdn-1 ssh-rsa AAAA",
        "\x00 \xff",
    ]
    path.write_text("# comment\n\n" + "\n".join([*bad, f"cdn-1 {text_of(OWN)}"]), encoding="latin-1")
    for _ in range(2):
        known_hosts.read([path, tmp_path / "none"]).check("cdn-1", 22, wire(text_of(OWN)), now=NOW)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(bad)
    assert told[0] == f"{path}, line 3: takes names, the type of the key and the key; the line is left out"
    assert "the marker '@what' is neither" in told[3]

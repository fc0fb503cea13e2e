"""Which host keys count: the known-hosts files of OpenSSH, with certificates and revoked keys.

Fabric trusts unknown hosts, and paramiko reads neither ``@cert-authority`` nor ``@revoked``; so `trust` has a
connection ask `KnownHosts` alone. A line that cannot be read is told of once, and left out. A certificate
counts when an authority that is known for the host signed it as a host's, and name and time fit; one of
another authority counts as the plain key in it does.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import logging
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import paramiko
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fabric import Connection

USER_FILE: Final = "~/.ssh/known_hosts"
SYSTEM_FILE: Final = Path("/etc/ssh/ssh_known_hosts")
AUTHORITY, REVOKED = "@cert-authority", "@revoked"
CERTIFICATE: Final = "-cert-v01@openssh.com"
_FIELDS_MIN: Final = 3  #: names, type, key
_RSA_SIGNATURES: Final = ("rsa-sha2-512", "rsa-sha2-256")
_LENGTH_BYTES: Final = 4

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else its threads write tracebacks on stderr
_log = logging.getLogger(__name__)


class HostKeyError(paramiko.SSHException):  # type: ignore[misc] # paramiko has no types
    """The key that a host shows does not count; the text names the key or says why.

    Args:
        text: see above.
        kind: ``unknown``: no line has it; ``other``: lines have another one; ``refused``.
    """

    def __init__(self, text: str, *, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file."""

    marker: str  #: `AUTHORITY`, `REVOKED` or nothing
    names: tuple[str, ...]  #: as written: patterns, hashed names, ``!`` for those left out
    type: str
    key: bytes

    def is_for(self, name: str) -> bool:
        """Tell whether the line means a host, written as ``host`` or ``[host]:port``."""
        is_named = False
        for pattern in self.names:
            is_out = pattern.startswith("!")
            if _fits(pattern.removeprefix("!"), name):
                if is_out:
                    return False
                is_named = True
        return is_named


class KnownHosts:
    """The lines of some files, and what a host's key is by them."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = list(lines)

    def in_order(self, host: str, port: int, kinds: Iterable[str]) -> list[str]:
        """Return types of key, those first that count for a host: it has several, and shows the first."""
        lines = self._of(host, port)
        plain = {kind for line in lines if not line.marker for kind in _signatures(line.type)}
        is_signed = any(line.marker == AUTHORITY for line in lines)

        def rank(kind: str) -> int:
            return 0 if is_signed and kind.endswith(CERTIFICATE) else 1 if kind in plain else 2

        return sorted(kinds, key=rank)

    def check(self, host: str, port: int, key: bytes, certificate: bytes = b"", *, now: float) -> None:
        """Make sure that a key counts.

        Args:
            host: name or address that was connected to.
            port: of it.
            key: what the host has shown, in the wire format.
            certificate: that the key came in.
            now: UNIX seconds.

        Raises:
            HostKeyError: it does not.
        """
        lines = self._of(host, port)
        revoked = {line.key for line in lines if line.marker == REVOKED}
        if key in revoked:
            raise HostKeyError(f"its key ({fingerprint(key)}) is revoked", kind="refused")
        plain = {line.key for line in lines if not line.marker}
        if key in plain:
            return
        authorities = {line.key for line in lines if line.marker == AUTHORITY}
        if certificate and authorities and _is_signed(certificate, authorities, revoked, host, now):
            return
        raise HostKeyError(fingerprint(key), kind="other" if plain else "unknown")

    def _of(self, host: str, port: int) -> list[Line]:
        """Return the lines of a host; those of authorities may leave the port out."""
        host = host.lower()
        name = host if port == paramiko.config.SSH_PORT else f"[{host}]:{port}"
        return [
            line
            for line in self._lines
            if line.is_for(name) or (line.marker and name != host and line.is_for(host))
        ]


def read(paths: Iterable[Path]) -> KnownHosts:
    """Return what the files hold that are there; lines that cannot be read are told of.

    Raises:
        OSError: a file cannot be read.
    """
    lines = []
    for path in paths:
        if not path.exists():
            continue
        for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if not text.strip() or text.lstrip().startswith("#"):
                continue
            try:
                lines.append(parse(text))
            except ValueError as exc:
                tell(f"{path}, line {number}: {exc}; the line is left out")
    return KnownHosts(lines)


def parse(text: str) -> Line:
    """Return a line.

    Raises:
        ValueError: says what is wrong with it.
    """
    fields = text.split()
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if marker not in {"", AUTHORITY, REVOKED}:
        raise ValueError(f"the marker {marker!r} is neither {AUTHORITY} nor {REVOKED}")
    if len(fields) < _FIELDS_MIN:
        raise ValueError("takes names, the type of the key and the key")
    names, kind, encoded = fields[:_FIELDS_MIN]
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("its key is not base64") from None
    size = int.from_bytes(key[:_LENGTH_BYTES], "big")
    if key[_LENGTH_BYTES : _LENGTH_BYTES + size] != kind.encode():
        raise ValueError(f"its key is none of type {kind}")
    return Line(
        marker, tuple(name if name.startswith("|") else name.lower() for name in names.split(",")), kind, key
    )


def trust(connection: Connection, known_hosts: str) -> None:
    """Let a connection that is to be opened accept known keys only.

    Args:
        connection: not open yet; of a jump host, too.
        known_hosts: file; empty: the user's and the system's.

    Raises:
        OSError: a file cannot be read.
    """
    own = Path(known_hosts or USER_FILE).expanduser()
    known = read((own,) if known_hosts else (own, SYSTEM_FILE))
    host, port = str(connection.host), int(connection.port)

    class Transport(paramiko.Transport):  # type: ignore[misc] # paramiko has no types
        @property
        def preferred_keys(self) -> tuple[str, ...]:
            return tuple(known.in_order(host, port, super().preferred_keys))

    class Policy(paramiko.MissingHostKeyPolicy):  # type: ignore[misc] # as above
        def missing_host_key(self, _client: Any, _name: str, key: paramiko.PKey) -> None:
            certificate = key.public_blob.key_blob if key.public_blob else b""
            known.check(host, port, key.asbytes(), certificate, now=time.time())

    connection.client.set_missing_host_key_policy(Policy())
    connection.connect_kwargs["transport_factory"] = Transport


def fingerprint(key: bytes) -> str:
    """Return what ``ssh-keygen -l`` shows of a key."""
    size = int.from_bytes(key[:_LENGTH_BYTES], "big")
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
    return f"{key[_LENGTH_BYTES : _LENGTH_BYTES + size].decode(errors='replace')} SHA256:{digest}"


@cache
def tell(text: str) -> None:
    """Tell a person something, once, however many hosts it is about."""
    _log.warning(text)


def _fits(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part) for part in pattern[3:].split("|"))
        except (ValueError, binascii.Error):
            return False
        return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))  # brackets are those of a port


def _signatures(kind: str) -> tuple[str, ...]:
    """Return the names by which a key of a type is asked for."""
    return _RSA_SIGNATURES if kind == "ssh-rsa" else (kind,)


def _is_signed(
    certificate: bytes, authorities: set[bytes], revoked: set[bytes], host: str, now: float
) -> bool:
    """Tell whether a known authority signed a certificate.

    Raises:
        HostKeyError: one did, and the certificate does not count all the same.
    """
    size = int.from_bytes(certificate[:_LENGTH_BYTES], "big")
    kind = certificate[_LENGTH_BYTES : _LENGTH_BYTES + size]
    try:
        found = serialization.load_ssh_public_identity(kind + b" " + base64.b64encode(certificate))
        if not isinstance(found, serialization.SSHCertificate):
            return False
        authority = _wire(found.signature_key())
        if authority not in authorities | revoked:
            return False
        found.verify_cert_signature()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as exc:
        raise HostKeyError(f"its certificate cannot be used ({exc!r})", kind="refused") from exc
    names = [name.decode(errors="replace").lower() for name in found.valid_principals]
    why = ""
    if authority in revoked:
        why = f"is signed by an authority that is revoked ({fingerprint(authority)})"
    elif found.type is not serialization.SSHCertificateType.HOST:
        why = "is a user's, not a host's"
    elif not found.valid_after <= now < found.valid_before:
        why = "has expired" if now >= found.valid_before else "does not count yet"
    elif names and not any(_fits(name, host.lower()) for name in names):
        why = f"is for {', '.join(names)}, not {host}"
    elif found.critical_options:
        why = "has options that are not known here"
    if why:
        raise HostKeyError(f"its certificate {why}", kind="refused")
    return True


def _wire(key: Any) -> bytes:
    """Return a public key in the wire format."""
    text = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(text.split()[1])

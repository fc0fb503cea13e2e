"""Whether a signature is an ed25519 key's, on hosts that may lack ``cryptography``."""

from __future__ import annotations

import base64
import shutil
import subprocess
import tempfile
from pathlib import Path

from .answers import Refused

DER_ED25519 = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: what comes before the 32 bytes of a key


def signed(payload: bytes, signature: bytes, key: bytes) -> bool:
    """Tell whether *signature* is the *key*'s, by ``cryptography`` or the ``openssl`` program."""
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - many hosts do not have it
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ImportError:
        return _signed_by_openssl(payload, signature, key)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, payload)
    except InvalidSignature:
        return False
    return True


def _signed_by_openssl(payload: bytes, signature: bytes, key: bytes) -> bool:
    program = shutil.which("openssl")
    if program is None:
        raise Refused("missing", "openssl is not on this host, and it checks signatures: apt install openssl")
    with tempfile.TemporaryDirectory(prefix="purgeline-") as name:
        folder = Path(name)
        text = base64.b64encode(DER_ED25519 + key).decode()
        (folder / "key").write_text(f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
        (folder / "payload").write_bytes(payload)
        (folder / "signature").write_bytes(signature)
        command = [program, "pkeyutl", "-verify", "-pubin", "-inkey", "key", "-rawin", "-in", "payload"]
        done = subprocess.run(
            [*command, "-sigfile", "signature"], cwd=folder, capture_output=True, check=False, timeout=30
        )
    return done.returncode == 0

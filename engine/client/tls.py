"""What https is spoken with."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os


def context_of(ca_file: str | os.PathLike[str] | None = None) -> ssl.SSLContext:
    """Return a context that trusts the certificates in *ca_file*; None: those of the machine.

    Raises:
        ValueError: the file cannot be read, or holds none.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as exc:  # ssl.SSLError is one
        raise ValueError(f"ca_file: {ca_file!r} holds no certificates that can be read: {exc}") from exc

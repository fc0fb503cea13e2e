"""TLS of a CDNI door: its own certificate, and the authority of its clients' ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.config.doors import CdniDoorConfig
from engine.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from engine.config.doors import DoorConfig


def check_certificates(doors: Sequence[DoorConfig]) -> None:
    """Read the certificates of all doors.

    Raises:
        ConfigError: see `context_of`.
    """
    for door in doors:
        if isinstance(door, CdniDoorConfig):
            context_of(door)


def context_of(config: CdniDoorConfig) -> ssl.SSLContext | None:
    """Return the context of a door; None: it speaks plain HTTP.

    Raises:
        ConfigError: a file cannot be read, or holds something else.
    """
    if not config.cert_file:
        return None
    import ssl  # noqa: PLC0415 - only doors with TLS pay for it

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.cert_file, config.key_file or None, password="")  # asks nobody
        if config.client_ca_file:
            context.load_verify_locations(config.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as exc:
        where = f"door {config.listen!r}"
        raise ConfigError(f"{where}: cert_file, key_file or client_ca_file cannot be used: {exc}") from exc
    return context

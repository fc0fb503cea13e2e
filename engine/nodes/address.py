"""Where a node listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl

    from engine.config.tables import NodeConfig


class Address(NamedTuple):
    """What a connection to a node needs."""

    host: str
    port: int
    tls: ssl.SSLContext | None  #: None for plain HTTP


def address_of(config: NodeConfig) -> Address:
    """Return host, port and, for https, the TLS context of a node.

    Raises:
        OSError: the CA file cannot be read or holds no certificate.
    """
    url = urlsplit(config.url)
    host = url.hostname or ""
    if url.scheme == "http":
        return Address(host, url.port or 80, None)
    import ssl  # noqa: PLC0415 - only https nodes pay for it

    context = ssl.create_default_context(cafile=config.ca_file or None)
    if not config.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return Address(host, url.port or 443, context)

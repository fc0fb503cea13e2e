"""Where a node listens."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
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
    server_name: str | None = None  #: what TLS asks for and checks; None: the host


def address_of(config: NodeConfig) -> Address:
    """Return host, port and, for https, the TLS context of a node.

    Raises:
        OSError: the CA file cannot be read or holds no certificate.
    """
    return address_at(config.url, config.ca_file, config.server_name, is_verified=config.checks_tls)


def visit_address_of(config: NodeConfig) -> Address:
    """Return where visitors come in at a node; errors as `address_of`."""
    url = config.visit_url or config.url
    return address_at(url, config.ca_file, config.server_name, is_verified=config.checks_tls)


def address_at(url: str, ca_file: str = "", server_name: str = "", *, is_verified: bool = True) -> Address:
    """Return where a URL leads, by what a node or an origin says of it.

    Raises:
        OSError: see `address_of`.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return Address(host, parts.port or 80, None)
    import ssl  # noqa: PLC0415 - only https nodes pay for it

    context = ssl.create_default_context(cafile=ca_file or None)
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return Address(host, parts.port or 443, context, server_name or None)


class SeveralAddressesError(OSError):
    """A name stands for several caches, of which only one would be purged."""


def is_literal(host: str) -> bool:
    """Tell whether a host is an address, which stands for one cache."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def addresses_of(address: Address) -> frozenset[str]:
    """Return the addresses of the one cache that is meant: at most one of each family.

    Raises:
        SeveralAddressesError: there are more; the text names them, and what would be right.
        OSError: the name cannot be looked up.
    """
    host = address.host
    if is_literal(host):
        return frozenset({host})
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)
    by_family: dict[int, set[str]] = {}
    for family, _, _, _, place in found:
        by_family.setdefault(family, set()).add(str(place[0]))
    for several in by_family.values():
        if len(several) > 1:
            raise SeveralAddressesError(
                f"{host!r} has several addresses ({', '.join(sorted(several))}), and only one of these "
                "caches would be purged: give each a [[node]] of its own, by its address or a name of its own"
            )
    return frozenset().union(*by_family.values())

"""Checks of what names a place: hosts of sites, and the URLs of caches and origins."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from engine.config.redis_url import without_password
from engine.config.tables import address_of
from engine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOST_RULE: Final = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\*|\[[0-9a-f:.]+\]")
_SITE: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*(:[0-9]{1,5})?")
_SERVER_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_TAKES: Final = "is not http(s)://HOST[:PORT], a port 1 to 65535"


def check_host_rule(where: str, rule: str) -> None:
    """Refuse what is no host rule.

    Raises:
        ConfigError: it begins with *where*.
    """
    if not _HOST_RULE.fullmatch(rule):
        raise ConfigError(
            f"{where}: {rule!r} is not a host rule: example.com, *.example.com or * (lower case)"
        )


def check_url(where: str, key: str, text: str, path_goes: str = "the path is the target's") -> None:
    """Refuse a URL that is more or less than scheme, host and port.

    Raises:
        ConfigError: it names *where* and *key*, and says where a path goes.
    """
    shown = without_password(text)
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:  # its text quotes the URL
        raise ConfigError(f"{where}: {key} {shown!r} {_TAKES}") from None
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0:
        raise ConfigError(f"{where}: {key} {shown!r} {_TAKES}")
    if url.path not in {"", "/"} or url.query or url.fragment or url.username is not None:
        raise ConfigError(f"{where}: {key} takes scheme, host and port only; {path_goes}")


def check_server_name(where: str, name: str) -> None:
    """Refuse what cannot be asked for by TLS.

    Raises:
        ConfigError: it begins with *where*.
    """
    if name and not _SERVER_NAME.fullmatch(name):
        raise ConfigError(f"{where}: server_name {name!r} is not a host name, such as www.example.com")


def check_listen(where: str, listen: str) -> None:
    """Refuse what is no address to listen on.

    Raises:
        ConfigError: it begins with *where*.
    """
    host, _, port = listen.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:  # noqa: PLR2004 - TCP's last port
        raise ConfigError(f"{where}: {listen!r} is not HOST:PORT, such as 127.0.0.1:9181")


def check_networks(where: str, networks: Sequence[str]) -> None:
    """Refuse what is neither an address nor a network.

    Raises:
        ConfigError: it begins with *where*.
    """
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as exc:
            detail = f"{exc}; it takes addresses and networks, such as 10.0.0.0/24"
            raise ConfigError(f"{where}: {detail}") from exc


def check_default_hosts(where: str, hosts: Sequence[str]) -> None:
    """Refuse ``default_hosts`` of a door that are none.

    Raises:
        ConfigError: it begins with *where*.
    """
    for host in hosts:
        if not _SITE.fullmatch(host):
            raise ConfigError(f"{where}: default_hosts: {host!r} is not a host, such as www.example.com")


def is_loopback(listen: str) -> bool:
    """Tell whether nobody but this machine can reach what listens there."""
    host, _ = address_of(listen)
    return is_loopback_host(host)


def is_loopback_host(host: str) -> bool:
    """Tell whether a name or an address is this machine's own; an IPv6 address has no brackets."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

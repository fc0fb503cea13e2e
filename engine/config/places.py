"""Checks of what names a place: hosts of sites, and the URLs of caches and origins."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from engine.config.redis_url import without_password
from engine.errors import ConfigError

_HOST_RULE: Final = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\*|\[[0-9a-f:.]+\]")
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
